import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { parseBoard } from '../../../drivers/board/board.ts'
import type { PwmEntry } from '../../../drivers/board/types.ts'
import { HardwareError } from '../../../drivers/errors.ts'
import { grantOf } from '../../../drivers/owner/backend.ts'
import { LinuxHandle, type OpenContext, type OpenDevice } from '../../../drivers/owner/linux/device.ts'
import { SimBackend } from '../../../drivers/owner/sim/backend.ts'
import { VirtualClock } from '../../../drivers/owner/sim/clock.ts'
import { World } from '../../../drivers/owner/sim/world.ts'
import { attach, type HandlePort } from '../../../drivers/program/attached.ts'
import { adoptBrokered } from '../../../drivers/program/broker/index.ts'
import { encodeNumber, OP } from '../../../drivers/program/broker/protocol.ts'
import type { Grant, Lease, Pwm, Servo } from '../../../drivers/program/handle.ts'
import { setCarried } from '../../../drivers/program/inherit/index.ts'
import { Slew } from '../../../drivers/program/slew.ts'
import { temporary } from '../host.ts'

const MS = 1_000_000n
const folder = temporary()
afterAll(() => folder.remove())

interface Move {
  readonly ms: number
  readonly value: number
}

/** The largest movement in any time span, beyond what the rate allows for that span. */
function burst(moves: readonly Move[], rate: number): number {
  let worst = 0
  for (const [from, before] of moves.entries()) {
    for (const after of moves.slice(from + 1)) {
      worst = Math.max(worst, Math.abs(after.value - before.value) - (rate * (after.ms - before.ms)) / 1000)
    }
  }
  return worst
}

describe.each([
  ['program', 20],
  ['owner', 40],
] as const)('HANDLES 15.2, 15.3: the side of the %s', (side, burstMs) => {
  test('whatever is written and when, the value never moves faster, and arrives', () => {
    const writes = fc.array(fc.record({ wait: fc.integer({ min: 0, max: 300 }), to: fc.double({ min: 0, max: 180, noNaN: true }) }), { minLength: 1, maxLength: 30 }) // biome-ignore format: one shape
    fc.assert(
      fc.property(writes, fc.double({ min: 1, max: 1000, noNaN: true }), (steps, rate) => {
        const clock = new VirtualClock()
        const moves: Move[] = [{ ms: 0, value: 90 }]
        const drive = (value: number) => void moves.push({ ms: Number(clock.now()) / 1e6, value })
        const slew = new Slew({ rate, side, value: 90, clock, drive, live: () => true, retry: () => false })
        for (const { wait, to } of steps) {
          clock.advance(BigInt(wait) * MS)
          slew.moveTo(to)
        }
        expect(burst(moves, rate)).toBeLessThanOrEqual((rate * burstMs) / 1000 + 1e-6)
        clock.advance(BigInt(Math.ceil(180_000 / rate) + 20) * MS)
        expect(moves.at(-1)?.value).toBe(steps.at(-1)?.to)
        // and no timer is left
        expect(clock.due).toBe(null)
      }),
      { numRuns: 200 },
    )
  })
})

/** A program's handle with a rate limit, on a port that writes a variable. */
function programSide(about: Partial<Grant> & Pick<Grant, 'kind'>, rehearsal = false) {
  const clock = new VirtualClock()
  const lease: Lease = { live: true, fence: 1 }
  const written: Move[] = []
  const failures: HardwareError[] = []
  const port: HandlePort = {
    write(value) {
      const failure = failures.shift()
      if (failure !== undefined) throw failure
      written.push({ ms: Number(clock.now()) / 1e6, value })
    },
    read: () => 0,
    close() {},
  }
  const grant: Grant = { name: 'it', id: 1, via: 'inherit', min: 0, max: 180, slew: 100, ...about }
  const handle = attach(grant, lease, port, { clock, rehearsal })
  return { clock, lease, written, failures, handle }
}

