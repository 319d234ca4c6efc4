import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseBoard } from '../../../drivers/board/board.ts'
import type { ServoEntry } from '../../../drivers/board/types.ts'
import { safeCalls } from '../../../drivers/owner/linux/safe.ts'
import { degreesOf, dutyOf, pwmOf, scaleOf } from '../../../drivers/program/servo.ts'

function entryOf(about: object): ServoEntry {
  const text = JSON.stringify({ model: 'sim', handles: { arm: { kind: 'servo', line: 18, ...about } } })
  return parseBoard(text, 'board.json').handles.arm as ServoEntry
}

test('HANDLES 1.5: no angle gives a pulse outside the limits, and angles convert back', () => {
  const scale = scaleOf(entryOf({ minUs: 900, maxUs: 2100, degrees: [-60, 60] }))
  fc.assert(
    fc.property(fc.double({ noNaN: true }), (degrees) => {
      const pulseUs = (dutyOf(scale, degrees) * scale.periodNs) / 1000
      expect(pulseUs).toBeGreaterThanOrEqual(900 - 1e-6)
      expect(pulseUs).toBeLessThanOrEqual(2100 + 1e-6)
    }),
  )
  fc.assert(
    fc.property(fc.double({ min: -60, max: 60, noNaN: true }), (degrees) => {
      expect(degreesOf(scale, dutyOf(scale, degrees))).toBeCloseTo(degrees, 9)
    }),
  )
})

test('the PWM of a servo has its limits', () => {
  const entry = entryOf({
    minUs: 1000,
    maxUs: 2000,
    degrees: [0, 90],
    initial: 45,
    safe: 0,
    channel: { chip: 0, channel: 1 },
  })
  expect(pwmOf(entry)).toEqual({
    kind: 'pwm',
    line: 'GPIO18',
    frequencyHz: 50,
    initial: 0.075,
    safe: 0.05,
    min: 0.05,
    max: 0.1,
    slew: 0,
    driver: 'kernel',
    channel: { chip: 0, channel: 1 },
    via: 'inherit',
  })
})

test("HANDLES 14.3: the guard's steps drive the pulse of the safe angle", () => {
  const kept = { fds: [5], fence: 1 }
  expect(safeCalls(entryOf({ safe: 0 }), kept)).toEqual([
    { fd: 0, at: 0, bytes: Buffer.from('500000\n').toString('hex') },
  ])
  expect(safeCalls(entryOf({ safe: 'hold' }), kept)).toEqual([])
})
