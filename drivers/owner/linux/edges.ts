/**
 * Invariant: only this reads the event queues of lines (HANDLES 3.8), and hands on every event it gets, in the order of
 * the line.
 */
import { readSync } from 'node:fs'
import type { Edge } from '../../program/handle.ts'
import type { LinuxSystem } from './system.ts'
import { decodeLineEvent, LINE_EVENT_SIZE } from './uapi.ts'

/** One line whose edges are read. */
export interface EdgeLine {
  /** Of the last edge; 0 before the first. */
  readonly seqno: number
  /** Edges that the kernel dropped because its queue was full. */
  readonly lost: number
  onEdge(listener: (edge: Edge) => void): () => void
  /** Call it before the descriptor is closed. Idempotent. */
  close(): void
}

/** More than a round of the event loop lets gather; the rest is read in the next call. */
const BATCH = 64

export class EdgeReader {
  readonly #system: LinuxSystem
  readonly #note: (text: string) => void
  readonly #bytes = new Uint8Array(BATCH * LINE_EVENT_SIZE)

  /** `note` is told of lost edges and of lines that fail. */
  constructor(system: LinuxSystem, note: (text: string) => void) {
    this.#system = system
    this.#note = note
  }

  /** `seqno` is that of the last edge that was read from this descriptor, 0 for a new one. */
  follow(name: string, fd: number, seqno: number): EdgeLine {
    const line = new Line(seqno)
    const note = (text: string) => this.#note(`${name}: ${text}`)
    line.stop = this.#system.watch(fd, () => this.#read(line, fd, note))
    return line
  }

  #read(line: Line, fd: number, note: (text: string) => void): void {
    while (line.open) {
      let got: number
      try {
        got = readSync(fd, this.#bytes)
      } catch (error) {
        if ((error as { code?: unknown }).code === 'EAGAIN') return
        // HANDLES 11.6
        line.close()
        note(`no more edges: ${(error as Error).message}`)
        return
      }
      // the bytes are read again while listeners run, perhaps
      const events = Array.from({ length: Math.floor(got / LINE_EVENT_SIZE) }, (_, index) =>
        decodeLineEvent(this.#bytes, index * LINE_EVENT_SIZE),
      )
      for (const { level, ns, lineSeqno } of events) {
        const lost = line.take({ level, ns }, lineSeqno)
        if (lost > 0) note(`${lost} edge${lost === 1 ? '' : 's'} lost before number ${line.seqno}`)
      }
      if (events.length < BATCH) return
    }
  }
}

class Line implements EdgeLine {
  seqno: number
  lost = 0
  open = true
  stop: () => void = () => {}
  readonly #listeners = new Set<(edge: Edge) => void>()

  constructor(seqno: number) {
    this.seqno = seqno
  }

  onEdge(listener: (edge: Edge) => void): () => void {
    // one entry for each call, also when a listener is given twice
    const entry = (edge: Edge) => listener(edge)
    this.#listeners.add(entry)
    return () => this.#listeners.delete(entry)
  }

  /** Returns how many edges are missing before this one. */
  take({ level, ns }: Omit<Edge, 'seqno'>, lineSeqno: number): number {
    // HANDLES 11.5: the kernel's number has 32 bits, ours goes on
    const step = (lineSeqno - this.seqno) >>> 0
    this.seqno += step
    const lost = Math.max(0, step - 1)
    this.lost += lost
    for (const listener of [...this.#listeners]) listener({ level, ns, seqno: this.seqno })
    return lost
  }

  close(): void {
    this.open = false
    this.stop()
    this.#listeners.clear()
  }
}