const servoOf = (handle: unknown): Servo => handle as Servo

test('HANDLES 15.2: a servo moves on by itself, and `value` is the driven value', () => {
  const { clock, written, handle } = programSide({ kind: 'servo', value: 90 })
  const servo = servoOf(handle)
  clock.advance(1000n * MS)
  servo.write(95)
  expect(servo.value).toBe(92)
  clock.advance(15n * MS)
  expect(servo.value).toBeCloseTo(93)
  clock.advance(100n * MS)
  expect(servo.value).toBe(95)
  expect(written.map(({ ms }) => ms)).toEqual([1000, 1010, 1020, 1030])
  servo.write(0)
  clock.advance(50n * MS)
  // a target behind: it reverses at once
  servo.write(180)
  const turned = servo.value
  clock.advance(10n * MS)
  expect(servo.value).toBeCloseTo(turned + 1)
})

test('HANDLES 15.1: the rate of a PWM applies to its duty cycle, after the limits', () => {
  const { clock, written, handle } = programSide({ kind: 'pwm', min: 0.1, max: 0.5, value: 0.3, slew: 1 })
  const pwm = handle as Pwm
  clock.advance(100n * MS)
  pwm.write(1)
  clock.advance(1000n * MS)
  expect(pwm.value).toBe(0.5)
  expect(written.length).toBeGreaterThanOrEqual(18)
  expect(() => pwm.write(1.5)).toThrow(HardwareError)
})

test('HANDLES 15.4: after a swap nothing jumps, and no motion continues', () => {
  const { clock, lease, written, handle } = programSide({ kind: 'servo', value: 90 })
  const servo = servoOf(handle)
  servo.write(180)
  lease.live = false
  clock.advance(1000n * MS)
  const parked = servo.value
  expect(written.at(-1)?.value).toBe(parked)
  // the successor moved the servo, and then this program resumes
  setCarried(servo, 20)
  lease.live = true
  clock.advance(1000n * MS)
  expect(servo.value).toBe(20)
  setCarried(servo, 30)
  servo.write(0)
  expect(servo.value).toBe(30)
  clock.advance(10n * MS)
  expect(servo.value).toBeCloseTo(29)
  servo.close()
  const count = written.length
  clock.advance(1000n * MS)
  expect(written.length).toBe(count)
})

test('HANDLES 15.2: a step that is busy is repeated; any other failure is thrown', () => {
  const { clock, failures, handle } = programSide({ kind: 'servo', value: 0 })
  const servo = servoOf(handle)
  clock.advance(100n * MS)
  servo.write(10)
  failures.push(new HardwareError('busy', 'not now'))
  clock.advance(500n * MS)
  expect(servo.value).toBe(10)
  servo.write(20)
  failures.push(new HardwareError('no-device', 'gone'))
  expect(() => clock.advance(500n * MS)).toThrow('gone')
  failures.push(new HardwareError('no-device', 'gone'))
  expect(() => servo.write(0)).toThrow('gone')
  expect(clock.due).toBe(null)
})

test('HANDLES 15.6: a rehearsal starts no motion', () => {
  const { clock, written, handle } = programSide({ kind: 'servo', value: 0 }, true)
  clock.advance(100n * MS)
  servoOf(handle).write(180)
  expect(written).toEqual([{ ms: 100, value: 2 }])
  clock.advance(1000n * MS)
  expect(written).toHaveLength(1)
  expect(clock.due).toBe(null)
})

