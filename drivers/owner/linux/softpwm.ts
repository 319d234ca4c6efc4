/**
 * Software PWM: a line of the GPIO character device whose edges a thread of this process makes (HANDLES 19).
 *
 * Invariant: a level is written by the caller itself, at once, and is confirmed only when the thread can write no more
 * edge of that line (test/drivers/softpwm.test.ts). The guard stops the thread by a byte that both can read.
 */
import { closeSync, writeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import type { OutputEntry, PwmEntry } from '../../board/types.ts'
import { HardwareError } from '../../errors.ts'
import { periodNs } from '../../program/servo.ts'
import type { OpenContext, Opened } from './device.ts'
import { openOutput } from './lines.ts'
import type { LinuxSystem } from './system.ts'
import { MOST_WAVES, Waves } from './waves.ts'
import type { FromWaveThread, WaveThreadData } from './wavethread.ts'

/** ms that a level waits for the thread, which writes for some microseconds, or has no turn meanwhile. */
const QUIET_MS = 20
/** ms between the end of a thread and the next one. */
const AGAIN_MS = 1000
/** The thread keeps nothing but numbers. */
const THREAD_LIMITS = { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 4, stackSizeMb: 1 }
const FIFO_MOST = 99
const MFD_CLOEXEC = 1

export interface SoftPwmOptions {
  /** SCHED_FIFO priority of programs; the thread has the next higher one, as the guard has. 0 is off. */
  readonly realtime: number
  /** wavethread.js. */
  readonly thread?: URL | undefined
  readonly note: (text: string) => void
  /** As in {@link WaveThreadData}. */
  readonly request?: number
}

/** A line with a wave. */
interface Held {
  readonly name: string
  readonly line: Opened
  readonly stopFd: number
  readonly wave: number
  readonly period: number
  readonly safe: 0 | 1
  duty: number
}

/** All software PWM of a board, and its thread, which begins with the first of them. */
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
  open(context: OpenContext<PwmEntry>, openLine = openOutput): Opened {
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
        // now, so that the first pulse waits for nothing
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

  #add({ name, entry, kept }: OpenContext<PwmEntry>, line: Opened, lineFd: number, stopFd: number): Held {
    const period = periodNs(entry.frequencyHz)
    const safe = safeLevel(entry)
    const wave = this.#waves.add({ lineFd, stopFd, periodNs: period, safe })
    if (wave === null) throw new HardwareError('busy', `${name}: there are ${MOST_WAVES} software PWM already`)
    // The wave of an adopted line ended with the process that made it: what the line is at counts (HANDLES 19.5).
    const duty = kept === undefined ? 0 : (line.value?.() ?? 0)
    const held: Held = { name, line, stopFd, wave, period, safe, duty }
    this.#held.set(lineFd, held)
    this.#waves.hold(wave, duty === 1 ? 1 : 0)
    return held
  }

  #opened(held: Held, fds: readonly number[]): Opened {
    return {
      source: { via: 'broker' },
      fds,
      value: () => held.duty,
      drive: (duty) => this.#drive(held, duty),
      raised: () => {
        // What the guard has stopped goes on only after the body has held a level, too (HANDLES 19.6).
        if (this.#waves.isHeld(held.wave)) writeSync(held.stopFd, Uint8Array.of(0), 0, 1, 0)
      },
      lateness: () => this.#waves.lateness(),
      close: () => {
        const quiet = this.#remove(fds[0] as number, held)
        // The numbers would be given to other files, to which a thread that had no turn would write.
        if (!quiet) return this.#options.note(`${held.name}: its thread did not stop, so its line stays open`)
        held.line.close()
        closeSync(held.stopFd)
      },
    }
  }

  /** The wave stops with the level that the line has then. False: not confirmed. */
  #remove(lineFd: number, { wave }: Held): boolean {
    this.#held.delete(lineFd)
    if (!this.#waves.isHeld(wave)) this.#waves.hold(wave, 0)
    const quiet = this.#waves.isQuiet(wave, QUIET_MS)
    if (quiet) this.#waves.remove(wave)
    if (this.#held.size === 0) this.#end()
    return quiet
  }

  /** A level is written here and now; the thread is only waited for so that it writes nothing later. */
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

  /** Throws when the last one has ended just now: one that cannot run is not started for each write. */
  #start(): void {
    if (this.#worker !== null) return
    if (performance.now() - this.#endedAt < AGAIN_MS) {
      throw new HardwareError('no-device', 'the thread of software PWM has ended: the log of the runtime says why')
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
    worker.on('message', (message: FromWaveThread) => this.#hear(message))
    worker.once('exit', () => {
      if (this.#worker === worker) this.#ended(why)
    })
    worker.unref()
  }

  /** No handle is left. What comes next has memory, and a thread, of its own: this one may take a while to see it. */
  #end(): void {
    this.#waves.end()
    this.#waves = new Waves()
    this.#worker = null
  }

  #hear(message: FromWaveThread): void {
    if (message.t === 'note') return this.#options.note(message.text)
    const held = this.#held.get(message.lineFd)
    if (held === undefined) return
    this.#options.note(`${held.name}: its line failed, so it has no pulses: ${message.message}`)
    this.#toSafe(held)
  }

  /** HANDLES 19.5: without the thread a line would stay at either level. The next pulse starts a new one. */
  #ended(why: string): void {
    this.#worker = null
    this.#endedAt = performance.now()
    this.#waves.ended()
    const waves = [...this.#held.values()].filter(({ wave }) => !this.#waves.isHeld(wave))
    const names = waves.map(({ name }) => name).join(', ') || 'none had pulses'
    this.#options.note(`the thread of software PWM has ended (${why}); driven to their safe levels: ${names}`)
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

/** At its level from the request on; a line that is to have pulses begins at its safe level. */
function outputOf({ entry, ...context }: OpenContext<PwmEntry>): OpenContext<OutputEntry> {
  const { line, initial } = entry
  const safe = safeLevel(entry)
  const level = initial === 0 || initial === 1 ? initial : safe
  const fixed = { kind: 'output', activeLow: false, drive: 'push-pull', driver: 'cdev', via: 'broker' } as const
  return { ...context, entry: { ...fixed, line, initial: level, safe } }
}

/** memfd_create(2): a byte in memory that the guard, and the next body, have as a descriptor. */
function stopByte(system: LinuxSystem): number {
  const fd = system.bind('memfd_create', 'int', ['void*', 'uint'])(Buffer.from('medulla-stop\0'), MFD_CLOEXEC)
  writeSync(fd, Uint8Array.of(0), 0, 1, 0)
  return fd
}

function keptStopByte(name: string, [, fd]: readonly number[]): number {
  if (fd === undefined) throw new HardwareError('no-device', `${name}: no stop byte was kept`)
  return fd
}
