/**
 * Invariant: a gap is read from what the simulator recorded: the last accepted write under one fencing number, and the
 * first accepted write under the next, each with the time at which it was made.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { LineSplitter } from '../../deploy/shared/linesplitter.ts'

interface Line {
  name: string
  fence: number
  ns: string
  accepted: boolean
}

/** A change of writer of one handle; of the first one `fromFence` is 0 and `lastNs` is no number. */
export interface Transition {
  name: string
  fromFence: number
  toFence: number
  lastNs: number
  firstNs: number
}

export class TraceReader {
  readonly #fd: number
  readonly #chunk = Buffer.allocUnsafe(256 * 1024)
  readonly #splitter = new LineSplitter()
  readonly #last = new Map<string, { fence: number; ns: number }>()
  readonly #transitions = new Map<string, Transition>()
  /** ms between the writes of one program, by handle. */
  readonly #periods = new Map<string, number[]>()
  /** Writes that the simulator refused: of a program that had lost its lease. */
  refused = 0

  constructor(file: string) {
    this.#fd = openSync(file, 'r')
  }

  close(): void {
    closeSync(this.#fd)
  }

  /** The change of writer by which this fence came to write this handle; throws when it is not there in time. */
  async transition(name: string, fence: number, deadlineMs = 2000): Promise<Transition> {
    const found = await this.#found(() => this.#transitions.get(`${name} ${fence}`), deadlineMs)
    if (found !== undefined) return found
    throw new Error(`no write of ${name} under fence ${fence} within ${deadlineMs} ms`)
  }

  /** The newest change of writer that is not to this fence. */
  async newest(name: string, not: number, deadlineMs = 2000): Promise<Transition> {
    const newest = () => this.#transitions.get(`${name} ${this.#last.get(name)?.fence}`)
    const found = await this.#found(() => (newest()?.toFence === not ? undefined : newest()), deadlineMs)
    if (found !== undefined) return found
    throw new Error(`no write of ${name} but under fence ${not} within ${deadlineMs} ms`)
  }

  /** ms between each two writes of one program to this handle, since the last call. */
  takePeriods(name: string): number[] {
    this.#read()
    const periods = this.#periods.get(name) ?? []
    this.#periods.set(name, [])
    return periods
  }

  async #found(probe: () => Transition | undefined, deadlineMs: number): Promise<Transition | undefined> {
    const until = performance.now() + deadlineMs
    do {
      this.#read()
      const found = probe()
      if (found !== undefined) return found
      await sleep(2)
    } while (performance.now() < until)
    return undefined
  }

  #read(): void {
    for (;;) {
      const got = readSync(this.#fd, this.#chunk)
      if (got === 0) return
      for (const line of this.#splitter.push(this.#chunk.toString('latin1', 0, got)))
        this.#take(JSON.parse(line) as Line)
    }
  }

  #take({ name, fence, ns, accepted }: Line): void {
    if (!accepted) {
      this.refused++
      return
    }
    const at = Number(ns)
    const last = this.#last.get(name)
    if (last?.fence !== fence) {
      const change = { name, fromFence: last?.fence ?? 0, toFence: fence, lastNs: last?.ns ?? Number.NaN, firstNs: at }
      this.#transitions.set(`${name} ${fence}`, change)
    } else {
      const periods = this.#periods.get(name)
      if (periods === undefined) this.#periods.set(name, [(at - last.ns) / 1e6])
      else periods.push((at - last.ns) / 1e6)
    }
    this.#last.set(name, { fence, ns: at })
  }
}
