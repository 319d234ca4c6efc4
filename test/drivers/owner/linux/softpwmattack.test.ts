/** Software PWM against a program that speaks the broker's protocol itself. An eventfd stands for the line, as in softpwm.test.ts. */
import { closeSync, constants, existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { parseBoard } from '../../../../drivers/board/board.ts'
import type { OutputEntry, PwmEntry } from '../../../../drivers/board/types.ts'
import { HardwareError } from '../../../../drivers/errors.ts'
import { answer } from '../../../../drivers/owner/broker.ts'
import { LinuxHandle, type OpenContext, type OpenDevice } from '../../../../drivers/owner/linux/device.ts'
import { EdgeReader } from '../../../../drivers/owner/linux/edges.ts'
import { SoftPwm } from '../../../../drivers/owner/linux/softpwm.ts'
import { loadSystem } from '../../../../drivers/owner/linux/system.ts'
import { Waves } from '../../../../drivers/owner/linux/waves.ts'
import { encodeNumber, OP } from '../../../../drivers/program/broker/protocol.ts'
import { lineValues } from '../../../../drivers/program/inherit/line.ts'

const THREAD = new URL('../../../../dist/drivers/owner/linux/wavethread.js', import.meta.url)
if (!existsSync(THREAD)) throw new Error(`expected ${THREAD.pathname}: node test/run.mjs build`)
/** asm-generic/ioctls.h, asm-generic/fcntl.h */
const [FIONBIO, F_GETFL] = [0x5421, 3]
const COUNT = 8

const owner = { allowed: 0, closed: () => {} }
let handles: LinuxHandle[] = []
let lines: number[] = []
afterEach(() => {
  for (const handle of handles) handle.close()
  handles = []
  lines = []
})

function openLine({ entry }: OpenContext<OutputEntry>): OpenDevice {
  const system = loadSystem()
  const fd = system.bind('eventfd', 'int', ['uint', 'int'])(0, 0)
  lines.push(fd)
  const drive = (level: number) => void system.ioctl(fd, FIONBIO, lineValues(level))
  drive(entry.initial)
  return { source: { via: 'broker' }, fds: [fd], value: () => levelOf(fd), drive, close: () => closeSync(fd) }
}

const levelOf = (fd: number): 0 | 1 => {
  const flags = loadSystem().bind('fcntl', 'int', ['int', 'int', 'long'])(fd, F_GETFL, 0)
  return (flags & constants.O_NONBLOCK) === 0 ? 0 : 1
}

/** Eight handles at 200 Hz; the program may use fencing number 1. */
function eight(): LinuxHandle[] {
  const system = loadSystem()
  const all = new SoftPwm({ realtime: 0, thread: THREAD, request: FIONBIO, note: () => {} })
  const wave = { kind: 'pwm', line: 5, frequencyHz: 200, driver: 'software', safe: 0 }
  const board = parseBoard(JSON.stringify({ model: 'pi4', realtime: 50, handles: { fan: wave } }), 'board.json')
  const entry = board.handles.fan as PwmEntry
  owner.allowed = 1
  handles = Array.from({ length: COUNT }, (_, index) => {
    const shared = {
      board: { model: 'pi4', chip: 'pinctrl-bcm2711' },
      system,
      edges: new EdgeReader(system, () => {}),
    } as const
    const context = { name: `fan${index}`, entry, ...shared }
    return new LinuxHandle(index, context, all.open(context, openLine), owner)
  })
  for (const handle of handles) handle.raise(1)
  return handles
}

const set = (id: number, payload: Uint8Array, fence = 1, op: number = OP.set) =>
  answer({ id, op, fence, payload }, new Map(handles.map((handle) => [handle.id, handle])), 1)

describe.runIf(process.platform === 'linux')('software PWM against raw requests', () => {
  test('HANDLES 6.4: a duty cycle that is none is refused, and changes neither value nor line', async () => {
    eight()
    const bad = [Number.NaN, -1, -Number.MIN_VALUE, 1 + Number.EPSILON, 1e308, Number.POSITIVE_INFINITY, -1e308]
    for (const value of bad) expect(set(0, encodeNumber(value)), String(value)).toMatchObject({ kind: 'other' })
    for (const length of [0, 1, 7]) expect(set(0, new Uint8Array(length))).toMatchObject({ kind: 'other' })
    for (const op of [0, OP.i2cWrite, OP.spiTransfer, 200, 255])
      expect(set(0, encodeNumber(0.5), 1, op)).toBeInstanceOf(HardwareError)
    expect(set(COUNT, encodeNumber(0.5))).toMatchObject({ kind: 'revoked' })
    for (const fence of [0, 2, 0xffff_ffff]) expect(set(0, encodeNumber(0.5), fence)).toMatchObject({ kind: 'revoked' })
    await sleep(20)
    expect([handles[0]?.value(), levelOf(lines[0] as number), handles[0]?.info().lateness?.edges]).toEqual([0, 0, 0])
    // the nearest to a level are levels, and -0 is 0
    for (const [value, level] of [
      [Number.MIN_VALUE, 0],
      [1e-12, 0],
      [1 - 1e-12, 1],
      [-0, 0],
    ] as const) {
      expect(set(0, encodeNumber(value))).toBeInstanceOf(Uint8Array)
      expect(levelOf(lines[0] as number)).toBe(level)
    }
  })

  test('HANDLES 6.7: eight lines that are written without pause stay at their safe levels after a stop', async () => {
    eight()
    for (let round = 0; round < 20; round++) {
      const fence = 1
      const end = performance.now() + 15
      for (let n = 0; performance.now() < end; n++)
        for (let id = 0; id < COUNT; id++) set(id, encodeNumber([0, 0.3, 1, 0.7][(n + id) % 4] as number), fence)
      // as HardwareOwner drives safe levels: a fencing number of the body's own
      for (const handle of handles) handle.raise(2)
      for (const handle of handles) handle.drive(0, 2)
      expect(lines.map(levelOf)).toEqual(Array(COUNT).fill(0))
      const stop = performance.now() + 15
      while (performance.now() < stop) {
        for (let id = 0; id < COUNT; id++) expect(set(id, encodeNumber(0.9))).toMatchObject({ kind: 'revoked' })
        expect(lines.map(levelOf)).toEqual(Array(COUNT).fill(0))
        await sleep(1)
      }
      for (const handle of handles) handle.close()
      handles = []
      lines = []
      eight()
    }
  })
})

test('HANDLES 19.2: a new duty cycle of a wave that runs does not wake the thread, however often it comes', () => {
  const waves = new Waves()
  const [wakes] = [new Int32Array(waves.memory)]
  const wave = waves.add({ lineFd: 7, stopFd: 8, periodNs: 5_000_000, safe: 0 }) as number
  waves.pulse(wave, 1_000_000)
  const begun = wakes[0]
  for (let n = 1; n < 10_000; n++) waves.pulse(wave, n * 100)
  expect(wakes[0]).toBe(begun)
  waves.hold(wave, 0)
  waves.pulse(wave, 1_000_000)
  expect(wakes[0]).toBe((begun ?? 0) + 2)
})
