/**
 * Software PWM: a line of the GPIO character device whose edges a thread of this process makes (HANDLES 19).
 *
 * Invariant: a level is written at once, by the caller, and the call returns without an error only when the thread can
 * write no further edge of that line (test/drivers/owner/linux/softpwm.test.ts). The guard stops the thread through a shared byte.
 */
import { closeSync, writeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import type { OutputEntry, PwmEntry } from '../../board/types.ts'
import { HardwareError } from '../../errors.ts'
import { periodNs } from '../../program/servo.ts'
import type { OpenContext, OpenDevice } from './device.ts'
import { openOutput } from './lines.ts'
import type { LinuxSystem } from './system.ts'
import { MOST_WAVES, Waves } from './waves.ts'
import type { FromWaveThread, WaveThreadData } from './wavethread.ts'

/** ms that a write of a level waits for the thread: an edge takes microseconds, but the thread may not be scheduled. */
const QUIET_MS = 20
/** ms after the end of a thread before a new one is started. */
const RESTART_MS = 1000
/** Small, since the thread keeps only numbers. */
const THREAD_LIMITS = { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 4, stackSizeMb: 1 }
const FIFO_MOST = 99
const MFD_CLOEXEC = 1

export interface SoftPwmOptions {
  /** SCHED_FIFO priority of programs; the thread, as the guard, has one more. 0 is off. */
  readonly realtime: number
  /** Location of wavethread.js. */
  readonly thread?: URL | undefined
  readonly note: (text: string) => void
  /** As in {@link WaveThreadData}. */
  readonly request?: number
}

/** An open handle: its line, and the number of its wave. */
interface Held {
  readonly name: string
  readonly line: OpenDevice
  readonly stopFd: number
  readonly wave: number
  readonly period: number
  readonly safe: 0 | 1
  duty: number
}

/** All software PWM of a board, and the thread that makes the edges; it starts with the first handle. */
export class SoftPwm {
  readonly #options: SoftPwmOptions
  #waves = new Waves()
  readonly #held = new Map<number, Held>()
  #worker: Worker | null = null
  #endedAt = Number.NEGATIVE_INFINITY

  constructor(options: SoftPwmOptions) {
    this.#options = options
  }

  /** `openLine` requests or adopts the line. */
  open(context: OpenContext<PwmEntry>, openLine = openOutput): OpenDevice {
    const { entry, kept } = context
    const line = openLine(outputOf(context))
    const fds = [...line.fds]
    try {
      fds[1] = kept === undefined ? stopByte(context.system) : keptStopByte(context.name, kept.fds)
      const held = this.#add(context, line, fds[0] as number, fds[1])
      const opened = this.#opened(held, fds)
      try {
        opened.raised?.()
        if (kept === undefined) this.#drive(held, entry.initial)
        // start the thread now, so that the first pulse does not wait for it
        this.#start()
      } catch (error) {
        this.#remove(fds[0] as number, held)
        throw error
      }
      return opened
    } catch (error) {
      if (kept === undefined) for (const fd of fds) closeSync(fd)
      throw error
    }
  }

  #add({ name, entry, kept }: OpenContext<PwmEntry>, line: OpenDevice, lineFd: number, stopFd: number): Held {
    const period = periodNs(entry.frequencyHz)
    const safe = safeLevel(entry)
    const wave = this.#waves.add({ lineFd, stopFd, periodNs: period, safe })
    if (wave === null) throw new HardwareError('busy', `${name}: there are ${MOST_WAVES} software PWM already`)
    // The pulses of an adopted line ended with their process: its duty cycle is the level it has (HANDLES 19.5).
    const duty = kept === undefined ? 0 : (line.value?.() ?? 0)
    const held: Held = { name, line, stopFd, wave, period, safe, duty }
    this.#held.set(lineFd, held)
    this.#waves.hold(wave, duty === 1 ? 1 : 0)
    return held
  }

  #opened(held: Held, fds: readonly number[]): OpenDevice {
    return {
      source: { via: 'broker' },
      fds,
      value: () => held.duty,
      drive: (duty) => this.#drive(held, duty),
      raised: () => {
        // The guard's stop is lifted only while the body holds the line at a level (HANDLES 19.6).
        if (this.#waves.isHeld(held.wave)) writeSync(held.stopFd, Uint8Array.of(0), 0, 1, 0)
      },
      lateness: () => this.#waves.lateness(),
      close: () => {
        const quiet = this.#remove(fds[0] as number, held)
        // Closed descriptors are reused for other files, and a thread that runs late would write to those.
        if (!quiet) return this.#options.note(`${held.name}: its thread did not stop, so its line stays open`)
        held.line.close()
        closeSync(held.stopFd)
      },
    }
  }

  /** Stops the wave at the line's present level. False: the thread did not confirm it. */
  #remove(lineFd: number, { wave }: Held): boolean {
    this.#held.delete(lineFd)
    if (!this.#waves.isHeld(wave)) this.#waves.hold(wave, 0)
    const quiet = this.#waves.isQuiet(wave, QUIET_MS)
    if (quiet) this.#waves.remove(wave)
    if (this.#held.size === 0) this.#end()
    return quiet
  }

  /** Writes a level at once, then waits for the thread, which might be about to write an edge. */
  #drive(held: Held, duty: number): void {
    const { name, line, wave, period } = held
    const onNs = Math.round(duty * period)
    if (onNs > 0 && onNs < period) {
      this.#start()
      held.duty = duty
      return this.#waves.pulse(wave, onNs)
    }
    held.duty = duty
    const level = onNs > 0 ? 1 : 0
    this.#waves.hold(wave, level)
    const busy = this.#waves.isBusy(wave)
    line.drive?.(level)
    if (!busy) return
    const quiet = this.#waves.isQuiet(wave, QUIET_MS)
    line.drive?.(level)
    if (!quiet)
      throw new HardwareError('busy', `${name}: is at ${level}, but its thread did not stop in ${QUIET_MS} ms`)
  }

  /** Throws shortly after a thread has ended, so that a thread that cannot run is not started for every write. */
  #start(): void {
    if (this.#worker !== null) return
    if (performance.now() - this.#endedAt < RESTART_MS) {
      throw new HardwareError('no-device', 'the software PWM thread has ended: see the log of the runtime')
    }
    const { realtime, thread = new URL('./wavethread.js', import.meta.url), request } = this.#options
    const priority = realtime === 0 ? 0 : Math.min(FIFO_MOST, realtime + 1)
    const data: WaveThreadData = { memory: this.#waves.memory, priority, ...(request === undefined ? {} : { request }) }
    const worker = new Worker(thread, { workerData: data, resourceLimits: THREAD_LIMITS, env: {} })
    this.#worker = worker
    let why = 'it returned'
    worker.on('error', (error) => {
      why = error.message
    })
    worker.on('message', (message: FromWaveThread) => this.#onMessage(message))
    worker.once('exit', () => {
      if (this.#worker === worker) this.#onThreadExit(why)
    })
    worker.unref()
  }

  /** Ends the thread when no handle is left. Later handles get new memory, as the old thread may see the end late. */
  #end(): void {
    this.#waves.end()
    this.#waves = new Waves()
    this.#worker = null
  }

  #onMessage(message: FromWaveThread): void {
    if (message.t === 'note') return this.#options.note(message.text)
    const held = this.#held.get(message.lineFd)
    if (held === undefined) return
    this.#options.note(`${held.name}: its line failed, and its pulses have stopped: ${message.message}`)
    this.#toSafe(held)
  }

  /** Drives the safe levels, since lines now keep any level (HANDLES 19.5). The next pulse starts a new thread. */
  #onThreadExit(why: string): void {
    this.#worker = null
    this.#endedAt = performance.now()
    this.#waves.ended()
    const waves = [...this.#held.values()].filter(({ wave }) => !this.#waves.isHeld(wave))
    const names = waves.map(({ name }) => name).join(', ') || 'none had pulses'
    this.#options.note(`the software PWM thread has ended (${why}); driven to their safe levels: ${names}`)
    for (const held of waves) this.#toSafe(held)
  }

  #toSafe(held: Held): void {
    try {
      this.#drive(held, held.safe)
    } catch (error) {
      this.#options.note(`${held.name}: cannot be driven to its safe level: ${(error as Error).message}`)
    }
  }
}

const safeLevel = ({ safe }: PwmEntry): 0 | 1 => (safe === 1 ? 1 : 0)

/** The line as an output, at its initial level. A line that starts with pulses is requested at its safe level. */
function outputOf({ entry, ...context }: OpenContext<PwmEntry>): OpenContext<OutputEntry> {
  const { line, initial } = entry
  const safe = safeLevel(entry)
  const level = initial === 0 || initial === 1 ? initial : safe
  const fixed = { kind: 'output', activeLow: false, drive: 'push-pull', driver: 'cdev', via: 'broker' } as const
  return { ...context, entry: { ...fixed, line, initial: level, safe } }
}

/** The stop byte: memory that the guard and the next body share through a descriptor (memfd_create(2)). */
function stopByte(system: LinuxSystem): number {
  const fd = system.bind('memfd_create', 'int', ['void*', 'uint'])(Buffer.from('medulla-stop\0'), MFD_CLOEXEC)
  writeSync(fd, Uint8Array.of(0), 0, 1, 0)
  return fd
}

function keptStopByte(name: string, [, fd]: readonly number[]): number {
  if (fd === undefined) throw new HardwareError('no-device', `${name}: no stop byte was kept`)
  return fd
}
