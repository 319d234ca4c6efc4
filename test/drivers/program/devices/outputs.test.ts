/** Devices that drive outputs: what they write, and how a successor continues. */
import { expect, test } from 'vitest'
import { Led, Motor, RgbLed, Servo, Stepper } from '../../../../drivers/index.ts'
import { VirtualClock } from '../../../../drivers/owner/sim/clock.ts'
import { setCarried } from '../../../../drivers/program/inherit/index.ts'
import { wired } from './wires.ts'

const PERIOD = { periodNs: 20_000_000 }
const rounded = (values: readonly number[]) => values.map((value) => Math.round(value * 1000) / 1000)

test('an LED switches on and off, starting from the carried value', () => {
  const [output, written] = wired('output')
  const led = new Led(output)
  led.on()
  led.toggle()
  led.set(true)
  led.off()
  setCarried(output, 1)
  expect(led.isOn).toBe(true)
  led.toggle()
  expect(written).toEqual([1, 0, 1, 0, 0])
})

test('an LED blinks by the time passed to tick, and stays as it is after stop', () => {
  const [output, written] = wired('output')
  const led = new Led(output)
  led.tick(1)
  led.blink(500)
  for (let tick = 0; tick < 30; tick++) led.tick(0.1)
  expect(written).toEqual([1, 0, 1, 0, 1, 0])
  expect(led.isRunning).toBe(true)
  led.stop()
  led.tick(1)
  expect(led.isRunning).toBe(false)
  led.blink()
  led.on()
  led.tick(1)
  expect(written).toHaveLength(7)
  expect(() => led.blink(0)).toThrow('it: expected a time of more than 0 ms, got 0')
})

test('an LED on a PWM fades and pulses from the current brightness', () => {
  const [pwm, written] = wired('pwm', { ...PERIOD, value: 0.5 })
  const led = new Led(pwm)
  led.fade(1, 100)
  for (let tick = 0; tick < 5; tick++) led.tick(0.04)
  expect(rounded(written)).toEqual([0.7, 0.9, 1])
  expect(led.isRunning).toBe(false)
  led.brightness(0.5)
  led.pulse(100)
  for (let tick = 0; tick < 5; tick++) led.tick(0.05)
  expect(rounded(written.slice(4))).toEqual([1, 0.5, 0, 0.5, 1])
  for (const bad of [-0.1, 1.1, Number.NaN]) {
    expect(() => led.brightness(bad)).toThrow(`expected a brightness from 0 to 1, got ${bad}`)
  }
  expect(() => led.fade(2)).toThrow('expected a brightness')
})

test('an LED on an output cannot be dimmed', () => {
  const [output, written] = wired('output')
  const led = new Led(output)
  led.brightness(1)
  for (const dim of [() => led.brightness(0.5), () => led.fade(1), () => led.pulse()]) {
    expect(dim).toThrow(expect.objectContaining({ kind: 'unsupported' }))
    expect(led.isRunning).toBe(false)
  }
  expect(written).toEqual([1])
})

function rgb(options = {}, value = 0) {
  const parts = [1, 2, 3].map(() => wired('pwm', { ...PERIOD, value }))
  const [red, green, blue] = parts.map(([pwm]) => pwm) as [never, never, never]
  return { led: () => new RgbLed(red, green, blue, options), last: () => parts.map(([, written]) => written.at(-1)) }
}

test('an RGB LED shows colours, blinks and fades; the colour survives a swap', () => {
  const { led: made, last } = rgb()
  const led = made()
  led.on()
  expect(last()).toEqual([1, 1, 1])
  led.color('#ff8000')
  expect(last()).toEqual([1, 128 / 255, 0])
  expect(led.value).toEqual({ red: 255, green: 128, blue: 0 })
  led.blink(100)
  led.tick(0.1)
  expect([led.isOn, last()]).toEqual([false, [0, 0, 0]])
  led.tick(0.1)
  expect(led.isOn).toBe(true)
  const successor = made()
  successor.off()
  successor.toggle()
  expect(successor.value).toEqual({ red: 255, green: 128, blue: 0 })
  successor.fade({ red: 0, green: 0, blue: 255 }, 200)
  successor.tick(0.1)
  expect(successor.value).toEqual({ red: 128, green: 64, blue: 128 })
  successor.tick(0.1)
  expect([successor.value.blue, successor.isRunning]).toEqual([255, false])
  expect(() => led.color('orange')).toThrow('expected a colour as #ff8000, got orange')
  expect(() => led.color({ red: 0, green: 256, blue: 0 })).toThrow('expected green from 0 to 255, got 256')
  expect(() => led.fade('#000000', 0)).toThrow('more than 0 ms')
  expect(() => led.blink(-1)).toThrow('more than 0 ms')
})

