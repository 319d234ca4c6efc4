/**
 * The loop of the software PWM thread, and the memory that the thread shares with the body (HANDLES 19).
 *
 * Invariant: after the body has stored a level for a wave, and {@link Waves.isQuiet} has returned true or the stop byte
 * is 1, the last write of the thread to that line is the stored level (test/drivers/owner/linux/softpwm.test.ts).
 */
import { readSync } from 'node:fs'
import { lineValues } from '../../program/inherit/line.ts'
import type { System } from '../../program/inherit/system.ts'
import type { Lateness } from '../backend.ts'

export const MOST_WAVES = 8

/** Common words. WAKE changes when the thread has to look again; BUSY is the wave it may be writing, counted from 1. */
const WAKE = 0
const BUSY = 1
const END = 2
const EDGES = 3
const MISSED = 4
const MAX_US = 5
const HEAD = 6
/** Words of each wave. A period of 0 marks a free slot. */
const LINE_FD = 0
const STOP_FD = 1
const PERIOD_NS = 2
const ON_NS = 3
const SAFE = 4
const WAVE_WORDS = 5
const COUNTS = HEAD + MOST_WAVES * WAVE_WORDS
/** Histogram of lateness: one count for each microsecond; the last one counts all later edges. */
const BUCKETS = 10_000
const WORDS = COUNTS + BUCKETS
/** Counting restarts at this number, as counts have 32 bits: after 3 days at 3,200 edges a second. */
const MOST_EDGES = 1_000_000_000

export interface Wave {
  readonly lineFd: number
  /** Descriptor of a file with one byte. While the byte is not 0, the thread makes no edge. */
  readonly stopFd: number
  readonly periodNs: number
  readonly safe: 0 | 1
}

/** The body's side of the shared memory. */
export class Waves {
  readonly memory = new SharedArrayBuffer(WORDS * 4)
  readonly #words = new Int32Array(this.memory)

