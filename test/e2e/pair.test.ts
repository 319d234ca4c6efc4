/** Pairing with a whole robot, whose endpoint, body and worker are the built ones, while its program runs. */
import { readFileSync } from 'node:fs'
import { afterEach, expect, test } from 'vitest'
import type { LogLine } from '../../deploy/shared/api.ts'
import { introduce, type PairOptions, pair } from '../../deploy/shared/channel/pairconnect.ts'
import { toText } from '../../deploy/shared/channel/pairing.ts'
import { makeShare } from '../../deploy/shared/channel/spake2.ts'
import { talkTo } from '../deploy/shared/channel/pairtalk.ts'
import { eventually, SCALE } from './eventually.ts'
import { makeOperator, type Operator } from './operators.ts'
import { RUNTIME } from './programs.ts'
import { run, TestRobot } from './robot.ts'

let robot: TestRobot
afterEach(() => robot?.close())

/** Opens a window, as a person on the robot does; returns its code. */
async function allow(): Promise<string> {
  const { status, stdout, stderr } = await run(RUNTIME, ['pair', '--home', robot.home])
  expect(status, stdout + stderr).toBe(0)
  return (JSON.parse(stdout) as { code: string }).code
}

const optionsOf = ({ noiseSecret, card }: Operator): PairOptions => ({
  host: '127.0.0.1',
  port: robot.port,
  noiseSecret,
  cert: card,
  timeoutMs: 20_000 * SCALE,
})

const wrong = (code: string): string => String((Number(code) + 1) % 10 ** 8).padStart(8, '0')

test('CHANNEL 9.7: three wrong codes close the window of a whole robot; the right one is refused then, and programs run on', async () => {
  robot = await TestRobot.start()
  await robot.commit('counter')
  const { pid } = await robot.running()
  const [code, bob] = [await allow(), await makeOperator(robot.folder, 'bob')]
  const codes: string[] = []
  for (const guess of [wrong(code), wrong(code), wrong(code), code]) {
    const refusal = await pair(optionsOf(bob), guess).catch((error: { code: string }) => error)
    codes.push((refusal as { code: string }).code)
  }
  expect(codes).toEqual(['wrong-code', 'wrong-code', 'wrong-code', 'not-pairing'])
  expect((await robot.client.operators()).map(({ name }) => name)).toEqual(['ann'])
  await expect(robot.connect(bob)).rejects.toMatchObject({ code: 'unknown-operator' })
  // a new window, with another code
  const { answer } = await pair(optionsOf(bob), await allow())
  expect(answer).toMatchObject({ name: 'bob', role: 'operator' })
  const client = await robot.connect(bob)
  expect(await client.status()).toMatchObject({ id: robot.identity.id })
  client.close()
  expect((await robot.running()).pid).toBe(pid)
  expect(robot.receipt()).toMatchObject({ outcome: 'changed', reason: expect.stringContaining('operator bob') })
})

test('CHANNEL 9.4, 9.11: neither the endpoint nor a worker has the code in arguments or environment, and no answer has it', async () => {
  robot = await TestRobot.start()
  await robot.commit('counter')
  const [code, eve] = [await allow(), await makeOperator(robot.folder, 'eve')]
  await pair(optionsOf(eve), wrong(code)).catch(() => {})
  const pids = [robot.pid, ...robot.children().map(({ pid }) => pid)]
  for (const pid of pids)
    for (const file of ['cmdline', 'environ'])
      expect(readFileSync(`/proc/${pid}/${file}`, 'latin1')).not.toContain(code)
  const status = await robot.client.status()
  expect(status.pairing).toMatchObject({ tries: 2 })
  const logs: LogLine[] = []
  for await (const line of robot.client.logs(null)) logs.push(line)
  const answers = JSON.stringify([status, logs, await introduce(optionsOf(eve)), robot.receipts()])
  for (const form of [code, `${code.slice(0, 4)} ${code.slice(4)}`]) expect(answers).not.toContain(form)
})

test('CHANNEL 9.12: while strangers begin to pair all the time, an emergency stop is carried out', async () => {
  robot = await TestRobot.start()
  await robot.commit('counter')
  await robot.running()
  await allow()
  let [begun, isOn] = [0, true]
  const strangers = Array.from({ length: 4 }, async (_, index) => {
    const eve = await makeOperator(robot.folder, `eve-${index}`)
    const share = toText(makeShare('A', 1n).bytes)
    while (isOn) {
      // each share costs the robot its half of SPAKE2, and no try
      const { socket, talk } = await talkTo(robot.port, eve)
      socket.write(talk.seal({ share }))
      await talk.read('share')
      socket.destroy()
      begun++
    }
  })
  await eventually(() => begun > 20)
  const before = begun
  const started = performance.now()
  const stopped = await robot.events(robot.client.estop())
  const took = performance.now() - started
  expect(stopped.outcome).toBe('estopped')
  // HANDLES has the time of a stop; here only that it does not wait for pairings, of which each takes some 10 ms
  expect(took).toBeLessThan(5000 * SCALE)
  await eventually(() => begun > before)
  isOn = false
  await Promise.all(strangers)
  expect((await robot.client.status()).estop).not.toBe(null)
  expect(robot.programPid).toBe(undefined)
})
