/** A stepper with acceleration, checked against the equations of AVR446, section 2. */
import { expect, test } from 'vitest'
import { Stepper, type StepperMotion, type StepperOptions } from '../../../../drivers/index.ts'
import { robot } from '../../../../runtime/sdk/index.ts'
import { simulate } from '../../../../runtime/testkit/index.ts'
import { wired } from './wires.ts'

const TICK = 0.0001
/** 3000 rpm at 20 steps a turn: 1000 steps a second, with an acceleration of 1000 steps a second squared. */
const OPTIONS: StepperOptions = { stepsPerRevolution: 20, rpm: 3000, acceleration: 3000 }

interface Rig {
  motor: Stepper
  /** time in s and position of each step */
  steps: [number, number][]
  run(seconds: number): void
  replace(options: StepperOptions): void
}

function rig(options: StepperOptions): Rig {
  const pins = { step: wired('output')[0], direction: wired('output')[0] }
  let at = 0
  const found: Rig = {
    motor: new Stepper(pins, options),
    steps: [],
    run(seconds) {
      for (const end = at + seconds; at < end - TICK / 2; ) {
        at += TICK
        const { motor } = found
        const before = motor.position
        motor.tick(TICK)
        if (motor.position !== before) found.steps.push([at, motor.position])
      }
    },
    replace(next) {
      found.motor = new Stepper(pins, next)
    },
  }
  return found
}

const times = (steps: Rig['steps']) => steps.map(([time]) => time)
/** Speed between each step and the one before, in steps a second. */
const speeds = (steps: Rig['steps']) => steps.slice(1).map(([time], i) => 1 / (time - (steps[i]?.[0] ?? 0)))

test('from standstill, step n comes at sqrt(2 n / a)', () => {
  const { motor, steps, run } = rig(OPTIONS)
  motor.run()
  run(0.9)
  for (const n of [1, 2, 10, 100, 400]) {
    expect(steps[n - 1]?.[0], `step ${n}`).toBeCloseTo(Math.sqrt((2 * n) / 1000), 3)
  }
})

test('a long way is a trapezoid: equal ramps, full speed between, and the exact target', () => {
  const { motor, steps, run } = rig(OPTIONS)
  motor.moveTo(2000)
  run(4)
  expect([motor.position, motor.isRunning, motor.motion.speed]).toEqual([2000, false, 0])
  // v^2 / 2a = 500 steps up and down, each in v / a = 1 s, and 1000 at 1000 a second
  expect(times(steps).at(-1)).toBeCloseTo(3, 1)
  expect(steps.findIndex(([, position]) => position === 500)).toBe(499)
  expect(steps[499]?.[0]).toBeCloseTo(1, 2)
  expect(steps[1499]?.[0]).toBeCloseTo(2, 2)
  expect(Math.max(...speeds(steps))).toBeLessThan(1150)
  // the ramp down mirrors the ramp up
  const up = times(steps)
  const last = (up.at(-1) ?? 0) + (up[0] ?? 0)
  for (const n of [50, 200, 400]) expect(last - (up[2000 - n] ?? 0), `${n}`).toBeCloseTo(up[n - 1] ?? 0, 1)
})

test('a short way is a triangle that never reaches full speed', () => {
  const { motor, steps, run } = rig(OPTIONS)
  motor.moveTo(-200)
  run(2)
  expect([motor.position, motor.isRunning]).toEqual([-200, false])
  // sqrt(a s) at its middle, after sqrt(s / a)
  expect(Math.max(...speeds(steps))).toBeLessThan(480)
  expect(steps[99]?.[0]).toBeCloseTo(Math.sqrt(0.2), 2)
  expect(times(steps).at(-1)).toBeCloseTo(2 * Math.sqrt(0.2), 1)
})

test.each([1, 2, 3, 5, 17])('a way of %i steps arrives exactly, to and fro', (way) => {
  const { motor, run } = rig(OPTIONS)
  motor.step(way)
  run(1)
  expect([motor.position, motor.isRunning]).toEqual([way, false])
  motor.step(-way)
  run(1)
  expect([motor.position, motor.isRunning]).toEqual([0, false])
})

test('the motor starts and stops at startRpm at once', () => {
  const { motor, steps, run } = rig({ ...OPTIONS, startRpm: 300 })
  motor.moveTo(500)
  run(2)
  expect(motor.position).toBe(500)
  const all = speeds(steps)
  expect(steps[0]?.[0]).toBeCloseTo(0.01, 2)
  expect(Math.min(...all)).toBeGreaterThan(95)
  // v^2 = 100^2 + 2 a s in the middle
  expect(Math.max(...all)).toBeLessThan(Math.sqrt(100 ** 2 + 2000 * 250) * 1.08)
})