test('HANDLES 15.3: the owner limits a brokered PWM too', async () => {
  const text = JSON.stringify({
    model: 'sim',
    handles: { lamp: { kind: 'pwm', line: 4, frequencyHz: 50, slew: 5, via: 'broker' } },
  })
  const entry = parseBoard(text, 'board.json').handles.lamp as PwmEntry
  let duty = 0
  const opened: OpenDevice = {
    source: { via: 'broker' },
    fds: [],
    value: () => duty,
    drive(to) {
      duty = to
    },
    close() {},
  }
  const context = { name: 'lamp', entry } as OpenContext<PwmEntry>
  const handle = new LinuxHandle(1, context, opened, { allowed: 1, closed() {} })
  handle.request(OP.set, encodeNumber(1), 1)
  expect(duty).toBeLessThan(1)
  await expect.poll(() => duty).toBe(1)
  handle.drive(0, 2)
  expect(duty).toBe(0)
  handle.close()
})

/** A simulated servo: the owner's side and the program's handle. */
function owned(slew = 100) {
  const text = JSON.stringify({
    model: 'sim',
    handles: { arm: { kind: 'servo', line: 18, slew, safe: 0, via: 'broker' } },
  })
  const entry = parseBoard(text, 'board.json').handles.arm
  if (entry === undefined) throw new Error('expected a handle')
  const clock = new VirtualClock(1n)
  const world = new World({ clock })
  const backend = new SimBackend({ world, folder: folder.path })
  const handle = backend.open('arm', 1, entry)
  backend.advance(1, ['arm'])
  const moves = () => world.trace.recent().filter(({ accepted }) => accepted)
  const shown = () => moves().map(({ ns, value }) => ({ ms: Number(ns) / 1e6, value }))
  const lease: Lease = { live: true, fence: 1 }
  const broker = {
    request: (_: number, op: number, fence: number, payload: Uint8Array) => handle.request(op, payload, fence),
  }
  const arm = adoptBrokered(grantOf(handle, handle.grant()), lease, broker, { clock }) as Servo
  return { clock, world, backend, handle, arm, moves, shown, value: () => world.pin('arm').value }
}

test('HANDLES 15.3: a program that bypasses its SDK moves no faster', () => {
  const { clock, world, shown, value } = owned()
  clock.advance(1000n * MS)
  for (let i = 0; i < 400; i++) {
    world.write('arm', i % 50 < 25 ? 180 : 0, 1)
    clock.advance(MS)
  }
  expect(burst(shown(), 100)).toBeLessThanOrEqual(4 + 1e-6)
  world.write('arm', 180, 1)
  clock.advance(3000n * MS)
  expect(value()).toBe(180)
})

test('HANDLES 15.3: the owner does not delay writes that the SDK has limited', () => {
  const { clock, arm, moves, value } = owned()
  clock.advance(500n * MS)
  arm.write(100)
  while (arm.value !== 100) {
    clock.advance(MS)
    // the owner is never behind: between two programs no motion is under way
    expect(value()).toBe(arm.value)
  }
  expect(moves().at(-1)).toMatchObject({ value: 100, fence: 1 })
  expect(clock.due).toBe(null)
})

test('HANDLES 15.3: when the fence rises, a motion ends after at most a burst', () => {
  const { clock, world, backend, moves, value } = owned()
  clock.advance(1000n * MS)
  world.write('arm', 180, 1)
  clock.advance(100n * MS)
  const before = value()
  backend.advance(2, ['arm'])
  clock.advance(1000n * MS)
  expect(value()).toBeCloseTo(before + 4)
  expect(moves().at(-1)).toMatchObject({ fence: 1 })
  expect(() => world.write('arm', 0, 1)).toThrow(HardwareError)
  world.write('arm', 0, 2)
  expect(moves().at(-1)).toMatchObject({ fence: 2 })
})

test('HANDLES 15.5: writes of the body are not limited', () => {
  const { clock, world, backend, handle, value } = owned()
  clock.advance(1000n * MS)
  world.write('arm', 180, 1)
  backend.advance(3, ['arm'])
  handle.drive(0, 3)
  expect(value()).toBe(0)
  clock.advance(1000n * MS)
  expect(value()).toBe(0)
  handle.close()
  expect(clock.due).toBe(null)
})
