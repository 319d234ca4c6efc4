/** A program's effects besides its handles: they happen once, and only while it drives the hardware. */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { EXIT } from '../../deploy/laptop/cli/exit.ts'
import type { Laptop } from '../deploy/laptop/cli/medulla.ts'
import { eventually } from './eventually.ts'
import { laptopOf } from './laptop.ts'
import { ended, type PushOptions, TestRobot } from './robot.ts'

const folder = mkdtempSync(join(tmpdir(), 'medulla-inert-'))
const at = (name: string) => JSON.stringify(join(folder, name))
const CHIP = { kind: 'i2c', bus: 1, address: '0x76', simulate: 'bme280' }
const MORE = { handles: { led: { kind: 'output', line: 'GPIO17' }, env: CHIP } }
/** Marks the helper processes of this run. */
const SECONDS = `1000.${process.pid}`

let connections = 0
const open = new Set<Socket>()
const server = createServer((socket) => {
  connections++
  open.add(socket)
  socket.on('close', () => open.delete(socket)).on('error', () => {})
})
let robot: TestRobot
let laptop: Laptop
let port: number

beforeAll(async () => {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  port = (server.address() as AddressInfo).port
  robot = await TestRobot.start({}, {}, { more: MORE })
  laptop = await laptopOf(robot)
})
afterAll(async () => {
  await laptop?.close()
  await robot?.close()
  server.close()
  rmSync(folder, { recursive: true, force: true })
})

let version = 0
/** A program of this test. */
function written(text: string): PushOptions & { file: string } {
  const file = join(folder, `program-${++version}.ts`)
  writeFileSync(file, text)
  return { program: 'busy', version: `1.0.${version}`, file }
}

/** Running helper processes. */
const helpers = (): string[] =>
  execFileSync('ps', ['-eo', 'pid,stat,args'], { encoding: 'utf8' })
    .split('\n')
    .filter((line) => line.includes(`sleep ${SECONDS}`) && !/^\s*\d+ Z/.test(line))
    .map((line) => line.trim().split(' ')[0] as string)

const logged = async (text: string): Promise<string[]> => (await robot.logs()).map((line) => line.text).filter((line) => line.includes(text)) // biome-ignore format: one line

const seen = (text: string): Promise<string[]> =>
  eventually(async () => {
    const lines = await logged(text)
    return lines.length > 0 && lines
  })

const BUSY = (more = '') => `import { spawn } from 'node:child_process'
import { appendFileSync, existsSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { robot } from 'medulla'

let fired = 0
robot({ led: 'output' }, ({ led, every, health, info, log, onLive, onStop }) => {
  connect(${port}, '127.0.0.1').on('error', () => {})
  createServer().listen(\`\\0medulla-\${process.pid}\`)
  spawn('sleep', ['${SECONDS}'])
  spawn('sleep', ['${SECONDS}'], { detached: true, stdio: 'ignore' }).unref()
  appendFileSync(${at('written')}, 'x')
  console.log('hello of', info.version)
  for (let i = 0; i < 1000; i++) setTimeout(() => fired++, 1)
  setTimeout(() => log(\`\${info.version} fired \${fired}\`), 50)
  onLive(async (why) => {
    log(\`\${info.version} live \${why} \${info.why}\`)
    return async () => {
      await new Promise((resolve) => setTimeout(resolve, 5))
      log(\`\${info.version} over, led \${led.value}\`)
    }
  })
  onStop(async () => {
    await new Promise((resolve) => setTimeout(resolve, 20))
    led.write(0)
    log(\`\${info.version} said goodbye\`)
  })
  every(20, () => led.write(1))
  ${more}
})
`