test('stop brakes, a target behind reverses the motor, and a target that is too near is passed first', () => {
  const { motor, steps, run } = rig(OPTIONS)
  motor.run()
  run(0.5)
  const from = motor.position
  motor.stop()
  expect(motor.isRunning).toBe(true)
  run(1)
  // v = 500, so v^2 / 2a = 125
  expect(Math.abs(motor.position - from - 125)).toBeLessThanOrEqual(2)
  expect(motor.isRunning).toBe(false)
  motor.moveTo(0)
  run(0.4)
  expect([motor.direction, motor.position < from + 125]).toEqual([-1, true])
  const { position } = motor
  motor.moveTo(position - 3)
  run(2)
  expect([motor.position, motor.isRunning]).toEqual([position - 3, false])
  expect(Math.min(...steps.slice(-300).map(([, at]) => at))).toBeLessThan(position - 60)
  // from step to step the speed changes by at most the acceleration
  const all = speeds(steps)
  for (const [i, speed] of all.entries()) if (speed > 150 && i > 0) expect(speed / (all[i - 1] ?? 1)).toBeLessThan(1.4)
})

test('a change of rpm on the way keeps the acceleration', () => {
  const { motor, steps, run } = rig(OPTIONS)
  motor.run(-1)
  run(1.2)
  motor.rpm = 1200
  run(0.3)
  expect(speeds(steps.slice(-20)).every((speed) => speed > 600 && speed < 800)).toBe(true)
  run(0.5)
  expect(speeds(steps.slice(-20)).every((speed) => speed > 350 && speed < 450)).toBe(true)
})

test('after a pause of several steps the motor starts again at startRpm', () => {
  const { motor, run } = rig(OPTIONS)
  motor.run()
  run(1)
  motor.tick(0.1)
  expect(motor.motion.speed).toBeLessThan(120)
})

test('a successor with the motion continues at the same speed; the motion is JSON', () => {
  for (const ms of [300, 1000, 1500, 2500]) {
    const found = rig(OPTIONS)
    found.motor.moveTo(2000)
    found.run(ms / 1000)
    const motion = JSON.parse(JSON.stringify(found.motor.motion)) as StepperMotion
    found.replace({ ...OPTIONS, motion })
    found.run(4 - ms / 1000)
    expect([found.motor.position, found.motor.isRunning]).toEqual([2000, false])
    expect(times(found.steps).at(-1)).toBeCloseTo(3, 1)
  }
  const on = rig(OPTIONS)
  on.motor.run(-1)
  on.run(0.5)
  expect(on.motor.motion).toMatchObject({ target: 'ccw', speed: expect.closeTo(-500, -1) })
  on.replace({ ...OPTIONS, motion: JSON.parse(JSON.stringify(on.motor.motion)) as StepperMotion })
  on.run(0.5)
  expect(on.motor.motion).toMatchObject({ target: 'ccw', speed: expect.closeTo(-1000, -1) })
})

test('an invalid acceleration or startRpm is refused', () => {
  expect(() => rig({ acceleration: -1 })).toThrow('an acceleration of 0 or more rpm a second, got -1')
  expect(() => rig({ startRpm: Number.NaN })).toThrow('a start of 0 or more rpm, got NaN')
})

test('a swap in the middle of the ramp loses no step and no speed', async () => {
  const program = () =>
    robot({
      needs: { step: 'output', way: 'output' },
      state: { version: 1, initial: () => ({ motion: undefined as StepperMotion | undefined }) },
      run({ step, way, state, every }) {
        const options = { stepsPerRevolution: 20, rpm: 600, acceleration: 600, motion: state.motion }
        const motor = new Stepper({ step, direction: way }, options)
        if (state.motion === undefined) motor.moveTo(300)
        every(1, (dt) => {
          motor.tick(dt)
          state.motion = motor.motion
        })
      },
    })
  const board = { handles: { step: { kind: 'output', line: 5 }, way: { kind: 'output', line: 6 } } }
  const sim = await simulate(program, { board })
  await sim.run(700)
  await sim.swap(program)
  await sim.run('4s')
  const rising = sim.changes('step').filter(({ value }) => value === 1)
  expect(rising).toHaveLength(300)
  expect(sim.state).toMatchObject({ motion: { position: 300, speed: 0 } })
  // 200 steps a second after 1 s and 100 steps; then 100 at that speed, and 1 s down
  expect((rising.at(-1)?.ms ?? 0) / 1000).toBeCloseTo(2.5, 1)
  await sim.stop()
})
