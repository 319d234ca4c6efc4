/** The running program misbehaves; then a good program is pushed over it, or it is stopped, or it ends. */
import { existsSync, readFileSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { EXIT } from '../../deploy/laptop/cli/exit.ts'
import type { Ended, Laptop } from '../deploy/laptop/cli/medulla.ts'
import { checkpointOf } from './checkpoints.ts'
import { eventually, SCALE } from './eventually.ts'
import { laptopOf, pushed } from './laptop.ts'
import { load } from './load.ts'
import { MISBEHAVES, type Misbehaves, titleOf } from './outcomes.ts'
import { ended, TestRobot, TIMING } from './robot.ts'
import { longestSilence, type Measured, report, untilSafe } from './silence.ts'
import { accepted, countOf, counts, expectNoTickLost } from './trace.ts'

type Runs = Awaited<ReturnType<TestRobot['running']>>

let robot: TestRobot
let laptop: Laptop
const pushes: Measured[] = []
const ends: Measured[] = []
/** The highest load measured in this run, as load may come and go during a push. */
let busiest = 1

beforeAll(async () => {
  // low limits, so that leaks end soon
  robot = await TestRobot.start({}, {}, { more: { limits: { memoryMb: 96 } } })
  laptop = await laptopOf(robot)
})
afterAll(async () => {
  await laptop?.close()
  await robot?.close()
  if (pushes.length > 0) report('longest time without a write, while a good program was pushed over a bad one', pushes)
  if (ends.length > 0) report('from the last write of a program that ended to the safe levels', ends)
})
afterEach(async () => {
  const { slots } = await robot.client.status()
  if (slots.some(({ state }) => state !== 'idle')) await ended(robot.client.stop('main'))
})

/** Bound for the safe levels (HANDLES 6.6), used for the next program, too. */
const WITHIN_MS = 250
/** After these a silent program is noticed: heartbeatMs of the board in robot.ts, and the 1 s of a stop (HANDOVER 9.3). */
const SILENT_MS = Math.max(TIMING.heartbeatMs, 1000)

const alive = (pid: number): boolean => existsSync(`/proc/${pid}`)
const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)

/** Pushes a program that is undone: afterwards the misbehaving one is back, in its own process. */
async function comesBack({ pid }: Runs): Promise<void> {
  await robot.trace.more('led')
  expect(await robot.push('dies-in-trial')).toMatchObject({ outcome: 'rolled-back', code: 'died-in-trial' })
  await robot.trace.more('dial')
  expect((await robot.running()).pid).toBe(pid)
}

/** Further checks of a row before the second step. Returns the checks for after it. */
const ALSO: Record<string, (before: Runs, mark: number) => Promise<() => void>> = {
  async 'floods-output'() {
    const { log } = await eventually(async () => {
      const slot = await robot.slot()
      return slot.log.dropped > 2000 && slot
    })
    expect(log.lines).toBeLessThanOrEqual(2000)
    const lines = await robot.logs('main', 10_000)
    expect(lines.length).toBeLessThanOrEqual(2000)
    expect(Math.max(...lines.map(({ text }) => text.length))).toBe(4096)
    expect(new Set(lines.map(({ stream }) => stream))).toEqual(new Set(['runtime', 'log', 'stdout', 'stderr']))
    return () => {}
  },

  async sickens() {
    const noted = 'the program finds itself unfit; the program said: "the arm is at'
    await eventually(async () => (await robot.logs()).some(({ text }) => text.includes(noted)))
    return () => {}
  },

  async liar(_, mark) {
    return () => expect(Math.max(...counts(robot.trace.since(mark)))).toBeLessThan(424_242)
  },

  async forks({ pid }) {
    const forked = await eventually(() => childrenOf(pid).length >= 20 && childrenOf(pid))
    const { fence } = await robot.client.status()
    return () => {
      const left = forked.filter(alive)
      // the weak fence ends only the process, not its children (HANDLES 10.8)
      if (fence === 'cgroup') expect(left).toEqual([])
      else for (const one of left) process.kill(one, 'SIGKILL')
    }
  },

  /** The program's timers write until it is frozen; none of these writes is accepted. */
  async 'late-writer'(before, mark) {
    await comesBack(before)
    return () => {
      const entries = robot.trace.since(mark)
      const fence = Math.max(...entries.map((entry) => entry.fence))
      const taken = entries.findIndex((entry) => entry.name === 'led' && entry.fence === fence)
      expect(accepted(entries.slice(taken), 'led').filter((entry) => entry.fence !== fence)).toEqual([])
    }
  },

  /** The program resumes with a new fencing number, while its thread still writes with the old number. */
  async 'rogue-writer'(before, mark) {
    await comesBack(before)
    const stale = await eventually(() => {
      const seen = robot.trace.since(mark).filter(({ name, accepted: ok }) => name === 'led' && !ok)
      return seen.length > 20 && seen
    })
    expect(new Set(stale.map(({ fence }) => fence))).toEqual(new Set([before.fence]))
    return () => {}
  },
}

function expectSaid({ status, stdout, stderr }: Ended, { exit, says }: Misbehaves): void {
  expect(status, stderr).toBe(exit)
  expect(stdout + stderr).toContain(says)
  if (exit !== EXIT.ok) expect(stderr).toMatch(/^medulla: error: .*\nmedulla: hint: .*\n$/)
}