describe('HANDOVER 13: effects of a program', () => {
  test('each effect of a first push happens once, however often it was rehearsed', async () => {
    const before = connections
    await robot.commit('busy', written(BUSY()))
    expect(await seen('fired')).toEqual(['1.0.1 fired 1000'])
    expect(await logged('hello')).toEqual(['hello of 1.0.1'])
    expect(await seen('live')).toEqual(['1.0.1 live start start'])
    expect(connections - before).toBe(1)
    expect(helpers()).toHaveLength(2)
    expect(readFileSync(join(folder, 'written'), 'utf8')).toBe('x')
  })

  test('at a swap onLive of the old program and its helper processes end before the new onLive begins', async () => {
    const old = helpers()
    await robot.commit('busy', written(BUSY()))
    await seen('1.0.2 live')
    const lines = (await logged('1.0.')).filter((line) => /live|over/.test(line))
    expect(lines).toEqual(['1.0.1 live start start', '1.0.1 over, led 1', '1.0.2 live swap swap'])
    await eventually(() => helpers().length === 2)
    expect(helpers().filter((pid) => old.includes(pid))).toEqual([])
    expect(open.size).toBe(1)
  })

  test('when a swap is undone, helpers of the new program are ended, and onLive of the old one begins again', async () => {
    const old = helpers()
    const { outcome } = await robot.push('busy', written(BUSY("health(() => 'too hot')")))
    expect(outcome).toBe('rolled-back')
    await seen('1.0.2 live rollback')
    expect(await logged('1.0.3 live')).toEqual(['1.0.3 live swap swap'])
    await eventually(() => helpers().length === 2)
    // `run` is called again with the state that was given back; what its first call made is gone
    expect(helpers().filter((pid) => old.includes(pid))).toEqual([])
    expect(open.size).toBe(1)
    expect((await robot.slot()).restarts).toBe(0)
  })

  test('HANDOVER 9.12: an async tick that rejects is a crash, and the program restarts by itself', async () => {
    await robot.commit(
      'busy',
      written(
        BUSY(`every(10, async () => {
      if (info.why === 'restart' || !existsSync(${at('trigger')})) return
      await new Promise((resolve) => setTimeout(resolve, 1))
      throw new Error('the sensor is gone')
    })`),
      ),
    )
    writeFileSync(join(folder, 'trigger'), '')
    await seen('1.0.4 live restart')
    expect((await robot.slot()).lastError).toContain('the program said: "the sensor is gone')
    await eventually(() => helpers().length === 2)
  })

  test('HANDOVER 9.3: a stop awaits onStop and the end of onLive, and leaves no process', async () => {
    expect((await ended(robot.client.stop('main'))).outcome).toBe('stopped')
    expect(await logged('said goodbye')).toEqual(['1.0.4 said goodbye'])
    expect(await logged('1.0.4 over')).toHaveLength(1)
    await eventually(() => helpers().length === 0 && open.size === 0)
  })
})

describe('programs that rehearsals once rejected', () => {
  test('HANDOVER 13.5: a program that polls a chip in a loop is committed, and gets the answer', async () => {
    const text = `import { robot } from 'medulla'
robot({ led: 'output', env: 'i2c' }, async ({ led, env, every, log }) => {
  while (env.writeRead(Uint8Array.of(0xd0), 1)[0] !== 0x60) await null
  log('the chip answers')
  every(20, () => led.write(1))
})
`
    await robot.commit('busy', written(text))
    await seen('the chip answers')
  })

  test('a program whose async run rejects in rehearsals is committed; its first dt is one period', async () => {
    const text = `import { robot } from 'medulla'
robot({ led: 'output', env: 'i2c' }, async ({ led, env, every, log }) => {
  await new Promise((resolve) => setTimeout(resolve, 30))
  const id = env.writeRead(Uint8Array.of(0xd0), 1)[0]
  if (id !== 0x60) throw new Error('no chip')
  let calls = 0
  every(20, (dt) => {
    led.write(1)
    if (++calls === 1) log(\`first dt \${dt > 0.015 && dt < 1}\`)
  })
})
`
    await robot.commit('busy', written(text))
    expect(await seen('first dt')).toEqual(['first dt true'])
  })

  test('an unhandled rejection of run undoes the push', async () => {
    const text = `import { robot } from 'medulla'
robot({ led: 'output' }, async ({ led, every }) => {
  every(20, () => led.write(1))
  await new Promise((resolve) => setTimeout(resolve, 1))
  throw new Error('the arm is not there')
})
`
    const { outcome, code, message } = await robot.push('busy', written(text))
    expect([outcome, code]).toEqual(['rolled-back', 'died-in-trial'])
    expect(message).toContain('the arm is not there')
  })

  test('a program that starts a process at its top level does not build, and the error says where to start it', async () => {
    const { file } = written(`import { spawn } from 'node:child_process'
import { robot } from 'medulla'
spawn('sleep', ['${SECONDS}'])
robot({ led: 'output' }, ({ led, every }) => every(20, () => led.write(1)))
`)
    const { status, stderr } = await laptop.run('push', file)
    expect(status).toBe(EXIT.build)
    expect(stderr).toContain(
      'a process (sleep): only a program that drives the hardware may do that; do it in run or in onLive',
    )
    expect(helpers()).toEqual([])
  })
})
