/** A stepper with a jerk: speed, acceleration and jerk stay within their limits, and no step is lost. */
import { expect, test } from 'vitest'
import { Stepper, type StepperMotion, type StepperOptions } from '../../../../drivers/index.ts'
import { robot } from '../../../../runtime/sdk/index.ts'
import { simulate } from '../../../../runtime/testkit/index.ts'
import { wired } from './wires.ts'

const TICK = 0.0001
/** 1000 steps a second, 1000 a second squared, 4000 a second cubed. */
const OPTIONS: StepperOptions = { stepsPerRevolution: 20, rpm: 3000, acceleration: 3000, jerk: 12_000 }

interface Seen {
  motor: Stepper
  endedAt: number
  speed: number
  acceleration: number
  jerk: number
}

/** Runs a motor for some seconds, and returns the greatest speed, acceleration and jerk. `at`: what happens when. */
function seen(seconds: number, begin: (motor: Stepper) => void, at: Record<number, (motor: Stepper) => void> = {}) {
  return replaced(seconds, begin, at, Number.POSITIVE_INFINITY)
}

/** As seen(); each `every` ticks a successor takes the motion over as JSON. */
function replaced(
  seconds: number,
  begin: (motor: Stepper) => void,
  at: Record<number, (motor: Stepper) => void>,
  every: number,
  options = OPTIONS,
): Seen {
  const pins = { step: wired('output')[0], direction: wired('output')[0] }
  const found: Seen = { motor: new Stepper(pins, options), endedAt: 0, speed: 0, acceleration: 0, jerk: 0 }
  begin(found.motor)
  let before = 0
  let pulses = 0
  for (let tick = 1; tick <= seconds / TICK; tick++) {
    at[tick * TICK]?.(found.motor)
    if (tick % every === 0) {
      const motion = JSON.parse(JSON.stringify(found.motor.motion)) as StepperMotion
      found.motor = new Stepper(pins, { ...options, motion })
    }
    const position = found.motor.position
    found.motor.tick(TICK)
    pulses += Math.abs(found.motor.position - position)
    const { speed, change = 0 } = found.motor.motion
    found.speed = Math.max(found.speed, Math.abs(speed))
    found.acceleration = Math.max(found.acceleration, Math.abs(change))
    if (!found.motor.isRunning) {
      before = 0
      continue
    }
    found.endedAt = tick * TICK
    found.jerk = Math.max(found.jerk, Math.abs(change - before) / TICK)
    before = change
  }
  expect(pulses).toBeGreaterThanOrEqual(Math.abs(found.motor.position))
  return found
}

function expectWithinLimits({ speed, acceleration, jerk }: Seen): void {
  expect(speed).toBeLessThanOrEqual(1000)
  expect(acceleration).toBeLessThanOrEqual(1000)
  expect(jerk).toBeLessThan(4001)
}

test('a long way reaches full speed and full acceleration, and takes s/v + v/a + a/j', () => {
  const found = seen(5, (motor) => motor.moveTo(2000))
  expect([found.motor.position, found.motor.isRunning]).toEqual([2000, false])
  expect(found.endedAt).toBeCloseTo(2 + 1 + 0.25, 1)
  expect([found.speed, found.acceleration]).toEqual([expect.closeTo(1000, 1), 1000])
  expectWithinLimits(found)
})

test.each([1, 2, 3, 5, 17, 100, 400])('a way of %i steps arrives exactly, to and fro', (way) => {
  const there = seen(6, (motor) => motor.step(way), { 3: (motor) => motor.step(-2 * way) })
  expect([there.motor.position, there.motor.isRunning]).toEqual([-way, false])
  expectWithinLimits(there)
})

test('stop brakes within the limits, and so does a lower rpm', () => {
  const stopped = seen(4, (motor) => motor.run(-1), { 0.4: (motor) => motor.stop() })
  expect(stopped.motor.isRunning).toBe(false)
  expectWithinLimits(stopped)
  const slower = seen(8, (motor) => motor.moveTo(2000), {
    1.5: (motor) => {
      motor.rpm = 1200
    },
  })
  expect([slower.motor.position, slower.motor.isRunning]).toEqual([2000, false])
  expectWithinLimits(slower)
})

test('a target that is too near is passed, and reached from behind', () => {
  const found = seen(8, (motor) => motor.moveTo(2000), { 0.8: (motor) => motor.moveTo(motor.position + 3) })
  expect(found.motor.isRunning).toBe(false)
  expect(found.motor.position).toBeLessThan(300)
  expect([found.speed <= 1000, found.acceleration <= 1000]).toEqual([true, true])
})

test('the motor starts and stops at startRpm', () => {
  const found = replaced(4, (motor) => motor.moveTo(500), {}, Number.POSITIVE_INFINITY, { ...OPTIONS, startRpm: 300 })
  expect([found.motor.position, found.motor.isRunning]).toEqual([500, false])
  expectWithinLimits(found)
})

test('successors with the motion go on with the same ramp; the motion is JSON', () => {
  const alone = seen(5, (motor) => motor.moveTo(2000))
  const found = replaced(5, (motor) => motor.moveTo(2000), {}, 777)
  expect([found.motor.position, found.endedAt]).toEqual([2000, alone.endedAt])
  expectWithinLimits(found)
})

test('an invalid jerk is refused', () => {
  const pins = { step: wired('output')[0], direction: wired('output')[0] }
  for (const jerk of [-1, Number.NaN])
    expect(() => new Stepper(pins, { ...OPTIONS, jerk })).toThrow('a jerk of 0 or more rpm a second squared')
})

test('a swap in the middle of an S-ramp loses no step', async () => {
  const program = () =>
    robot({
      needs: { step: 'output', way: 'output' },
      state: { version: 1, initial: () => ({ motion: undefined as StepperMotion | undefined }) },
      run({ step, way, state, every }) {
        const options = { stepsPerRevolution: 20, rpm: 600, acceleration: 600, jerk: 2400, motion: state.motion }
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
  await sim.run(400)
  await sim.swap(program)
  await sim.run(500)
  await sim.swap(program)
  await sim.run('4s')
  const rising = sim.changes('step').filter(({ value }) => value === 1)
  expect(rising).toHaveLength(300)
  expect(sim.state).toMatchObject({ motion: { position: 300, speed: 0, change: 0 } })
  // s/v + v/a + a/j
  expect((rising.at(-1)?.ms ?? 0) / 1000).toBeCloseTo(1.5 + 1 + 0.25, 1)
  await sim.stop()
})
