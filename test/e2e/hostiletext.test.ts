/** A program whose texts imitate the runtime's, and which sends impossible times. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { LogLine, Receipt } from '../../deploy/shared/api.ts'
import type { Laptop } from '../deploy/laptop/cli/medulla.ts'
import { eventually } from './eventually.ts'
import { laptopOf } from './laptop.ts'
import { ended, TestRobot } from './robot.ts'

let robot: TestRobot
let laptop: Laptop

beforeAll(async () => {
  robot = await TestRobot.start()
  laptop = await laptopOf(robot)
})
afterAll(async () => {
  await laptop?.close()
  await robot?.close()
})

const FORGED = 'emergency stop released'
/** Removes quoted text of the program: the remaining text must be the runtime's. */
const unquoted = (text: string) => text.replace(/the program said: "(?:[^"\\]|\\.)*"/g, '')

function expectOwnWords(text: string | undefined): void {
  expect(text).toBeDefined()
  expect(text).not.toMatch(/[\p{Cc}\u2028\u2029]/u)
  expect(unquoted(text ?? '')).not.toContain(FORGED)
}

async function runtimeLines(): Promise<LogLine[]> {
  const lines = (await robot.logs()).filter(({ stream }) => stream === 'runtime')
  for (const { text } of lines) expectOwnWords(text)
  return lines
}

function expectReceipt({ reason, said }: Receipt): void {
  expect(reason ?? '').not.toContain(FORGED)
  expect(said).toContain(FORGED)
  expect(said?.length).toBeLessThanOrEqual(300)
  expect(said).not.toMatch(/[\p{Cc}\u2028\u2029]/u)
}

test.each(['1.1.0', '1.4.0'])('HANDOVER 3.9: the last text of a crashed program is quoted (%s)', async (version) => {
  const { seq } = await robot.commit('forger', { version })
  const crash = await eventually(() => robot.receipts().find((r) => r.seq > seq && r.outcome === 'crashed'))
  expect(crash).toMatchObject({ code: 'crashed', program: 'forger', version })
  expectReceipt(crash)
  const lines = await runtimeLines()
  expect(lines.some(({ text }) => text.includes('the program said: "medulla: emergency stop released'))).toBe(true)
  const { lastError } = await robot.slot()
  expectOwnWords(lastError)
  expect(lastError).toContain('the program said: "medulla: emergency stop released')
  expect(await ended(robot.client.stop('main'))).toMatchObject({ outcome: 'stopped' })
})

test("HANDOVER 3.9: a program's reasons for being unhealthy or holding are quoted", async () => {
  await robot.commit('forger', { version: '1.2.0' })
  await eventually(async () => (await robot.slot()).lastError?.includes(FORGED))
  expectOwnWords((await robot.slot()).lastError)
  await robot.commit('forger', { version: '1.3.0' })
  const { bytes } = await robot.bundle('counter', { version: '1.0.1' })
  const held: string[] = []
  const events = robot.client.push('main', bytes)
  const watched = (async function* () {
    for await (const event of events) {
      if (event.event === 'held') held.push(event.reason)
      yield event
    }
  })()
  const { outcome, message, receipt } = await ended(watched)
  expect(outcome).toBe('called-off')
  expectOwnWords(message)
  expectReceipt(receipt as Receipt)
  expect(held).toHaveLength(1)
  expect(held[0]).not.toMatch(/[\p{Cc}\u2028\u2029]/u)
  await runtimeLines()
})

test('HANDOVER 3.9: the CLI shows for each log line whether program or runtime wrote it', async () => {
  const { stdout } = await laptop.run('logs', '--lines', '2000')
  for (const line of stdout.trim().split('\n')) expect(line).toMatch(/^\d\d:\d\d:\d\d\.\d{3} \S+ /)
  const forged = stdout.split('\n').filter((line) => line.includes(FORGED) && !line.includes('the program said: "'))
  expect(forged.length).toBeGreaterThan(0)
  for (const line of forged) expect(line).not.toMatch(/^\S+ runtime/)
})

test('HANDOVER 3.10: impossible times sent by a program are not in the receipt', async () => {
  await robot.commit('counter', { version: '1.0.2', force: true })
  const { gapMs, phases, wallMs, stateBytes } = await robot.commit('forger', { program: 'counter', version: '2.0.0' })
  expect(gapMs).toBeGreaterThan(0)
  expect(gapMs).toBeLessThan(wallMs)
  expect(stateBytes).toBeLessThan(1000)
  expect(phases.map(({ phase }) => phase)).toEqual([...new Set(phases.map(({ phase }) => phase))])
  for (const { ms } of phases) expect(ms).toBeGreaterThanOrEqual(0)
  expect(phases.reduce((sum, { ms }) => sum + ms, 0)).toBeCloseTo(wallMs, 3)
  const lines = await runtimeLines()
  expect(lines.some(({ text }) => text.includes('the gap is as the body measured it'))).toBe(true)
  robot.check()
})
