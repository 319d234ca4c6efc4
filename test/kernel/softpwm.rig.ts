import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually, SCALE } from '../e2e/eventually.ts'
import { TestRobot } from '../e2e/robot.ts'
import { LINE, PATIENT } from './board.ts'
import { heldLines, inRig, levelOf, pull } from './guest.ts'
import { type TraceEvent, trace } from './trace.ts'

const FAN = LINE.hold1
/** A low frequency, so that even during a swap in the rig edges are late by far less than half a period. */
const PERIOD_MS = 500
const DUTIES = [0.3, 0.6] as const

/** At SIGWINCH the body blocks its event loop for this time, but not its threads. */
const HANG_MS = 5000 * SCALE
const HANGS = `import { writeSync } from 'node:fs'
import { isMainThread } from 'node:worker_threads'
if (isMainThread) process.on('SIGWINCH', () => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${HANG_MS})
  writeSync(2, 'it goes on')
})`

const BOARD = JSON.stringify({
  ...{ name: 'rig', model: 'pi4', estop: { input: 'stop', level: 1 } },
  timing: { ...PATIENT.timing, bodyMs: 60_000 },
  handles: {
    fan: { kind: 'pwm', line: FAN, frequencyHz: 1000 / PERIOD_MS, driver: 'software', safe: 0 },
    stop: { kind: 'input', line: LINE.stop },
  },
})

type Edge = Extract<TraceEvent, { what: 'level' }>

const edgesOf = (events: readonly TraceEvent[]): Edge[] =>
  events.filter((event): event is Edge => event.what === 'level' && event.action === 'set' && event.line === FAN)

/** Expects the safe level, without an edge for some periods. */
async function isStill(): Promise<void> {
  await eventually(() => levelOf(FAN) === 0)
  const kernel = trace()
  await sleep(3 * PERIOD_MS)
  // safe levels may be driven again, which makes no edge
  expect(edgesOf(kernel.stop()).filter(({ level }) => level === 1)).toEqual([])
  expect(levelOf(FAN)).toBe(0)
}

/** The length of some periods. */
async function hasPulses(): Promise<Edge[]> {
  const kernel = trace()
  await eventually(() => edgesOf(kernel.events()).length >= 8)
  return edgesOf(kernel.stop())
}

describe.runIf(inRig)('software PWM on a line of a real kernel', () => {
  let robot: TestRobot
  beforeAll(async () => {
    pull(LINE.stop, 0)
    robot = await TestRobot.start(
      {},
      {},
      {
        board: BOARD,
        preload: `data:text/javascript,${encodeURIComponent(HANGS)}`,
      },
    )
    await robot.commit('breeze')
  })
  afterAll(async () => {
    pull(LINE.stop, 0)
    await robot?.close()
  })

  test('HANDLES 19.2: the pulses go on over swaps without a lost edge, and take another duty cycle', async () => {
    const kernel = trace()
    const missed = async () => (await robot.slot()).handles[0]?.lateness?.missed ?? 0
    const before = await missed()
    const duties: number[] = []
    for (const version of ['1.1.0', '1.2.0', '1.3.0']) {
      await robot.commit('breeze', { version })
      await sleep(2 * PERIOD_MS)
      duties.push((await robot.slot()).handles[0]?.value ?? -1)
    }
    const events = kernel.stop()
    const edges = edgesOf(events)
    expect(duties).toEqual([DUTIES[1], DUTIES[0], DUTIES[1]])
    // no line was requested, released or reconfigured
    expect(events.filter(({ what }) => what !== 'level' && what !== 'pwm')).toEqual([])
    expect(edges.map(({ level }) => level)).toEqual(edges.map((_, n) => (n + (edges[0]?.level === 1 ? 1 : 0)) % 2))
    // each period has one pulse, or is counted as missed
    const rises = edges.filter(({ level }) => level === 1)
    const [first, last] = [rises[0] as Edge, rises.at(-1) as Edge]
    const periods = Math.round((last.us - first.us) / 1000 / PERIOD_MS)
    expect(rises.length - 1 + (await missed()) - before).toBe(periods)
    const widths = rises.flatMap((rise) => {
      const fall = edges.find(({ level, us }) => level === 0 && us > rise.us)
      return fall === undefined ? [] : [(fall.us - rise.us) / 1000 / PERIOD_MS]
    })
    const nearer = widths.map((width) => (Math.abs(width - DUTIES[0]) < Math.abs(width - DUTIES[1]) ? 0 : 1))
    expect([nearer[0], nearer.at(-1)]).toEqual([0, 1])
  })

  test('HANDLES 6.6: after the program is killed there is no edge after the safe level', async () => {
    await hasPulses()
    const { pid } = await robot.running()
    process.kill(pid, 'SIGKILL')
    await robot.running(pid)
    await isStill()
    await robot.commit('breeze', { version: '2.0.0' })
    await hasPulses()
  })

  test("HANDLES 19.6: at the stop's input the guard ends the pulses, and a new program has pulses again", async () => {
    await hasPulses()
    pull(LINE.stop, 1)
    await eventually(async () => (await robot.client.status()).estop !== null)
    await isStill()
    pull(LINE.stop, 0)
    await eventually(async () => (await robot.events(robot.client.release())).outcome === 'released')
    await isStill()
    await robot.commit('breeze', { version: '2.1.0' })
    await hasPulses()
  })

  test("HANDLES 14.12: the stop's input ends the pulses while the body is blocked and its thread is not", async () => {
    process.kill(robot.pid, 'SIGWINCH')
    await hasPulses()
    pull(LINE.stop, 1)
    await isStill()
    expect(robot.stderr).not.toContain('it goes on')
    await eventually(async () => (await robot.client.status()).estop !== null)
    await isStill()
    pull(LINE.stop, 0)
    await eventually(async () => (await robot.events(robot.client.release())).outcome === 'released')
    await robot.commit('breeze', { version: '2.2.0' })
    await hasPulses()
  })

  test('HANDLES 19.5: after the body is killed the guard drives the safe level, and the next body gets the line', async () => {
    await hasPulses()
    const held = heldLines()
    const kernel = trace()
    await robot.end('SIGKILL')
    await isStill()
    expect(heldLines()).toEqual(held)
    await robot.begin()
    expect(kernel.stop().filter(({ what }) => what !== 'level' && what !== 'pwm')).toEqual([])
    await robot.commit('breeze', { version: '3.0.0' })
    await hasPulses()
  })
})
