/**
 * The thread of all software PWM, and the memory that it shares with the body (HANDLES 19).
 *
 * Invariant: after the body has stored a level for a wave and {@link Waves.isQuiet} has said yes, or the stop byte is 1, the
 * last write of this thread to that line is the level that was asked for (test/drivers/softpwm.test.ts).
 */
import { readSync } from 'node:fs'
import { lineValues } from '../../program/inherit/line.ts'
import type { System } from '../../program/inherit/system.ts'
import type { Lateness } from '../backend.ts'

export const MOST_WAVES = 8

/** Words of the whole. `wake` changes when the thread has to look; `busy` is the wave that it may write now, from 1 on. */
const WAKE = 0
const BUSY = 1
const END = 2
const EDGES = 3
const MISSED = 4
const MAX_US = 5
const HEAD = 6
/** Words of each wave. A period of 0 is a wave that is not there. */
const LINE_FD = 0
const STOP_FD = 1
const PERIOD_NS = 2
const ON_NS = 3
const SAFE = 4
const WAVE_WORDS = 5
const COUNTS = HEAD + MOST_WAVES * WAVE_WORDS
/** One count for each microsecond; the last one has all that came later. */
const BUCKETS = 10_000
const WORDS = COUNTS + BUCKETS
/** Counting begins anew then: the counts are words. At 3,200 edges a second that is after 3 days. */
const MOST_EDGES = 1_000_000_000

export interface Wave {
  readonly lineFd: number
  /** Of a file with one byte. While that is not 0 the thread makes no edge. */
  readonly stopFd: number
  readonly periodNs: number
  readonly safe: 0 | 1
}

/** The body's side of the shared memory. */
export class Waves {
  readonly memory = new SharedArrayBuffer(WORDS * 4)
  readonly #words = new Int32Array(this.memory)

  /** The number of the wave, whose level is held at first; null when there is no room. */
  add({ lineFd, stopFd, periodNs, safe }: Wave): number | null {
    const wave = [...Array(MOST_WAVES).keys()].find((index) => this.#get(index, PERIOD_NS) === 0)
    if (wave === undefined) return null
    this.#set(wave, ON_NS, 0)
    this.#set(wave, LINE_FD, lineFd)
    this.#set(wave, STOP_FD, stopFd)
    this.#set(wave, SAFE, safe)
    // last: from here on the thread looks at it
    this.#set(wave, PERIOD_NS, periodNs)
    return wave
  }

  /** The caller has held the level before, and the wave is quiet. */
  remove(wave: number): void {
    this.#set(wave, PERIOD_NS, 0)
  }

  /** The next period has this pulse, of more than 0 ns and less than a period. */
  pulse(wave: number, onNs: number): void {
    this.#set(wave, ON_NS, onNs)
    this.#wake()
  }

  /** The thread makes no edge from now on, but for the one that it may be making: the caller writes the level. */
  hold(wave: number, level: 0 | 1): void {
    this.pulse(wave, level === 1 ? this.#get(wave, PERIOD_NS) : 0)
  }

  isHeld(wave: number): boolean {
    return !isWave(this.#get(wave, ON_NS), this.#get(wave, PERIOD_NS))
  }

  /** Waits until the thread is not about to write this line. False when it still is after `mostMs`. */
  isQuiet(wave: number, mostMs: number): boolean {
    const end = performance.now() + mostMs
    while (Atomics.load(this.#words, BUSY) === wave + 1) {
      const leftMs = end - performance.now()
      if (leftMs <= 0) return false
      Atomics.wait(this.#words, BUSY, wave + 1, leftMs)
    }
    return true
  }

  /** Whether the thread was about to write this line just now. */
  isBusy(wave: number): boolean {
    return Atomics.load(this.#words, BUSY) === wave + 1
  }

  /** The thread returns. */
  end(): void {
    Atomics.store(this.#words, END, 1)
    this.#wake()
  }

  /** The thread has ended, wherever it was. */
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

  /** How many edges were late by each number of us; the last is for all that were later. */
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

/** The thread's side. */
export class WaveLoop {
  readonly #words: Int32Array
  readonly #system: Pick<System, 'ioctl'>
  readonly #request: number
  readonly #failed: (lineFd: number, error: Error) => void
  readonly #levels = [lineValues(0), lineValues(1)] as const
  readonly #byte = new Uint8Array(1)
  /** ms of performance.now(): when the period of each wave began, and when its next edge is due. */
  readonly #began = new Float64Array(MOST_WAVES)
  readonly #due = new Float64Array(MOST_WAVES)
  /** 0: no wave. 1: its next edge rises. 2: its next edge falls. */
  readonly #next = new Uint8Array(MOST_WAVES)

  /** `request` is the ioctl that drives a line. A line that fails is told of, and has no wave until its pulse changes. */
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

  /** Returns when it is told to end. */
  run(): void {
    const words = this.#words
    while (Atomics.load(words, END) === 0) {
      const wake = Atomics.load(words, WAKE)
      let due = Number.POSITIVE_INFINITY
      for (let wave = 0; wave < MOST_WAVES; wave++) due = Math.min(due, this.#look(wave))
      const waitMs = due - performance.now()
      if (waitMs > 0) Atomics.wait(words, WAKE, wake, waitMs)
    }
  }

  /** Makes the edge of a wave that is due. Answers when its next one is. */
  #look(wave: number): number {
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
    // A pulse whose end has passed is left out: made now, it would be one of no length.
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

  /** The body stores a level first and asks for {@link BUSY} then; this thread does it the other way round. */
  #edge(wave: number, level: 0 | 1, due: number): void {
    const words = this.#words
    Atomics.store(words, BUSY, wave + 1)
    try {
      if (this.#asked(wave) === null) {
        this.#write(wave, level)
        this.#count(performance.now() - due)
        // What was asked for while this thread wrote, or got no turn, holds.
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

  /** The level that is to be held; null while there is to be a wave. */
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
