/**
 * Software PWM with its real thread. An eventfd stands for the line: the ioctl FIONBIO takes a level as
 * GPIO_V2_LINE_SET_VALUES does, and the flag O_NONBLOCK shows it. test/kernel/softpwm.rig.ts has tests with real lines.
 */
import { closeSync, constants, existsSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { parseBoard } from '../../../../drivers/board/board.ts'
import type { OutputEntry, PwmEntry } from '../../../../drivers/board/types.ts'
import { HardwareError } from '../../../../drivers/errors.ts'
import type { OpenContext, OpenDevice } from '../../../../drivers/owner/linux/device.ts'
import { EdgeReader } from '../../../../drivers/owner/linux/edges.ts'
import { safeCalls } from '../../../../drivers/owner/linux/safe.ts'
import { SoftPwm } from '../../../../drivers/owner/linux/softpwm.ts'
import { loadSystem } from '../../../../drivers/owner/linux/system.ts'
import { WaveLoop, Waves } from '../../../../drivers/owner/linux/waves.ts'
import { lineValues } from '../../../../drivers/program/inherit/line.ts'
import { eventually } from '../../../e2e/eventually.ts'
import { openFds } from '../../host.ts'

const THREAD = new URL('../../../../dist/drivers/owner/linux/wavethread.js', import.meta.url)
// without its file the thread would end at once, and the tests would wait for pulses
if (!existsSync(THREAD)) throw new Error(`expected ${THREAD.pathname}: node test/run.mjs build`)
/** asm-generic/ioctls.h */
const FIONBIO = 0x5421
/** asm-generic/fcntl.h */
const F_GETFL = 3

const notes: string[] = []
let open: OpenDevice[] = []
afterEach(() => {
  for (const one of open) one.close()
  open = []
  notes.length = 0
})

function entryOf(about: object = {}): PwmEntry {
  const fan = { kind: 'pwm', line: 5, frequencyHz: 200, driver: 'software', safe: 0, ...about }
  const board = parseBoard(JSON.stringify({ model: 'pi4', realtime: 50, handles: { fan } }), 'board.json')
  return board.handles.fan as PwmEntry
}

const lineFd = (): number => loadSystem().bind('eventfd', 'int', ['uint', 'int'])(0, 0)

const fcntl = () => loadSystem().bind('fcntl', 'int', ['int', 'int', 'long'])
const levelOf = (fd: number): 0 | 1 => ((fcntl()(fd, F_GETFL, 0) & constants.O_NONBLOCK) === 0 ? 0 : 1)

function openLine({ name, entry, kept }: OpenContext<OutputEntry>): OpenDevice {
  const system = loadSystem()
  const fd = kept?.fds[0] ?? lineFd()
  const write = (level: number) => {
    try {
      system.ioctl(fd, FIONBIO, lineValues(level))
    } catch (cause) {
      throw new HardwareError('other', `${name}: ${(cause as Error).message}`, { cause })
    }
  }
  if (kept === undefined) write(entry.initial)
  return {
    source: { via: 'broker' },
    fds: [fd],
    value: () => levelOf(fd),
    drive: write,
    close: () => closeSync(fd),
  }
}

/** The software PWM of one board. */
function softPwm(about: { thread?: URL } = {}): SoftPwm {
  const note = (text: string) => notes.push(text)
  return new SoftPwm({ realtime: 0, thread: THREAD, request: FIONBIO, note, ...about })
}

function opened(all: SoftPwm, entry: PwmEntry, kept?: OpenContext['kept']): OpenDevice {
  const system = loadSystem()
  const board = { model: 'pi4', chip: 'pinctrl-bcm2711' } as const
  const context = { name: 'fan', entry, board, system, edges: new EdgeReader(system, () => {}) }
  const one = all.open({ ...context, ...(kept === undefined ? {} : { kept }) }, openLine)
  open.push(one)
  return one
}

const drive = (one: OpenDevice, value: number): void => one.drive?.(value)
/** On a busy machine the thread may not confirm in time: the line is at its level then, and the next try asks again (HANDLES 19.4). */
function driveSurely(one: OpenDevice, value: number): void {
  for (;;) {
    try {
      return drive(one, value)
    } catch (error) {
      if (!(error instanceof HardwareError) || error.kind !== 'busy') throw error
    }
  }
}
const edges = (one: OpenDevice): number => one.lateness?.().edges ?? 0
const line = (one: OpenDevice): number => one.fds[0] as number

/** Waits until the line has pulses: the number of edges rises, and both levels were seen. */
async function hasPulses(one: OpenDevice): Promise<void> {
  const before = edges(one)
  const seen = new Set<number>()
  // at varying times, since polls of `eventually` would be in step with the period
  while (seen.size < 2 || edges(one) <= before + 2) {
    seen.add(levelOf(line(one)))
    await sleep(1)
  }
}

/** Checks for some periods that the level does not change. */
async function stays(one: OpenDevice, level: 0 | 1, ms = 40): Promise<void> {
  const end = performance.now() + ms
  while (performance.now() < end) {
    expect(levelOf(line(one))).toBe(level)
    await sleep(1)
  }
}

/** Does what the guard does with its copies of the descriptors (runtime/guard/main.ts). */
function asGuard(one: OpenDevice, entry: PwmEntry): void {
  for (const { fd, bytes, request, at } of safeCalls(entry, { fds: one.fds, fence: 0 })) {
    if (request === undefined) writeSync(one.fds[fd] as number, Buffer.from(bytes, 'hex'), 0, 1, at ?? null)
    else loadSystem().ioctl(one.fds[fd] as number, FIONBIO, Buffer.from(bytes, 'hex'))
  }
}

/** Runs the thread's loop and calls a function just before each of its writes. Returns the levels in order. */
function interrupted(safe: 0 | 1, acts: readonly ((waves: Waves, wave: number, stopFd: number) => void)[]): unknown[] {
  const waves = new Waves()
  const stopFd = loadSystem().bind('memfd_create', 'int', ['void*', 'uint'])(Buffer.from('stop\0'), 0)
  const wave = waves.add({ lineFd: 7, stopFd, periodNs: 1_000_000, safe }) as number
  const levels: unknown[] = []
  const ioctl = (fd: number, request: number, bytes: Uint8Array) => {
    expect([fd, request, waves.isBusy(wave), waves.isQuiet(wave, 0)]).toEqual([7, FIONBIO, true, false])
    acts[levels.length]?.(waves, wave, stopFd)
    levels.push(bytes[0])
    // after the edge that is being written
    waves.end()
    return 0
  }
  waves.pulse(wave, 500_000)
  new WaveLoop(waves.memory, { ioctl }, FIONBIO, (_, error) => levels.push(error)).run()
  expect(waves.isQuiet(wave, 0)).toBe(true)
  closeSync(stopFd)
  return levels
}

test.runIf(process.platform === 'linux')(
  'HANDLES 19.4: what is asked for while the thread writes is what it writes last',
  () => {
    const hold = (level: 0 | 1) => (waves: Waves, wave: number) => waves.hold(wave, level)
    const stop = (_: Waves, __: number, fd: number) => void writeSync(fd, Uint8Array.of(1), 0, 1, 0)
    // the first edge rises
    expect(interrupted(1, [hold(0)])).toEqual([1, 0])
    expect(interrupted(0, [hold(1)])).toEqual([1, 1])
    expect(interrupted(0, [hold(0), hold(1), hold(0)])).toEqual([1, 0, 1, 0])
    expect(interrupted(0, [stop])).toEqual([1, 0])
    expect(interrupted(1, [stop])).toEqual([1, 1])
    expect(interrupted(1, [stop, hold(0)])).toEqual([1, 1, 0])
    expect(interrupted(0, [])).toEqual([1])
  },
)

describe.runIf(process.platform === 'linux')('software PWM', () => {
  test('HANDLES 19.4: a level is driven at once also when the thread is not scheduled, and then throws busy', async () => {
    // the thread is about to write the first wave, and never does
    const stuck = new URL(
      `data:text/javascript,${encodeURIComponent(
        `import { workerData } from 'node:worker_threads'
         Atomics.store(new Int32Array(workerData.memory), 1, 1)
         Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2000)`,
      )}`,
    )
    const fan = opened(softPwm({ thread: stuck }), entryOf({ initial: 0.5 }))
    await eventually(() => {
      try {
        drive(fan, 1)
        return false
      } catch (error) {
        expect((error as Error).message).toBe('fan: is at 1, but its thread did not stop in 20 ms')
        return true
      }
    })
    expect([levelOf(line(fan)), fan.value?.()]).toEqual([1, 1])
    fan.close()
    open = []
    expect(notes).toEqual(['fan: its thread did not stop, so its line stays open'])
    expect(levelOf(line(fan))).toBe(1)
    for (const fd of fan.fds) closeSync(fd)
  })

  test('HANDLES 19.2: duty cycles between 0 and 1 are pulses, 0 and 1 are levels without an edge', async () => {
    const fan = opened(softPwm(), entryOf())
    await stays(fan, 0)
    expect([fan.value?.(), edges(fan)]).toEqual([0, 0])
    drive(fan, 0.5)
    await hasPulses(fan)
    expect(fan.value?.()).toBe(0.5)
    for (const level of [1, 0] as const) {
      drive(fan, level)
      expect(levelOf(line(fan))).toBe(level)
      const before = edges(fan)
      await stays(fan, level)
      expect(edges(fan)).toBe(before)
    }
    const { p50Us = 0, p99Us = 0, maxUs = 0 } = fan.lateness?.() ?? {}
    expect(p50Us).toBeLessThanOrEqual(p99Us)
    expect(p99Us).toBeLessThanOrEqual(maxUs)
    expect(notes).toEqual([])
  })

  test('a pulse has the requested length, within the lateness of its edges', async () => {
    const fan = opened(softPwm(), entryOf({ frequencyHz: 20, initial: 0.25 }))
    await hasPulses(fan)
    let high = 0
    const looks = 4000
    for (let n = 0; n < looks; n++) {
      high += levelOf(line(fan))
      if (n % 4 === 0) await sleep(1)
    }
    const { maxUs, missed } = fan.lateness?.() ?? { maxUs: 0, missed: 0 }
    // of a period of 50 ms; missed periods are those in which the thread was not scheduled
    if (missed === 0) expect(Math.abs(high / looks - 0.25)).toBeLessThan(0.1 + (2 * maxUs) / 50_000)
  })

  test('HANDLES 19.4: after a level was driven no edge follows, wherever the thread was', async () => {
    const all = softPwm()
    const fan = opened(all, entryOf())
    const pump = opened(all, entryOf())
    drive(pump, 0.3)
    for (let n = 0; n < 300; n++) {
      drive(fan, 0.1 + (n % 9) / 10)
      // at every point of the period, also right after the thread was woken
      const end = performance.now() + (n % 11) * 0.5
      while (performance.now() < end);
      const level = (n % 2) as 0 | 1
      driveSurely(fan, level)
      for (let look = 0; look < 20; look++) expect(levelOf(line(fan))).toBe(level)
      if (n % 10 === 0) await stays(fan, level, 12)
    }
    await hasPulses(pump)
  })

  test("HANDLES 19.6: only a new writer, after a level, lifts the guard's stop", async () => {
    const entry = entryOf({ safe: 1 })
    const fan = opened(softPwm(), entry)
    for (let n = 0; n < 20; n++) {
      drive(fan, 0.5)
      await hasPulses(fan)
      asGuard(fan, entry)
      // the thread itself corrects an edge that was under way
      await eventually(() => levelOf(line(fan)) === 1)
      await stays(fan, 1, 15)
      // neither the same program, nor a new writer before the body has held a level
      drive(fan, 0.2)
      fan.raised?.()
      await stays(fan, 1, 15)
      driveSurely(fan, 1)
      drive(fan, 0.4)
      await stays(fan, 1, 15)
      driveSurely(fan, 1)
      fan.raised?.()
    }
    drive(fan, 0.4)
    await hasPulses(fan)
  })

  test('HANDLES 19.5: when the thread ends, the line goes to its safe level, and a later pulse starts a thread', async () => {
    const broken = new URL('data:text/javascript,throw new Error("out of order")')
    const fan = opened(softPwm({ thread: broken }), entryOf({ safe: 1, initial: 0.5 }))
    await eventually(() => notes.length > 0)
    expect(notes[0]).toBe('the software PWM thread has ended (out of order); driven to their safe levels: fan')
    expect([fan.value?.(), levelOf(line(fan))]).toEqual([1, 1])
    expect(() => drive(fan, 0.5)).toThrow('the software PWM thread has ended: see the log of the runtime')
    expect(fan.value?.()).toBe(1)
    drive(fan, 0)
    expect([fan.value?.(), levelOf(line(fan))]).toEqual([0, 0])
    // a second later a new thread starts
    await eventually(() => {
      try {
        drive(fan, 0.5)
        return true
      } catch {
        return false
      }
    })
    await eventually(() => notes.length > 1)
    expect([fan.value?.(), levelOf(line(fan))]).toEqual([1, 1])
  })

  test('a line that fails is logged, and other lines keep their pulses', async () => {
    const all = softPwm()
    const fan = opened(all, entryOf({ initial: 0.5 }))
    const pump = opened(all, entryOf({ initial: 0.5 }))
    await hasPulses(fan)
    closeSync(line(fan))
    await eventually(() => notes.length > 1)
    expect(notes[0]).toMatch(/^fan: its line failed, and its pulses have stopped: EBADF/)
    expect(notes[1]).toMatch(/^fan: cannot be driven to its safe level: fan: EBADF/)
    await hasPulses(pump)
    open = [pump]
  })

  test('HANDLES 3.9: a kept line is adopted at its level, and nothing is written', async () => {
    const entry = entryOf()
    const first = opened(softPwm(), entry)
    drive(first, 1)
    asGuard(first, entryOf({ safe: 1 }))
    const fds = first.fds.map((fd) => loadSystem().duplicate?.(fd) ?? -1)
    const next = opened(softPwm(), entry, { fds, fence: 3, value: 0 })
    expect([next.value?.(), levelOf(line(next))]).toEqual([1, 1])
    drive(next, 0.5)
    await hasPulses(next)
  })

  test('HANDLES 19.3: eight handles fit, and a closed one makes room and leaves no descriptor', async () => {
    const before = openFds()
    const all = softPwm()
    for (let round = 0; round < 2; round++) {
      const eight = Array.from({ length: 8 }, () => opened(all, entryOf({ initial: 0.5 })))
      expect(() => opened(all, entryOf())).toThrow('fan: there are 8 software PWM already')
      for (const one of eight) await hasPulses(one)
      for (const one of eight) one.close()
      open = []
    }
    // threads of other tests may have run too
    await eventually(() => openFds() <= before)
    expect(notes).toEqual([])
  })
})