test('an RGB LED with a common anode lights while a line is low', () => {
  const { led: made, last } = rgb({ anode: true }, 1)
  const led = made()
  expect(led.isOn).toBe(false)
  led.color('#ff0000')
  expect(last()).toEqual([0, 1, 1])
})

test('HANDLES 1.5: a servo turns degrees into pulses between its limits', () => {
  const [pwm, written] = wired('pwm', { ...PERIOD, value: 0.125 })
  const servo = new Servo(pwm)
  expect(servo.degrees).toBeCloseTo(180)
  servo.min()
  servo.center()
  servo.max()
  servo.to(45)
  servo.to(-1000)
  servo.to(1000)
  expect(written.map((duty) => Math.round(duty * 20_000) / 1000)).toEqual([0.5, 1.5, 2.5, 1, 0.5, 2.5])
  expect(() => servo.to(Number.NaN)).toThrow('it: expected an angle, got NaN')
  expect(() => new Servo(pwm, { maxPulseMs: 30 })).toThrow('it: expected a period of at least 30 ms, got 20')
  expect(() => new Servo(pwm, { minDegrees: 9, maxDegrees: 9 })).toThrow('lower limits')
})

test('HANDLES 1.5: on a servo handle the device keeps within the range of the board file', () => {
  const [grip, written] = wired('servo', { min: -45, max: 45, value: 10 })
  const servo = new Servo(grip)
  expect(servo.degrees).toBe(10)
  servo.min()
  servo.center()
  servo.max()
  const narrow = new Servo(grip, { minDegrees: 0, maxDegrees: 30 })
  narrow.to(90)
  narrow.to(-90)
  expect(written).toEqual([-45, 0, 45, 30, 0])
  expect(() => new Servo(grip, { maxDegrees: 90 })).toThrow('it: expected limits from -45 to 45, got -45 to 90')
  expect(() => new Servo(grip, { minPulseMs: 1 })).toThrow('minUs and maxUs in the board file')
})

test('a servo moves within the given time, and sweeps to and fro', () => {
  const [pwm] = wired('pwm', { ...PERIOD, value: 0.025 })
  const servo = new Servo(pwm)
  const ticks = (count: number) =>
    Array.from({ length: count }, () => {
      servo.tick(0.1)
      return Math.round(servo.degrees)
    })
  servo.to(90, 300)
  expect(ticks(4)).toEqual([30, 60, 90, 90])
  expect(servo.isMoving).toBe(false)
  servo.sweep({ from: 45, to: 135, ms: 300 })
  expect(ticks(7)).toEqual([120, 135, 105, 75, 45, 75, 105])
  servo.stop()
  expect(ticks(2)).toEqual([105, 105])
  servo.max(200)
  expect(ticks(3)).toEqual([143, 180, 180])
  expect(() => servo.to(0, -1)).toThrow('a time of 0 ms or more')
  expect(() => servo.sweep({ ms: 0 })).toThrow('more than 0 ms')
})

test('a motor with a direction line changes direction while its PWM is off', () => {
  const [pwm, duties] = wired('pwm', PERIOD)
  const [direction, ways] = wired('output')
  const motor = new Motor({ pwm, direction })
  motor.forward(0.5)
  motor.run(-0.25)
  expect([duties, ways, motor.speed]).toEqual([[0.5, 0, 0.25], [1], -0.25])
  motor.stop()
  expect([motor.speed, motor.isOn]).toEqual([0, false])
  motor.run(-1)
  expect(ways).toEqual([1])
  expect(() => motor.brake()).toThrow(expect.objectContaining({ kind: 'unsupported' }))
  expect(() => motor.coast()).toThrow(expect.objectContaining({ kind: 'unsupported' }))
  for (const bad of [1.1, -2, Number.NaN]) expect(() => motor.run(bad)).toThrow(`from -1 to 1, got ${bad}`)
  const alone = new Motor({ pwm })
  expect(() => alone.reverse()).toThrow('runs forward only')
  // the speed that the previous program set
  expect(new Motor({ pwm, direction }, { inverted: true }).speed).toBe(1)
})

test('a motor on a bridge with two lines brakes and coasts, and never brakes while it reverses', () => {
  const [pwm, duties] = wired('pwm', PERIOD)
  const [forward] = wired('output')
  const [reverse] = wired('output')
  const motor = new Motor({ pwm, forward, reverse })
  const now = () => [forward.value, reverse.value, pwm.value]
  motor.forward(0.5)
  expect(now()).toEqual([1, 0, 0.5])
  motor.reverse(0.5)
  expect([now(), motor.speed, duties]).toEqual([[0, 1, 0.5], -0.5, [0, 0.5, 0, 0.5]])
  motor.brake()
  expect([now(), motor.speed]).toEqual([[1, 1, 1], 0])
  motor.coast()
  expect(now()).toEqual([0, 0, 0])
  motor.forward(0.5)
  motor.stop()
  expect(now()).toEqual([1, 0, 0])
})

