import { readdirSync } from 'node:fs'
import { createServer } from 'node:http'
import { HardwareError, robot } from 'medulla'
import { simulate } from 'medulla/test'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { durationMs } from '../../../runtime/testkit/duration.ts'
import { Recorder } from '../../../runtime/testkit/recorder.ts'
import { SCALE } from '../../e2e/eventually.ts'

const file = (path: string) => new URL(`../../../robots/${path}`, import.meta.url)
const board = {
  model: 'sim',
  handles: {
    led: { kind: 'output', line: 17 },
    lamp: { kind: 'output', line: 27, initial: 1, safe: 0 },
    button: { kind: 'input', line: 22, pull: 'up', activeLow: true, debounceMs: 5 },
    arm: { kind: 'pwm', line: 18, frequencyHz: 50, min: 0.02, max: 0.9, initial: 0.05, safe: 'hold' },
    imu: { kind: 'i2c', bus: 1, address: '0x68', simulate: 'mpu6050' },
  },
}

const open = () => readdirSync('/dev/fd').length
let before: number
beforeEach(() => {
  before = open()
})
afterEach(() => expect(open()).toBe(before))

test('an example runs on a given board file, with all values of its led recorded', async () => {
  const sim = await simulate(() => import('../../../robots/blink/v1/program.ts'), { board: file('blink/board.json') })
  expect(sim.ms).toBe(0)
  await sim.run('120ms')
  expect(sim.ms).toBe(120)
  sim.assertStatesAndTimes('led', [
    [1, 0],
    [0, 50],
    [1, 100],
  ])
  expect(sim.changes('led')).toEqual([
    { ms: 0, value: 0 },
    { ms: 0, value: 1 },
    { ms: 50, value: 0 },
    { ms: 100, value: 1 },
  ])
  expect(sim.state).toEqual({ blinks: 2 })
  expect(sim.log).toEqual([{ ms: 0, stream: 'log', level: 'info', text: 'started at blink 0' }])
  await sim.stop()
  expect(sim.value('led')).toBe(0)
})

test('an input is inverted and debounced, and onEdge is called before pull or run returns', async () => {
  const edges: string[] = []
  const sim = await simulate(
    () =>
      robot({ button: 'input', lamp: 'output' }, ({ button, lamp }) => {
        button.onEdge(({ level, seqno }) => {
          edges.push(`${level}#${seqno}`)
          lamp.write(level)
        })
      }),
    { board },
  )
  expect([sim.value('button'), sim.value('lamp')]).toEqual([0, 1])
  sim.pull('button', 0)
  await sim.run(4)
  expect(edges).toEqual([])
  await sim.run(1)
  expect(edges).toEqual(['1#1'])
  sim.release('button')
  await sim.run(10)
  expect(edges).toEqual(['1#1', '0#2'])
  expect(sim.changes('lamp').slice(1)).toEqual([{ ms: 10, value: 0 }])
  await sim.stop()
})

test('a simulated chip can be poked and read; its faults reach the program as HardwareError', async () => {
  const sim = await simulate(
    () =>
      robot({ imu: 'i2c', arm: 'pwm' }, ({ imu, arm, every, log }) => {
        imu.write(Uint8Array.of(0x6b, 0))
        every(10, () => {
          try {
            const [high = 0, low = 0] = imu.writeRead(Uint8Array.of(0x3f), 2)
            arm.write(((high << 8) | low) / 32768)
          } catch (error) {
            log(`${error instanceof HardwareError} ${(error as HardwareError).kind}`)
          }
        })
      }),
    { board },
  )
  sim.poke('imu', 'accel', [0, 0, 0.5])
  await sim.run(10)
  expect(sim.value('arm')).toBe(0.25)
  sim.poke('imu', 'accel', [0, 0, 2])
  await sim.run(10)
  expect(sim.value('arm')).toBe(0.9)
  sim.poke('imu', 'nack-next', true)
  await sim.run(10)
  expect(sim.log.map(({ ms, text }) => `${ms} ${text}`)).toEqual(['30 true no-ack'])
  expect(sim.chip('imu')).toMatchObject({ asleep: false, accel: [0, 0, 2] })
  await sim.stop()
  expect(sim.value('arm')).toBe(0.9)
})