  /** Adds a wave that is held at a level at first. Returns its number; null when all are taken. */
  add({ lineFd, stopFd, periodNs, safe }: Wave): number | null {
    const wave = [...Array(MOST_WAVES).keys()].find((index) => this.#get(index, PERIOD_NS) === 0)
    if (wave === undefined) return null
    this.#set(wave, ON_NS, 0)
    this.#set(wave, LINE_FD, lineFd)
    this.#set(wave, STOP_FD, stopFd)
    this.#set(wave, SAFE, safe)
    // last, since the thread uses the wave from here on
    this.#set(wave, PERIOD_NS, periodNs)
    return wave
  }

  /** Call it only for a wave that is held and quiet. */
  remove(wave: number): void {
    this.#set(wave, PERIOD_NS, 0)
  }

  /** Sets the pulse of the next periods: more than 0 ns, and less than a period. */
  pulse(wave: number, onNs: number): void {
    const waits = this.isHeld(wave)
    this.#set(wave, ON_NS, onNs)
    // A wave that runs is looked at again at its next edge: a program that writes without pause must not keep the thread awake.
    if (waits) this.#wake()
  }

  /** Stops the edges, except one that the thread may be writing just now. The caller writes the level itself. */
  hold(wave: number, level: 0 | 1): void {
    this.#set(wave, ON_NS, level === 1 ? this.#get(wave, PERIOD_NS) : 0)
    this.#wake()
  }

  isHeld(wave: number): boolean {
    return !isWave(this.#get(wave, ON_NS), this.#get(wave, PERIOD_NS))
  }

  /** Waits until the thread is not writing this line. False when it still is after `mostMs`. */
  isQuiet(wave: number, mostMs: number): boolean {
    const end = performance.now() + mostMs
    while (Atomics.load(this.#words, BUSY) === wave + 1) {
      const leftMs = end - performance.now()
      if (leftMs <= 0) return false
      Atomics.wait(this.#words, BUSY, wave + 1, leftMs)
    }
    return true
  }

  /** True while the thread may be writing this line. */
  isBusy(wave: number): boolean {
    return Atomics.load(this.#words, BUSY) === wave + 1
  }

  /** Tells the thread to return. */
  end(): void {
    Atomics.store(this.#words, END, 1)
    this.#wake()
  }

  /** Call it when the thread has ended: it may have left BUSY set. */
  ended(): void {
    Atomics.store(this.#words, BUSY, 0)
  }

  lateness(): Lateness {
    const edges = Atomics.load(this.#words, EDGES)
    const maxUs = Atomics.load(this.#words, MAX_US)
    const counts = this.counts()
    const rank = (share: number) => {
      let left = Math.ceil(edges * share)
      const us = counts.findIndex((count) => {
        left -= count
        return left <= 0
      })
      return us < 0 || us === BUCKETS - 1 ? maxUs : us
    }
    return { edges, p50Us: rank(0.5), p99Us: rank(0.99), maxUs, missed: Atomics.load(this.#words, MISSED) }
  }

  /** Number of edges by lateness in us; the last counts all later edges. */
  counts(): Int32Array {
    return this.#words.slice(COUNTS)
  }

  #wake(): void {
    Atomics.add(this.#words, WAKE, 1)
    Atomics.notify(this.#words, WAKE)
  }

  #get(wave: number, word: number): number {
    return Atomics.load(this.#words, HEAD + wave * WAVE_WORDS + word)
  }

  #set(wave: number, word: number, value: number): void {
    Atomics.store(this.#words, HEAD + wave * WAVE_WORDS + word, value)
  }
}

const isWave = (onNs: number, periodNs: number): boolean => onNs > 0 && onNs < periodNs

/** The thread's side of the shared memory. */
export class WaveLoop {
  readonly #words: Int32Array
  readonly #system: Pick<System, 'ioctl'>
  readonly #request: number
  readonly #failed: (lineFd: number, error: Error) => void
  readonly #levels = [lineValues(0), lineValues(1)] as const
  readonly #byte = new Uint8Array(1)
  /** ms of performance.now(): the beginning of each wave's period, and the time of its next edge. */
  readonly #began = new Float64Array(MOST_WAVES)
  readonly #due = new Float64Array(MOST_WAVES)
  /** For each wave 0: held. 1: the next edge rises. 2: the next edge falls. */
  readonly #next = new Uint8Array(MOST_WAVES)

  /** `request` is the ioctl that drives a line. `failed` is called for a line that fails; its wave stops. */
  constructor(
    memory: SharedArrayBuffer,
    system: Pick<System, 'ioctl'>,
    request: number,
    failed: (lineFd: number, error: Error) => void,
  ) {
    this.#words = new Int32Array(memory)
    this.#system = system
    this.#request = request
    this.#failed = failed
  }

  /** Makes edges until {@link Waves.end} is called. */
  run(): void {
    const words = this.#words
    while (Atomics.load(words, END) === 0) {
      const wake = Atomics.load(words, WAKE)
      let due = Number.POSITIVE_INFINITY
      for (let wave = 0; wave < MOST_WAVES; wave++) due = Math.min(due, this.#advance(wave))
      const waitMs = due - performance.now()
      if (waitMs > 0) Atomics.wait(words, WAKE, wake, waitMs)
    }
  }

  /** Makes the edge of a wave if one is due. Returns the time of the next one. */
  #advance(wave: number): number {
    const periodNs = this.#get(wave, PERIOD_NS)
    const onNs = this.#get(wave, ON_NS)
    if (!isWave(onNs, periodNs)) {
      this.#next[wave] = 0
      return Number.POSITIVE_INFINITY
    }
    const now = performance.now()
    if (this.#next[wave] === 0) {
      this.#next[wave] = 1
      this.#due[wave] = now
    }
    const due = this.#due[wave] as number
    if (due > now) return due
    if (this.#next[wave] === 2) {
      this.#edge(wave, 0, due)
      this.#due[wave] = (this.#began[wave] as number) + periodNs / 1e6
      this.#next[wave] = 1
      return this.#due[wave]
    }
    // A pulse that should have ended by now is left out: made now, it would have no length.
    const periodMs = periodNs / 1e6
    const onMs = onNs / 1e6
    if (now >= due + onMs) {
      const missed = Math.floor((now - due - onMs) / periodMs) + 1
      Atomics.add(this.#words, MISSED, missed)
      this.#due[wave] = due + missed * periodMs
      return this.#due[wave]
    }
    this.#began[wave] = due
    this.#edge(wave, 1, due)
    this.#due[wave] = due + onMs
    this.#next[wave] = 2
    return this.#due[wave]
  }

  /** Sets BUSY, then reads the level. The body stores the level, then reads BUSY: so one of the two sees the other. */
  #edge(wave: number, level: 0 | 1, due: number): void {
    const words = this.#words
    Atomics.store(words, BUSY, wave + 1)
    try {
      if (this.#asked(wave) === null) {
        this.#write(wave, level)
        this.#count(performance.now() - due)
        // The body may have stored a level while this thread wrote or was not scheduled: that level is written last.
        let written: number | null = null
        for (let asked = this.#asked(wave); asked !== written; asked = this.#asked(wave)) {
          if (asked !== null) this.#write(wave, asked)
          written = asked
        }
      }
    } catch (error) {
      this.#set(wave, ON_NS, 0)
      this.#failed(this.#get(wave, LINE_FD), error as Error)
    } finally {
      Atomics.store(words, BUSY, 0)
      Atomics.notify(words, BUSY)
    }
  }

  /** The level to hold; null while the wave runs. */
  #asked(wave: number): 0 | 1 | null {
    const onNs = this.#get(wave, ON_NS)
    if (!isWave(onNs, this.#get(wave, PERIOD_NS))) return onNs > 0 ? 1 : 0
    readSync(this.#get(wave, STOP_FD), this.#byte, 0, 1, 0)
    if (this.#byte[0] === 0) return null
    return this.#get(wave, SAFE) === 1 ? 1 : 0
  }

  #write(wave: number, level: 0 | 1): void {
    this.#system.ioctl(this.#get(wave, LINE_FD), this.#request, this.#levels[level])
  }

  #count(lateMs: number): void {
    const us = Math.max(0, Math.ceil(lateMs * 1000))
    if (Atomics.add(this.#words, EDGES, 1) >= MOST_EDGES) {
      this.#words.fill(0, COUNTS)
      Atomics.store(this.#words, EDGES, 1)
    }
    Atomics.add(this.#words, COUNTS + Math.min(us, BUCKETS - 1), 1)
    if (us > Atomics.load(this.#words, MAX_US)) Atomics.store(this.#words, MAX_US, us)
  }

  #get(wave: number, word: number): number {
    return Atomics.load(this.#words, HEAD + wave * WAVE_WORDS + word)
  }

  #set(wave: number, word: number, value: number): void {
    Atomics.store(this.#words, HEAD + wave * WAVE_WORDS + word, value)
  }
}
