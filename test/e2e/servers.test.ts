/** Servers and clients that a program opens itself, over committed and undone swaps. */
import { once } from 'node:events'
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Aedes } from 'aedes'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { ask, freePort } from './clients.ts'
import { eventually } from './eventually.ts'
import { source } from './programs.ts'
import { ENDLESS_TRIAL, TestRobot } from './robot.ts'

let robot: TestRobot
beforeAll(async () => {
  robot = await TestRobot.start()
  symlinkSync(fileURLToPath(new URL('../../node_modules', import.meta.url)), join(robot.folder, 'node_modules'))
})
afterAll(async () => robot?.close())

/** A program of test/programs, with ports from `port` on instead of those from 18080 on. */
function at(name: string, port: number): string {
  const file = join(robot.folder, `${name}-${port}.ts`)
  writeFileSync(
    file,
    readFileSync(source(name), 'utf8').replaceAll(/\b1808(\d)\b/g, (_, digit: string) => String(port + Number(digit))),
  )
  return file
}

const version = (n: number) => `1.${n}.0`

describe('HANDLES 17.7: plain servers', () => {
  let port: number
  const answers = async () => Promise.all([0, 1, 2].map(async (each) => (await ask({ port: port + each })).text))

  test('servers made at the top level, in run and in onLive listen once the program runs', async () => {
    port = await freePort(3)
    await robot.commit('plain-servers', { file: at('plain-servers', port) })
    await eventually(() => answers().catch(() => false))
    expect(await answers()).toEqual([`top ${version(0)}`, `run ${version(0)}`, `live ${version(0)}`])
  })

  test('after a swap the next program serves on the same ports', async () => {
    for (let n = 1; n <= 3; n++) {
      await robot.commit('plain-servers', { file: at('plain-servers', port), version: version(n) })
      await eventually(() => answers().catch(() => false))
      expect(await answers()).toEqual([`top ${version(n)}`, `run ${version(n)}`, `live ${version(n)}`])
    }
    await eventually(async () => (await robot.logs()).some(({ text }) => text === `udp ${version(3)} swap`))
    robot.check()
  })

  test('after an undone swap the old program serves again', async () => {
    const patient = await TestRobot.start()
    port = await freePort(3)
    try {
      await patient.commit('plain-servers', { file: at('plain-servers', port) })
      // the third request makes the new program unfit, and nothing else ends its trial
      await patient.retime(ENDLESS_TRIAL)
      await eventually(() => answers().catch(() => false))
      const pushed = patient.push('plain-sick', {
        file: at('plain-sick', port),
        program: 'plain-servers',
        version: '2.0.0',
      })
      let isOver = false
      const asking = (async () => {
        while (!isOver) await answers().catch(() => sleep(1))
      })()
      expect(await pushed).toMatchObject({ outcome: 'rolled-back', code: 'unhealthy' })
      isOver = true
      await asking
      await eventually(() => answers().catch(() => false))
      expect(await answers()).toEqual([`top ${version(0)}`, `run ${version(0)}`, `live ${version(0)}`])
      patient.check()
    } finally {
      await patient.close()
    }
  })

  test('a port in use by another process undoes the swap, and the message says so', async () => {
    const taken = await freePort()
    const other = createServer().listen(taken)
    await once(other, 'listening')
    // longer than the retries for the port (HANDLES 17.7), whose end is the end of the program
    const patient = await TestRobot.start(ENDLESS_TRIAL)
    try {
      const pushed = await patient.push('plain-sick', { file: at('plain-sick', taken) })
      expect(pushed).toMatchObject({ outcome: 'rolled-back', code: 'died-in-trial' })
      expect(pushed.message).toContain('EADDRINUSE')
    } finally {
      other.close()
      await patient.close()
    }
  })
})

describe.each(['mqtt-in-run', 'mqtt-in-onlive'])('HANDLES 17.8: %s', (name) => {
  let close = async (): Promise<void> => {}
  afterEach(async () => close())

  test('the broker sees one client at a time, and each program connects once', async () => {
    // stop the program of an earlier test, which would connect to this broker, too
    await robot.events(robot.client.stop('main')).catch(() => {})
    const aedes = await Aedes.createBroker()
    const server = createServer(aedes.handle)
    const port = await freePort()
    server.listen(port)
    await once(server, 'listening')
    close = async () => {
      server.close()
      await new Promise<void>((resolve) => aedes.close(resolve))
    }
    const seen: string[] = []
    let connected = 0
    aedes.on('client', ({ id }) => seen.push(`+${id} ${++connected}`))
    aedes.on('clientDisconnect', ({ id }) => seen.push(`-${id} ${--connected}`))
    aedes.on('publish', ({ topic, payload }) => {
      if (topic.startsWith('robot/')) seen.push(`${topic} ${payload}`)
    })
    const file = at(name, port)
    const says = (n: number, why: string) => `robot/version ${version(n)}${name === 'mqtt-in-onlive' ? ` ${why}` : ''}`
    const expected: string[] = []
    for (let n = 0; n < 4; n++) {
      await robot.commit(name, { file, version: version(n), program: name })
      const why = n === 0 ? 'start' : 'swap'
      await eventually(() => seen.includes(says(n, why)))
      if (n > 0) expected.push('-robot-1 0')
      expected.push('+robot-1 1', says(n, why))
    }
    expect(seen).toEqual(expected)
  })
})