test('timers, Date, performance.now and hrtime are simulated during a call, and real outside of it', async () => {
  const seen: number[] = []
  const sim = await simulate(
    () =>
      robot({ led: 'output' }, ({ led, every, log, onStop }) => {
        let ticks = 0
        const began = performance.now()
        const timer = setInterval(() => {
          if (++ticks === 3) clearInterval(timer)
          log(`${performance.now() - began} ${new Date().toISOString()} ${process.hrtime.bigint() % 1_000_000_000n}`)
        }, 400)
        const late = setTimeout(() => log('never'), 10_000)
        setTimeout(() => clearTimeout(late), 9_000)
        every(1000, async (dt) => {
          seen.push(dt)
          await Promise.resolve()
          led.write(1)
          await new Promise((resolve) => setTimeout(resolve, 300))
          led.write(0)
        })
        onStop(() => log('stopped'))
      }),
    { board, rehearsals: 0 },
  )
  const real = performance.now()
  await sim.run('1m')
  expect(performance.now() - real).toBeLessThan(30_000 * SCALE)
  expect(Math.abs(Date.now() - new Date('2026-01-01').getTime())).toBeGreaterThan(60_000)
  expect(sim.log.map(({ text }) => text)).toEqual([
    '400 2026-01-01T00:00:00.400Z 400000000',
    '800 2026-01-01T00:00:00.800Z 800000000',
    '1200 2026-01-01T00:00:01.200Z 200000000',
  ])
  expect(seen).toEqual(Array.from({ length: 61 }, () => 1))
  sim.assertStatesAndTimes('led', [
    [1, 0],
    [0, 300],
    [1, 1000],
    [0, 1300],
  ])
  await sim.stop()
  expect(sim.log.at(-1)?.text).toBe('stopped')
})

test('an error of a program is thrown by the call in which it happens, after the safe levels are driven', async () => {
  let thrown = 0
  const sim = await simulate(
    () =>
      robot({
        needs: { lamp: 'output' },
        state: { version: 1, initial: () => ({ n: 0 }) },
        run({ every, lamp, state }) {
          lamp.write(1)
          every(2000, () => {
            if (++state.n === 4 && thrown++ === 0) throw new Error('four is too much')
          })
        },
      }),
    { board },
  )
  const crash = await sim.run('1m').catch((error: unknown) => error)
  expect(crash).toMatchObject({
    name: 'SimulationError',
    code: 'crashed',
    message: expect.stringMatching(
      /^at 6000 ms the program crashed: four is too much at test\/runtime\/testkit\/simulate\.test\.ts:160:/,
    ),
    cause: expect.objectContaining({ message: 'four is too much' }),
  })
  expect([sim.ms, sim.value('lamp')]).toEqual([6000, 0])
  // the program starts again 0.1 s later, from the checkpoint of 5 s (HANDOVER 9.2)
  await sim.run(100)
  expect([sim.state, sim.value('lamp')]).toEqual([{ n: 4 }, 1])
  await sim.stop()
})

test('crash() drives the safe levels at once, and the program starts again from its last checkpoint', async () => {
  const sim = await simulate(() => import('../../../robots/blink/v1/program.ts'), { board: file('blink/board.json') })
  await sim.run('12s')
  expect([sim.state, sim.value('led')]).toEqual([{ blinks: 121 }, 1])
  await sim.crash()
  expect([sim.state, sim.value('led'), sim.value('enable')]).toEqual([undefined, 0, 1])
  await sim.run(99)
  expect(sim.state).toBeUndefined()
  await sim.run(1)
  expect(sim.state).toEqual({ blinks: 101 })
  expect(sim.receipts.map(({ outcome }) => outcome)).toEqual(['started', 'crashed', 'restarted'])
  await sim.stop()
})

test('parameters can be given at the start and changed while the program runs', async () => {
  const sim = await simulate(
    () =>
      robot({
        needs: { arm: 'pwm' },
        params: { duty: { value: 0.1, min: 0, max: 0.45 }, gain: 1 },
        run({ arm, params, every }) {
          every(10, () => arm.write(params.duty * params.gain))
        },
      }),
    { board, params: { gain: 2 } },
  )
  await sim.run(10)
  expect(sim.value('arm')).toBe(0.2)
  await sim.param('duty', 0.4)
  await sim.run(10)
  expect(sim.value('arm')).toBe(0.8)
  await expect(sim.param('duty', 2)).rejects.toThrow('duty: expected 0 to 0.45, got 2')
  await expect(sim.param('dirty', 2)).rejects.toThrow('the program has no parameter dirty; it has: duty, gain')
  await sim.stop()
})