/** Pushes a good program over it: no tick is lost, whichever runs then. */
async function pushedOver(row: Misbehaves, before: Runs): Promise<void> {
  const mark = robot.trace.mark()
  await robot.trace.more('dial')
  const also = await ALSO[row.name]?.(before, mark)
  busiest = Math.max(busiest, load())
  const second = robot.trace.mark()
  expectSaid(await pushed(laptop, robot, 'counter', { takesStateOf: row.name }), row)
  await robot.trace.more('dial')
  const { outcome, code } = row
  const receipt = robot.receipt()
  expect(receipt).toMatchObject({ outcome, from: before.digest, ...(code && { code }) })
  const after = await robot.running(outcome === 'committed' ? before.pid : -1)
  if (outcome === 'committed') await eventually(() => !alive(before.pid))
  else expect(after).toMatchObject({ pid: before.pid, restarts: before.restarts })
  expectNoTickLost(robot.trace.since(mark))
  robot.check(mark, { stamped: row.name !== 'rogue-writer' })
  also?.()
  const ms = longestSilence(robot.trace.since(second))
  pushes.push({ does: row.does, ends: code ?? outcome, exit: row.exit, ms })
  busiest = Math.max(busiest, load())
  expect(ms).toBeLessThan(WITHIN_MS * SCALE * busiest)
}

function expectSafe(row: Misbehaves, { fence }: Runs, mark: number): void {
  const seen = robot.trace.since(mark)
  const safe = accepted(seen, 'led').find((entry) => entry.fence > fence)
  expect(safe).toMatchObject({ value: 0, changed: true })
  const ms = untilSafe(seen, fence)
  ends.push({ does: row.does, ends: row.code ?? row.outcome, exit: row.exit, ms })
  busiest = Math.max(busiest, load())
  expect(ms).toBeLessThan((WITHIN_MS * busiest + (row.silent ? SILENT_MS : 0)) * SCALE)
}

/** The program restarts from its checkpoint, and misbehaves again (HANDOVER 9.2). */
async function endsByItself(row: Misbehaves, before: Runs, mark: number): Promise<void> {
  const { seq } = robot.receipt()
  const after = await robot.running(before.pid)
  expectSaid(await laptop.run('status'), row)
  const [crashed, restarted] = robot.receipts().filter((receipt) => receipt.seq > seq)
  expect(crashed).toMatchObject({ outcome: 'crashed', program: row.name, ...(row.code && { code: row.code }) })
  expect(restarted).toMatchObject({ outcome: 'restarted', to: before.digest })
  expect(after.restarts).toBeGreaterThan(before.restarts)
  await robot.trace.more('dial', 1)
  expectSafe(row, before, mark)
  const of = (wanted: number) => counts(robot.trace.since(mark).filter(({ fence }) => fence === wanted))
  const [first = 0] = of(after.fence)
  expect(first).toBeGreaterThan(1)
  expect(first).toBeLessThanOrEqual((of(before.fence).at(-1) ?? 0) + 1)
}

async function stopped(row: Misbehaves, before: Runs, mark: number): Promise<void> {
  expectSaid(await laptop.run('stop'), row)
  expect(alive(before.pid)).toBe(false)
  expect(await robot.slot()).toMatchObject({ state: 'idle' })
  await eventually(() => accepted(robot.trace.since(mark), 'led').at(-1)?.value === 0)
  expect(robot.receipt()).toMatchObject({ outcome: row.outcome })
  expectSafe(row, before, mark)
}

for (const row of MISBEHAVES) {
  const { name, version, does, outcome, code } = row
  test(`${titleOf(row)}: ${does}: ${code ?? outcome}`, row.slow ? { tags: ['slow'] } : {}, async () => {
    const mark = robot.trace.mark()
    await robot.commit(name, version === undefined ? {} : { version })
    const before = await robot.running()
    if (row.step === 'push') await pushedOver(row, before)
    else if (row.step === 'wait') await endsByItself(row, before, mark)
    else await stopped(row, before, mark)
  })
}

test('--force ends a program that ignores yield, and the new one starts from its checkpoint', async () => {
  await robot.commit('holds')
  const before = await robot.running()
  // a called-off swap is not held against the new release: no --retry is needed
  const { bytes } = await robot.bundle('counter', { program: 'holds', version: '2.0.0' })
  expect(await robot.send(bytes)).toMatchObject({ outcome: 'called-off', code: 'yield-timeout' })
  const undone = counts(robot.trace.since(0)).at(-1) ?? 0
  const kept = await eventually(async () => {
    const n = (await checkpointOf(robot, 'holds'))?.state.n ?? 0
    return n > undone && n
  })
  const forced = robot.trace.mark()
  expect(await robot.send(bytes, { force: true })).toMatchObject({ outcome: 'committed' })
  const after = await robot.running(before.pid)
  expect(after).toMatchObject({ version: '2.0.0' })
  await eventually(() => !alive(before.pid))

  const dial = accepted(robot.trace.since(forced), 'dial')
  const last = dial.findLast(({ fence }) => fence < after.fence)
  const first = dial.find(({ fence }) => fence === after.fence)
  const [from = 0, to = 0] = [last, first].map((entry) => entry && countOf(entry))
  expect(to).toBeLessThanOrEqual(from + 1)
  // no checkpoint is taken in a swap (HANDOVER 9.1), so the last one before the forced push counts
  expect(to).toBeGreaterThanOrEqual(kept)
  robot.check(forced)
})
