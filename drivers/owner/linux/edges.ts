/**
 * Reads the kernel's edge events of GPIO lines, numbers the edges and passes them on, in the order of each line.
 *
 * The body is the only reader of these queues: an event that a program read would be missing for its successor
 * (HANDLES 3.8).
 */
import { readSync } from 'node:fs'
import type { Edge } from '../../program/handle.ts'
import type { LinuxSystem } from './system.ts'
import { decodeLineEvent, LINE_EVENT_SIZE } from './uapi.ts'

/** A line whose edges are being read. */
export interface EdgeLine {
  /** Number of the last edge; 0 before the first. */
  readonly seqno: number
  /** Edges that the kernel dropped while its queue was full. */
  readonly lost: number
  onEdge(listener: (edge: Edge) => void): () => void
  /** Stops reading; call it before closing the descriptor. Idempotent. */
  close(): void
}

/** Events in one read(2), more than usually gather in one turn of the event loop; another read fetches further ones. */
const BATCH = 64

export class EdgeReader {
  readonly #system: LinuxSystem
  readonly #note: (text: string) => void
  readonly #bytes = new Uint8Array(BATCH * LINE_EVENT_SIZE)

  /** `note` receives a text for lost edges and for lines that fail. */
  constructor(system: LinuxSystem, note: (text: string) => void) {
    this.#system = system
    this.#note = note
  }

  /** `seqno` is the number of the last edge read from this descriptor, 0 for a new one. */
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
        // e.g. the chip was unplugged: the handle stays, without edges (HANDLES 11.6)
        line.close()
        note(`no more edges: ${(error as Error).message}`)
        return
      }
      // decode all before calling listeners: a listener may cause the next read into the same buffer
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
    // a wrapper for each subscription, so that the same listener can subscribe twice
    const entry = (edge: Edge) => listener(edge)
    this.#listeners.add(entry)
    return () => this.#listeners.delete(entry)
  }

  /** Passes one edge to the listeners. Returns how many edges were lost before it. */
  take({ level, ns }: Omit<Edge, 'seqno'>, lineSeqno: number): number {
    // the kernel counts modulo 2^32, we count on (HANDLES 11.5)
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