test('until() waits for a condition or a log line, and throws after its limit', async () => {
  const sim = await simulate(() => import('../../../robots/blink/v2/program.ts'), { board: file('blink/board.json') })
  await sim.until(() => sim.value('tail') === 1)
  expect(sim.ms).toBe(200)
  await expect(sim.until('no such line', '2s')).rejects.toThrow('after 2000 ms: nothing logged "no such line"')
  expect(sim.ms).toBe(2200)
  await sim.stop()
})

test('calls into several simulations of one process run one after the other', async () => {
  const start = () => simulate(() => import('../../../robots/blink/v1/program.ts'), { board: file('blink/board.json') })
  const [one, two] = await Promise.all([start(), start()])
  await Promise.all([one.run('1s'), two.run('500ms'), one.run('1s')])
  expect([one.ms, two.ms, one.changes('led').length, two.changes('led').length]).toEqual([2000, 500, 42, 12])
  await Promise.all([one.stop(), two.stop()])
})

test.each([
  ['no program', () => ({}), board, /does not call robot\(\)/],
  ['no board', () => robot({}, () => {}), undefined, /expected a board/],
  ['no handle', () => robot({ lid: 'output' }, () => {}), board, /needs output 'lid', this board has: led, lamp/],
  ['another kind', () => robot({ led: 'pwm' }, () => {}), board, /needs 'led' as pwm, on this board it is output/],
  [
    'a crash at once',
    () =>
      robot({}, () => {
        throw new Error('not me')
      }),
    board,
    /not me/,
  ],
])('simulate() refuses %s', async (_, program, given, message) => {
  await expect(simulate(program, given === undefined ? {} : { board: given })).rejects.toThrow(message)
})

test('a slew limit and an ADC work in simulated time; a serial line is refused by name', async () => {
  const kinds = {
    boom: { kind: 'servo', line: 12, minUs: 1000, maxUs: 2000, degrees: [-45, 45], initial: 0, slew: 100 },
    pot: { kind: 'analog', adc: 'ads1115', bus: 1, address: '0x48', channel: 2, fullScale: 4.096 },
  }
  const sim = await simulate(
    () =>
      robot({ boom: 'servo', pot: 'analog' }, ({ boom, pot, every }) => {
        every(100, () => boom.write(pot.read() > 1 ? 40 : -40))
      }),
    { board: { handles: kinds } },
  )
  sim.poke('pot', 'volts', 2)
  await sim.until(() => sim.value('boom') === 40)
  expect(sim.ms).toBe(400)
  const path = sim.changes('boom')
  for (const [at, { ms, value }] of path.entries()) {
    const before = path[at - 1] ?? { ms: 0, value: 0 }
    expect(value - before.value).toBeLessThanOrEqual(0.1 * (ms - before.ms) + 1e-6)
  }
  await sim.stop()
  const port = { gps: { kind: 'serial', path: '/dev/serial0', baud: 9600 } }
  await expect(simulate(() => robot({}, () => {}), { board: { handles: port } })).rejects.toThrow('gps: serial lines')
})

test('HANDLES 17.1: in simulated time a program with a listen handle runs, and its server does not listen', async () => {
  const server = createServer()
  const sim = await simulate(
    () =>
      robot({ web: 'listen', led: 'output' }, ({ web, led, every }) => {
        web.serve(server)
        every(10, () => led.write(!led.value))
      }),
    { board: { handles: { web: { kind: 'listen', port: 1 }, led: { kind: 'output', line: 'GPIO17' } } } },
  )
  await sim.run(25)
  expect([sim.value('led'), server.listening]).toEqual([1, false])
  await sim.stop()
})

test('durations are ms or have a unit, up to a day; a recorder takes a limited number of changes', async () => {
  const times = [20, '20ms', '20 ms', '2.5s', '10m', '24h', '500us']
  expect(times.map(durationMs)).toEqual([20, 20, 20, 2500, 600_000, 86_400_000, 0.5])
  for (const wrong of ['25h', -1, Number.NaN, '1 year', '', '1e3ms'])
    expect(() => durationMs(wrong)).toThrow(RangeError)
  const recorder = new Recorder(() => 0, 2)
  recorder.begin('led', 0)
  const change = {
    name: 'led',
    kind: 'output',
    line: 'GPIO17',
    ns: 0n,
    fence: 1,
    accepted: true,
    changed: true,
  } as const
  for (const value of [1, 0]) recorder.take({ ...change, value })
  expect(() => recorder.take({ ...change, value: 1 })).toThrow('a simulation records at most 2 changes')
})
