import { build } from 'esbuild'
import { expect, test } from 'vitest'
import type { Port } from '../../drivers/attached.ts'
import { attach } from '../../drivers/attached.ts'
import type { Grant, Input, Lease, Output, Pwm, Servo as ServoHandle } from '../../drivers/handle.ts'
import { Button, Led, Servo } from '../../drivers/index.ts'
import { deliverEdge, setCarried } from '../../drivers/inherit/index.ts'

const lease: Lease = { live: true, fence: 1 }

/** A port onto a variable: the handles above it are the real ones. */
class Wire implements Port {
  readonly written: number[] = []
  level = 0
  write(value: number): void {
    this.written.push(value)
  }
  read(): number {
    return this.level
  }
  close(): void {}
}

function handle(kind: Grant['kind'], more: Partial<Grant> = {}) {
  const wire = new Wire()
  return { wire, handle: attach({ name: 'it', id: 1, kind, via: 'inherit', ...more }, lease, wire) }
}

test('a LED goes on, off and over, from the value it was carried with', () => {
  const { wire, handle: output } = handle('output')
  const led = new Led(output as Output)
  led.on()
  led.toggle()
  led.set(true)
  led.off()
  setCarried(output, 1)
  expect(led.isOn).toBe(true)
  led.toggle()
  expect(wire.written).toEqual([1, 0, 1, 0, 0])
})

function pressed(options = {}) {
  const { wire, handle: input } = handle('input')
  const button = new Button(input as Input, options)
  const heard: string[] = []
  button.onPress((ns) => heard.push(`press ${Number(ns) / 1e6}`))
  button.onRelease((ns) => heard.push(`release ${Number(ns) / 1e6}`))
  let seqno = 0
  const at = (ms: number, level: 0 | 1) => deliverEdge(input, { level, ns: BigInt(ms * 1e6), seqno: ++seqno })
  return { at, heard, button, wire }
}

test('a button: bounces within the period are one press', () => {
  const { at, heard } = pressed()
  at(100, 1)
  at(101, 0)
  at(102, 1)
  at(300, 0)
  at(305, 1)
  at(306, 0)
  expect(heard).toEqual(['press 100', 'release 300'])
})

test('a button: a release that was taken for a bounce comes before the next press', () => {
  const { at, heard } = pressed()
  at(100, 1)
  at(110, 0)
  at(500, 1)
  expect(heard).toEqual(['press 100', 'release 110', 'press 500'])
})

test('a button to ground is pressed when it is low; without debounce every edge counts', () => {
  const { at, heard, button, wire } = pressed({ pressedLevel: 0, debounceMs: 0 })
  expect(button.isPressed).toBe(true)
  wire.level = 1
  expect(button.isPressed).toBe(false)
  at(1, 1)
  at(2, 0)
  at(3, 1)
  button.close()
  at(4, 0)
  expect(heard).toEqual(['release 1', 'press 2', 'release 3'])
})

test('HANDLES 1.5: a servo turns degrees into pulses between its limits', () => {
  const { wire, handle: pwm } = handle('pwm', { periodNs: 20_000_000, value: 0.125 })
  const servo = new Servo(pwm as Pwm)
  expect(servo.degrees).toBeCloseTo(180)
  servo.min()
  servo.center()
  servo.max()
  servo.to(45)
  servo.to(-1000)
  servo.to(1000)
  expect(wire.written.map((duty) => Math.round(duty * 20_000) / 1000)).toEqual([0.5, 1.5, 2.5, 1, 0.5, 2.5])
  expect(() => servo.to(Number.NaN)).toThrow('it: expected an angle, got NaN')
  expect(() => new Servo(pwm as Pwm, { maxPulseMs: 30 })).toThrow('it: expected a period of at least 30 ms, got 20')
  expect(() => new Servo(pwm as Pwm, { minDegrees: 9, maxDegrees: 9 })).toThrow('lower limits')
})

test('HANDLES 1.5: over a servo handle the board has the range, and the device keeps within', () => {
  const { wire, handle: grip } = handle('servo', { min: -45, max: 45, value: 10 })
  const servo = new Servo(grip as ServoHandle)
  expect(servo.degrees).toBe(10)
  servo.min()
  servo.center()
  servo.max()
  const narrow = new Servo(grip as ServoHandle, { minDegrees: 0, maxDegrees: 30 })
  narrow.to(90)
  narrow.to(-90)
  expect(wire.written).toEqual([-45, 0, 45, 30, 0])
  expect(() => new Servo(grip as ServoHandle, { maxDegrees: 90 })).toThrow(
    'it: expected limits from -45 to 45, got -45 to 90',
  )
  expect(() => new Servo(grip as ServoHandle, { minPulseMs: 1 })).toThrow('minUs and maxUs in the board file')
})

test('two listeners, also when they are the same function, are told and dropped one by one', () => {
  const { handle: input } = handle('input')
  const heard: number[] = []
  const listener = () => heard.push(1)
  const first = (input as Input).onEdge(listener)
  ;(input as Input).onEdge(listener)
  deliverEdge(input, { level: 1, ns: 1n, seqno: 1 })
  first()
  deliverEdge(input, { level: 0, ns: 2n, seqno: 2 })
  expect(heard.length).toBe(3)
})

test.each([
  ['a program bundles of drivers/', "export { Led } from './drivers/index.ts'", 28_000],
  ['there is in drivers/ for programs', "export * from './drivers/index.ts'", 45_000],
])('what %s is small, and has no zod and no native code in it', async (_, devices, limit) => {
  const { outputFiles } = await build({
    stdin: {
      contents: `export * from './drivers/inherit/index.ts'
        export * from './drivers/broker/index.ts'
        ${devices}`,
      resolveDir: process.cwd(),
      loader: 'ts',
    },
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
    target: 'node20',
  })
  const text = outputFiles[0]?.text ?? ''
  expect(text.length).toBeGreaterThan(5000)
  expect(text.length).toBeLessThan(limit)
  expect(text).not.toMatch(/\bzod\b|\bkoffi\b|i2c-bus['"]/)
})