test('a motor on a bridge with two PWM runs both ways, brakes and coasts', () => {
  const [forward] = wired('pwm', PERIOD)
  const [reverse] = wired('pwm', PERIOD)
  const motor = new Motor({ forward, reverse }, { inverted: true })
  const now = () => [forward.value, reverse.value]
  motor.forward(0.5)
  expect([now(), motor.speed]).toEqual([[0, 0.5], 0.5])
  motor.reverse()
  expect([now(), motor.speed]).toEqual([[1, 0], -1])
  motor.brake()
  expect(now()).toEqual([1, 1])
  motor.coast()
  expect(now()).toEqual([0, 0])
})

test.each(['a direction line', 'two lines', 'two PWM'])('a motor on %s waits for the slew of its PWM', (wiring) => {
  const clock = new VirtualClock()
  const slow = { ...PERIOD, slew: 10 }
  const [pwm] = wired('pwm', slow, clock)
  const [other] = wired('pwm', slow, clock)
  const [one] = wired('output')
  const [two] = wired('output')
  const pins =
    wiring === 'two PWM'
      ? { forward: pwm, reverse: other }
      : wiring === 'two lines'
        ? { pwm, forward: one, reverse: two }
        : { pwm, direction: one }
  const motor = new Motor(pins)
  const speeds: number[] = []
  const go = (ticks: number) => {
    for (let tick = 0; tick < ticks; tick++) {
      clock.advance(10_000_000n)
      motor.tick()
      speeds.push(Math.round(motor.speed * 10) / 10)
      expect(pwm.value > 0 && other.value > 0).toBe(false)
    }
  }
  motor.forward(0.5)
  go(10)
  motor.reverse(0.5)
  go(20)
  expect(motor.speed).toBe(-0.5)
  // down to 0, then up in the other direction; a step of 10 ms is 0.1, and the first one may make up for 20 ms
  for (const [index, speed] of speeds.entries()) {
    expect(Math.abs(speed - (speeds[index - 1] ?? speed))).toBeLessThanOrEqual(0.31)
  }
})

test('a stepper with a driver: a pulse lasts one tick, and a late tick does not catch up', () => {
  const [step, steps] = wired('output')
  const [direction] = wired('output')
  const motor = new Stepper({ step, direction }, { rpm: 60, stepsPerRevolution: 200 })
  motor.cw(3)
  // 200 steps a second: one in 5 ms
  for (let tick = 0; tick < 20; tick++) motor.tick(0.001)
  expect([steps, motor.position, motor.isRunning, direction.value]).toEqual([[1, 0, 1, 0, 1, 0], 3, false, 1])
  motor.ccw(2)
  motor.tick(10)
  expect([motor.position, step.value, motor.direction, direction.value]).toEqual([2, 1, -1, 0])
  motor.tick(0.001)
  motor.tick(0.001)
  expect([motor.position, step.value]).toEqual([1, 1])
  // the previous program ended in the middle of a pulse
  const successor = new Stepper({ step, direction }, { position: motor.position })
  successor.tick(0.001)
  expect([step.value, successor.position]).toEqual([0, 1])
  successor.run(-1)
  successor.rpm = 300
  for (let tick = 0; tick < 100; tick++) successor.tick(0.001)
  // 1000 steps a second are due, and 500 ticks can be rising edges
  expect(successor.position).toBe(1 - 50)
  successor.stop()
  expect(successor.isRunning).toBe(false)
  successor.step(1)
  expect(successor.direction).toBe(1)
  expect(() => successor.moveTo(0.5)).toThrow('expected a whole number of steps, got 0.5')
  expect(() => new Stepper({ step, direction }, { rpm: 0 })).toThrow('more than 0 turns a minute, got 0')
  expect(() => new Stepper({ step, direction }, { stepsPerRevolution: -1 })).toThrow('steps of a turn above 0')
})

test.each([
  [false, ['1100', '0110', '0011', '1001', '1100', '1001', '0011']],
  [true, ['1100', '0100', '0110', '0010', '0011', '0010', '0110']],
])('a stepper with four coils, half steps %j; a successor goes on from the coils', (halfSteps, wanted) => {
  const coils = [0, 1, 2, 3].map(() => wired('output')[0]) as [never, never, never, never]
  const make = (position: number) => new Stepper({ coils }, { halfSteps, position, rpm: 60, stepsPerRevolution: 1000 })
  let motor = make(0)
  const seen: string[] = []
  const turn = (steps: number) => {
    motor.step(steps)
    while (motor.isRunning) {
      motor.tick(0.001)
      seen.push((coils as { value: number }[]).map(({ value }) => value).join(''))
    }
  }
  turn(2)
  motor = make(motor.position)
  turn(3)
  turn(-2)
  expect([seen, motor.position]).toEqual([wanted, 3])
  motor.release()
  expect((coils as { value: number }[]).every(({ value }) => value === 0)).toBe(true)
})
