/**
 * Pushes without a pause into several slots of 1 kHz writers, while programs, candidates and the endpoint are killed at
 * random. `--long`: 200 swaps in 8 slots; else 30 in 2.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { RobotClient } from '../../deploy/laptop/client.ts'
import { eventually, SCALE } from '../e2e/eventually.ts'
import { ended, TestRobot } from '../e2e/robot.ts'
import { seeded } from '../fixtures/random.ts'
import { summary } from '../kernel/summary.ts'
import { Account } from './account.ts'
import { boardOf, bundleOf, type What } from './writers.ts'

const LONG = process.env.MEDULLA_LONG === '1'
const [SWAPS, SLOTS] = LONG ? [200, 8] : [30, 2]
const SEED = Number(process.env.MEDULLA_SEED) || Math.floor(Math.random() * 1e9)
/** Pushes that go on at the same time, each into a slot of its own. */
const HANDS = 2
const MAX_PUSHES = SWAPS * 6
const TIMEOUT_MS = SWAPS * 20_000 * SCALE
/** The most that the body may have grown from the first quarter to the end, and at all. */
const GROWN_MB = 48
const MOST_MB = 256

let robot: TestRobot
const account = new Account()
const done = { swaps: 0, pushes: 0, ends: new Map<string, number>(), kills: new Map<string, number>() }
const memory: number[] = []

