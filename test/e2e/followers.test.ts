/** Followed logs over swaps, over endpoints that are killed, and over a replaced runtime: each line once. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { greet } from '../../deploy/laptop/client.ts'
import type { LogLine } from '../../deploy/shared/api.ts'
import { eventually, SCALE } from './eventually.ts'
import { TestRobot } from './robot.ts'

const SLOW = { tags: ['slow'], timeout: 1_800_000 * SCALE }
const SWAPS = 100
const KILLS = 10
/** CHANNEL 10.6 */
const AGAIN_MS = 1000 * SCALE

let robot: TestRobot
beforeAll(async () => {
  robot = await TestRobot.start()
  await robot.commit('talks')
})
afterAll(async () => robot?.close())

/** The numbers that the program logged, with the time at which each came to the laptop. */
class Follower {
  readonly numbers: number[] = []
  readonly atMs: number[] = []
  readonly texts: string[] = []
  readonly #orders: number[] = []
  readonly #abort = new AbortController()
  readonly #ended: Promise<void>

  constructor(follow: (signal: AbortSignal) => AsyncIterable<LogLine>) {
    this.#ended = (async () => {
      for await (const { text, stream, cursor } of follow(this.#abort.signal)) {
        this.#orders.push(Number(cursor.split('-')[1]))
        const [, number] = /^n (\d+)$/.exec(text) ?? []
        if (stream === 'runtime') this.texts.push(text)
        if (number === undefined) continue
        this.numbers.push(Number(number))
        this.atMs.push(performance.now())
      }
    })()
  }

  /** Waits for a line that is newer than all so far. */
  async more(): Promise<void> {
    const before = this.numbers.length
    await eventually(() => this.numbers.length > before)
  }

  async end(): Promise<void> {
    this.#abort.abort()
    await this.#ended
  }

  /**
   * Each number once, and lines in the order of their arrival at the robot. The body reads two programs at a swap, so the last
   * lines of one may arrive after the first lines of the other.
   */
  expectWhole(): void {
    const sorted = [...this.numbers].sort((a, b) => a - b)
    const [first = 0] = sorted
    const wrong = sorted.findIndex((number, index) => number !== first + index)
    const around = wrong < 0 ? [] : sorted.slice(Math.max(0, wrong - 2), wrong + 3)
    expect({ wrong, around }).toEqual({ wrong: -1, around: [] })
    expect(this.#orders).toEqual([...this.#orders].sort((a, b) => a - b))
    expect(this.numbers.length).toBeGreaterThan(0)
  }
}

test(`G8: an open log stream survives ${SWAPS} swaps on one session, with each line once`, SLOW, async () => {
  const client = await robot.connect()
  // without a second try: the stream itself must last
  const follower = new Follower((signal) => client.logs('main', { lines: 0, follow: true, signal }))
  await follower.more()
  for (let i = 0; i < SWAPS; i++) await robot.commit('talks', { version: `1.${i % 2}.0` })
  await follower.more()
  await follower.end()
  client.close()
  follower.expectWhole()
  expect(follower.texts.filter((text) => / runs$/.test(text))).toHaveLength(SWAPS)
})

test(
  `G8: CHANNEL 10.5, 10.6: a followed log goes on within 1 s after each of ${KILLS} endpoints killed, with each line once`,
  SLOW,
  async () => {
    const client = await robot.connect()
    const follower = new Follower((signal) => client.follow('main', { lines: 0, signal }))
    await follower.more()
    const took: { sinceKill: number; sinceListening: number }[] = []
    for (let i = 0; i < KILLS; i++) {
      const { port } = robot
      const pid = robot.endpoint()
      process.kill(pid, 'SIGKILL')
      const killed = performance.now()
      await eventually(() => robot.children().every((child) => child.pid !== pid))
      const gone = follower.numbers.length
      await eventually(() => greet('127.0.0.1', port).catch(() => null))
      const listening = performance.now()
      await eventually(() => follower.numbers.length > gone)
      const again = follower.atMs[gone] ?? 0
      took.push({ sinceKill: again - killed, sinceListening: again - listening })
      expect(again - listening).toBeLessThan(AGAIN_MS)
    }
    for (const [from, key] of [
      ['the kill of an endpoint', 'sinceKill'],
      ['the moment it listens', 'sinceListening'],
    ] as const) {
      const times = took.map((each) => each[key]).sort((a, b) => a - b)
      const [p50 = 0, max = 0] = [times[KILLS >> 1], times.at(-1)]
      console.log(`from ${from} to the next line, ms: p50 ${p50.toFixed(0)}, max ${max.toFixed(0)} (bound ${AGAIN_MS})`)
    }
    await follower.more()
    await follower.end()
    client.close()
    follower.expectWhole()
    await robot.reconnect()
  },
)

test(
  'G8: CHANNEL 10.2: a followed log goes on over a runtime that is replaced, with each line once',
  SLOW,
  async () => {
    const client = await robot.connect()
    const follower = new Follower((signal) => client.follow(null, { lines: 0, signal }))
    await follower.more()
    for (let i = 0; i < 3; i++) {
      const before = robot.endpoint()
      process.kill(robot.pid, 'SIGUSR2')
      // the new runtime starts an endpoint of its own
      const isNew = ({ pid, command }: { pid: number; command: string }) =>
        pid !== before && command.includes('endpoint/main.js')
      await eventually(() => robot.children().some(isNew))
      await follower.more()
    }
    await follower.end()
    client.close()
    follower.expectWhole()
  },
)
