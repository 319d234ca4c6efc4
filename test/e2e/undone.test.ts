import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { EXIT } from '../../deploy/laptop/cli/exit.ts'
import type { Laptop } from '../deploy/laptop/cli/medulla.ts'
import { SCALE } from './eventually.ts'
import { laptopOf, pushed } from './laptop.ts'
import { load } from './load.ts'
import { NEVER_READY, titleOf, UNDONE, type Undone } from './outcomes.ts'
import { build } from './programs.ts'
import { TestRobot, TIMING } from './robot.ts'
import { longestSilence, type Measured, report } from './silence.ts'
import { counts, expectNoTickLost } from './trace.ts'

let robot: TestRobot
let laptop: Laptop
const measured: Measured[] = []
/** The highest load measured in this run, as load may come and go during a push. */
let busiest = 1

beforeAll(async () => {
  robot = await TestRobot.start()
  laptop = await laptopOf(robot)
  await robot.commit('counter')
})
afterAll(async () => {
  await laptop?.close()
  await robot?.close()
  if (measured.length > 0) report('longest time without a write, while a bad program was pushed', measured)
})

/** Pushes a program of the table over the counter with the CLI, and checks the outcome. */
async function walk(over: TestRobot, by: Laptop, row: Undone): Promise<void> {
  const { name, does, code, says, tookOver, givesBack, silent } = row
  const before = await over.running()
  const mark = over.trace.mark()
  await over.trace.more('dial')
  busiest = Math.max(busiest, load())
  const { status, stdout, stderr } = await pushed(by, over, name)
  expect(status, stderr).toBe(EXIT.undone)
  expect(stderr).toMatch(/^medulla: error: rolled-back: /)
  expect(stderr).toContain(`${name} 1.0.0 was undone: `)
  if (says !== undefined) expect(stderr).toContain(says)
  expect(stderr).toMatch(/; counter 1\.0\.0 runs on\nmedulla: hint: medulla logs .*\n$/)
  expect(stdout).toContain('undo ')
  await over.trace.more('dial')

  const after = await over.running()
  expect(after).toMatchObject({ pid: before.pid, digest: before.digest, restarts: before.restarts })
  const seen = over.trace.since(mark)
  expectNoTickLost(seen)
  expect(counts(seen)[0]).toBeGreaterThan(1)
  if (tookOver) expect(after.fence).toBeGreaterThan(before.fence + 1)

  const receipt = over.receipt()
  expect(receipt).toMatchObject({ outcome: 'rolled-back', code, from: before.digest, program: name })
  // an undone swap ends with the phase `undo` (HANDOVER 1.1)
  expect(receipt.phases.at(-1)?.phase).toBe('undo')
  if (tookOver) expect(receipt.gapMs).toBeGreaterThan(0)
  else expect(receipt.gapMs).toBe(null)
  if (tookOver && !givesBack) expect(receipt.stateAgeMs).toBeGreaterThan(0)
  else expect(receipt.stateAgeMs).toBe(undefined)
  over.check(mark)

  const ms = longestSilence(seen)
  measured.push({ does, ends: code, exit: EXIT.undone, ms })
  busiest = Math.max(busiest, load())
  expect(ms).toBeLessThan((UNDONE_WITHIN_MS * busiest + (silent ? TIMING.heartbeatMs : 0)) * SCALE)
}

/** Bound for the safe levels (HANDLES 6.6), used for the return of the old program, too. */
const UNDONE_WITHIN_MS = 250
describe('executed, then undone: the old program runs on with its state', () => {
  for (const row of UNDONE) test(`${titleOf(row)}: ${row.code}`, () => walk(robot, laptop, row))

  test('no held line has an edge in all swaps of the table', () => {
    robot.check()
    const outcomes = robot.receipts().map((receipt) => receipt.outcome)
    expect(outcomes.filter((outcome) => outcome === 'rolled-back')).toHaveLength(UNDONE.length)
    expect(outcomes.filter((outcome) => outcome === 'crashed' || outcome === 'restarted')).toEqual([])
  })
})

test('HANDOVER 6.12: when the new program hangs in the takeover, the good one goes on, also with --force', async () => {
  const { pid } = await robot.running()
  const mark = robot.trace.mark()
  const { bytes } = await robot.bundle('hangs-at-takeover', { version: '2.0.0' })
  const { outcome, code, message } = await robot.send(bytes, { force: true })
  expect([outcome, code, message]).toEqual(['rolled-back', 'takeover-failed', expect.stringContaining('runs on')])
  expect((await robot.running()).pid).toBe(pid)
  await robot.trace.more('dial')
  expectNoTickLost(robot.trace.since(mark))
  // the failure is held against the release
  expect(await robot.send(bytes, {})).toMatchObject({ code: 'tried-before' })
})

describe('G12: a program that is not ready in time never takes over', { tags: ['slow'] }, () => {
  let quick: TestRobot
  let other: Laptop

  beforeAll(async () => {
    // readyMs must be long enough for a good program on a busy machine
    quick = await TestRobot.start({ readyMs: 10_000 })
    other = await laptopOf(quick)
    await quick.commit('counter')
  })
  afterAll(async () => {
    await other?.close()
    await quick?.close()
  })

  test.each(NEVER_READY)('$name: $code', async (row) => {
    const { fence } = await quick.running()
    const mark = quick.trace.mark()
    await walk(quick, other, row)
    expect((await quick.running()).fence).toBe(fence)
    expect(new Set(quick.trace.since(mark).map((entry) => entry.fence))).toEqual(new Set([fence]))
  })
})

test('every bad program builds without errors', async () => {
  for (const { name } of [...UNDONE, ...NEVER_READY]) expect((await build(name)).manifest.program).toBe(name)
})