const count = (of: Map<string, number>, what: string): void => void of.set(what, (of.get(what) ?? 0) + 1)
const pick = <T>(random: () => number, from: readonly T[]): T => from[Math.floor(random() * from.length)] as T
const bodyMb = (): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${robot.pid}/status`, 'utf8'))?.[1]) / 1024
const bodyFds = (): number => readdirSync(`/proc/${robot.pid}/fd`).length
const child = (what: string): number[] =>
  robot.children().flatMap(({ pid, command }) => (command.includes(what) ? [pid] : []))
const programs = (): number[] => child('sdk/loader.js')

/** Those who are at work for this robot: in its folders, or told of its home. */
function processesOf(folders: readonly string[]): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((name) => {
      try {
        const about = `${readlinkSync(`/proc/${name}/cwd`)} ${readFileSync(`/proc/${name}/cmdline`, 'utf8')}`
        return folders.some((folder) => about.includes(folder)) ? [`${name} ${about}`] : []
      } catch {
        return []
      }
    })
}

beforeAll(async () => {
  robot = await TestRobot.start({ checkpointMs: 200 }, {}, { more: boardOf(SLOTS) })
})
afterAll(async () => robot?.close())

/** The one that runs, and those to go back to (HANDOVER 7.9). */
const KEPT = 9

/** One of two who push and kill at the same time, each into slots of its own. */
class Hand {
  readonly #random: () => number
  readonly #slots: readonly number[]
  #client: RobotClient

  constructor(index: number, client: RobotClient) {
    this.#random = seeded(SEED + index)
    this.#slots = Array.from({ length: SLOTS }, (_, i) => i).filter((slot) => slot % HANDS === index)
    this.#client = client
  }

  async begin(): Promise<void> {
    for (const slot of this.#slots) await this.#push(slot, 'counter')
  }

  async work(): Promise<void> {
    while (done.swaps < SWAPS && done.pushes < MAX_PUSHES) {
      const slot = pick(this.#random, this.#slots)
      const what: What = this.#random() < 0.12 ? 'dies-in-trial' : pick(this.#random, ['counter', 'counter-v2'])
      const disturbed = this.#disturb(slot)
      await this.#push(slot, what)
      await disturbed
      await this.#settled(slot)
    }
    this.#client.close()
  }

  async #push(slot: number, what: What): Promise<void> {
    done.pushes++
    const { bytes } = await bundleOf(robot, slot, what)
    const { outcome, code, receipt } = await ended(this.#client.push(`s${slot}`, bytes))
    count(done.ends, outcome === 'committed' ? outcome : `${outcome}: ${code}`)
    if (outcome === 'committed' && receipt?.gapMs !== null) done.swaps++
    if (code === 'unreachable') this.#client = await eventually(() => robot.connect().catch(() => null))
  }

  /** At some moment of a push that takes about half a second: before, in any of its phases, or after it. */
  async #disturb(slot: number): Promise<void> {
    const [choice, delay] = [this.#random(), this.#random() * 500]
    if (choice > 0.4) return
    await sleep(delay)
    if (choice < 0.05) return this.#kill('endpoint', child('endpoint/main.js')[0])
    const { slots } = await this.#client.status().catch(() => ({ slots: [] }))
    const pid = slots.find((one) => one.slot === `s${slot}`)?.pid
    if (choice < 0.2) return this.#kill('program', pid)
    // whoever is not known as one that runs: a candidate, or one that is parked
    const known = new Set(slots.map((one) => one.pid))
    this.#kill(
      'candidate or predecessor',
      programs().find((one) => !known.has(one)),
    )
  }

  #kill(what: string, pid: number | undefined): void {
    if (pid === undefined) return
    try {
      process.kill(pid, 'SIGKILL')
      count(done.kills, what)
    } catch {
      // it had ended
    }
  }

  /** Whatever came of it: something runs there again. */
  async #settled(slot: number): Promise<void> {
    await eventually(async () => {
      try {
        const { slots } = await this.#client.status()
        return slots.find((one) => one.slot === `s${slot}`)?.state === 'running'
      } catch {
        this.#client = await eventually(() => robot.connect().catch(() => null))
        return false
      }
    }).catch(async (cause: unknown) => {
      const [status, log] = [await robot.slot(`s${slot}`), await robot.logs(`s${slot}`, 40)]
      const about = [...log.map(({ time, text }) => `${time} ${text}`), JSON.stringify(status)].join('\n')
      throw new Error(`s${slot} does not run again:\n${about}`, { cause })
    })
  }
}

test(`P9, P10: ${SWAPS} swaps in ${SLOTS} slots of 1 kHz writers, with random kills (seed ${SEED})`, {
  timeout: TIMEOUT_MS,
}, async () => {
  const began = performance.now()
  let fds = 0
  const hands = await Promise.all(Array.from({ length: HANDS }, async (_, i) => new Hand(i, await robot.connect())))
  const watch = setInterval(() => {
    account.take(robot.trace.take())
    memory.push(bodyMb())
  }, 200)
  try {
    await Promise.all(hands.map((hand) => hand.begin()))
    fds = bodyFds()
    await Promise.all(hands.map((hand) => hand.work()))
  } finally {
    clearInterval(watch)
  }
  await robot.reconnect()
  // a kill aimed at a candidate may have hit a program that was switched in meanwhile: it is being restarted
  const slots = await eventually(async () => {
    const { slots } = await robot.client.status()
    return slots.every(({ state, pid }) => state === 'running' && pid !== undefined) && slots
  })
  const instances = dirname(readlinkSync(`/proc/${slots[0]?.pid}/cwd`))
  await eventually(() => programs().length === SLOTS)
  const stored = () => readdirSync(join(robot.home, 'store')).filter((name) => /^(?:[0-9a-f]{64}|\.)/.test(name))
  // what an endpoint that was killed had staged goes with the next one; an undone push leaves no bundle
  await eventually(() => stored().length <= SLOTS * KEPT && robot.staged.length === 0)
  const fdsNow = await eventually(() => bodyFds() <= fds && bodyFds()).catch(bodyFds)
  const mb = bodyMb()
  const left = `${stored().length} bundles (${KEPT} a slot are kept at most), ${robot.staged.length} uploads`
  const made = readdirSync(instances).filter((name) => /^\d+$/.test(name))
  await robot.end()
  const receipts = robot.receipts()
  account.take(robot.trace.take())

  const gaps = receipts.flatMap(({ outcome, gapMs }) => (outcome === 'committed' && gapMs !== null ? [gapMs] : []))
  const crashes = receipts.filter(({ outcome }) => outcome === 'crashed').length
  const first = memory[Math.floor(memory.length / 4)] ?? 0
  const rows: [string, string | number][] = [
    ['seed', SEED],
    ['took', `${((performance.now() - began) / 1000).toFixed(0)} s`],
    ['swaps committed', gaps.length],
    ...[...done.ends].sort().map(([what, n]): [string, number] => [`pushes ${what}`, n]),
    ...[...done.kills].sort().map(([what, n]): [string, number] => [`killed: ${what}`, n]),
    ['crashes, each restarted', crashes],
    ['steps counted', account.steps],
    ['gap', summary(gaps)],
    ['counts that did not go on', `${account.breaks.length}, unexplained ${account.unexplained(receipts).length}`],
    ['two writers', account.twoWriters.length],
    ['stale writes, refused', account.stale],
    ['edges on held lines', [...account.heldEdges.values()].reduce((sum, n) => sum + n - 1, 0)],
    ['memory of the body', `${first.toFixed(0)} MB after a quarter, ${mb.toFixed(0)} at the end, ${Math.max(...memory).toFixed(0)} at most`], // biome-ignore format: one row
    ['on disk', left],
    ['descriptors of the body', `${fds} after the first pushes, ${fdsNow} at the end`],
  ]
  console.log(rows.map(([what, value]) => `  ${what.padEnd(36)} ${value}`).join('\n'))

  expect(gaps.length).toBeGreaterThanOrEqual(SWAPS)
  expect(account.unexplained(receipts)).toEqual([])
  expect(account.twoWriters).toEqual([])
  expect([...account.heldEdges].filter(([, edges]) => edges !== 1)).toEqual([])
  expect(account.heldEdges.size).toBe(SLOTS)
  expect(slots.map(({ state }) => state)).toEqual(slots.map(() => 'running'))
  expect(receipts.filter(({ outcome, edges }) => outcome === 'committed' && edges !== 0 && edges !== null)).toEqual([])

  expect(mb - first).toBeLessThan(GROWN_MB)
  expect(Math.max(...memory)).toBeLessThan(MOST_MB)
  expect(fdsNow).toBeLessThanOrEqual(fds)
  // nothing is left in memory, neither while it runs nor when it has ended
  expect(made.length).toBeLessThanOrEqual(SLOTS + 1)
  expect(processesOf([robot.home, instances])).toEqual([])
  expect(existsSync(instances)).toBe(false)
})
