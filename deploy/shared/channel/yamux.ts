/**
 * Streams in a session: yamux as HashiCorp specifies it, inside the data frames (CHANNEL 8). Invariant: a stream that is not
 * read holds back its own sender and no other stream, and what waits in memory is bounded
 * (test/deploy/shared/channel/yamux.test.ts).
 */

import { MAX_DATA } from './frame.ts'
import { reset } from './netsocket.ts'
import { decodeHeader, encodeHeader, FLAG, GO_AWAY, HEADER_BYTES, type Header, TYPE, WINDOW } from './yamuxheader.ts'
import { type MuxReceiver, type MuxSession, type StreamOwner, YamuxStream } from './yamuxstream.ts'

export interface MuxLimits {
  /** open streams of one session; the peer's further ones are reset (CHANNEL 8.3) */
  streams: number
  /** bytes of all streams that were received and not taken; beyond them the largest stream is reset (CHANNEL 8.5) */
  unread: number
}
/** 32 windows are 8 MiB: on the laptop, which asked for all data itself. */
export const LAPTOP_MUX: Readonly<MuxLimits> = { streams: 32, unread: 32 * WINDOW }
export const ROBOT_MUX: Readonly<MuxLimits> = { streams: 32, unread: 8 * WINDOW }

/** Data of a stream in its turn, while others have data to send, too (CHANNEL 8.6). */
const MAX_TURN = 16 * 1024
/** Time to send a go-away and the end of the session. */
const GOODBYE_MS = 1000
/** Answers to the peer that may wait because it does not read, and those that fit in a frame (CHANNEL 8.7). */
const MAX_ANSWERS = Math.floor((64 * 1024) / HEADER_BYTES)
const FRAME_ANSWERS = Math.floor(MAX_DATA / HEADER_BYTES)

export interface MuxOptions {
  session: MuxSession
  initiator: boolean
  limits?: Readonly<MuxLimits>
  /** gets the streams that the peer opens; without it they are reset */
  accept?: (stream: YamuxStream) => void
}

export class Mux implements StreamOwner, MuxReceiver {
  readonly session: MuxSession
  readonly #initiator: boolean
  readonly #limits: Readonly<MuxLimits>
  readonly #accept: ((stream: YamuxStream) => void) | undefined
  readonly #streams = new Map<number, YamuxStream>()
  /** streams with data to send, in the order of their turns */
  readonly #turns = new Set<YamuxStream>()
  readonly #head = Buffer.alloc(HEADER_BYTES)
  #headFilled = 0
  /** the data frame of which bytes are missing */
  #data: { stream: YamuxStream | undefined; left: number; flags: number } | undefined
  #next: number
  #lastOfPeer = 0
  /** frames without data that were not yet sent */
  readonly #answers: Buffer[] = []
  /** the session accepts no more before onDrain() */
  #isBlocked = false
  #isScheduled = false
  #goingAway = false
  #closed = false
  #refs = 0

  constructor({ session, initiator, limits = LAPTOP_MUX, accept }: MuxOptions) {
    this.session = session
    this.#initiator = initiator
    this.#limits = limits
    this.#accept = accept
    this.#next = initiator ? 1 : 2 // odd ids are the initiator's (CHANNEL 8.2)
    session.on('error', () => {}) // `close` follows
    session.on('end', () => this.#end(reset('the peer ended the session')))
    session.on('close', () => this.#end(reset('the session was closed')))
    session.attach(this)
  }

  get streams(): number {
    return this.#streams.size
  }

  /** False when no stream can be opened any more, because one end closes the session or has lost it. */
  get usable(): boolean {
    return !this.#closed && !this.#goingAway && !this.session.destroyed && this.#next < 2 ** 31
  }

  /** Opens a stream at once, without waiting for the peer. Throws when the session is closed or has too many streams. */
  open(): YamuxStream {
    if (!this.usable) throw reset('the session takes no more streams')
    if (this.#streams.size >= this.#limits.streams) throw new Error(`session: at most ${this.#limits.streams} streams`)
    const id = this.#next
    this.#next += 2
    const stream = this.#add(id)
    this.#control({ type: TYPE.window, flags: FLAG.syn, stream: id, length: 0 })
    return stream
  }

  /** Says goodbye, and ends the session; streams that are open are lost. */
  close(): void {
    if (this.#closed) return
    this.#control({ type: TYPE.goAway, flags: 0, stream: 0, length: GO_AWAY.normal })
    this.#end(reset('the session was closed'))
  }

  // ---- for YamuxStream

  schedule(stream: YamuxStream): void {
    this.#turns.add(stream)
    this.#schedulePump()
  }

  credit(stream: YamuxStream, bytes: number): void {
    if (this.#streams.has(stream.id)) this.#control({ type: TYPE.window, flags: 0, stream: stream.id, length: bytes })
  }

  forget(stream: YamuxStream, sendReset: boolean): void {
    this.#turns.delete(stream)
    if (!this.#streams.delete(stream.id) || this.#closed) return
    if (sendReset) this.#control({ type: TYPE.window, flags: FLAG.rst, stream: stream.id, length: 0 })
  }

  countRefs(change: 1 | -1): void {
    this.#refs += change
    if (this.#refs === 0) this.session.unref?.()
    else if (this.#refs === 1 && change === 1) this.session.ref?.()
  }

  #add(id: number): YamuxStream {
    const stream = new YamuxStream(this, id, { allowHalfOpen: !this.#initiator })
    this.#streams.set(id, stream)
    return stream
  }

  // ---- sending

  onDrain(): void {
    this.#isBlocked = false
    this.#pump()
  }

  /** What is to be sent in this tick shares frames (CHANNEL 4.7). */
  #schedulePump(): void {
    if (this.#isScheduled || this.#isBlocked) return
    this.#isScheduled = true
    process.nextTick(() => {
      this.#isScheduled = false
      this.#pump()
    })
  }

  #pump(): void {
    while (!this.#closed && !this.#isBlocked && (this.#answers.length > 0 || this.#turns.size > 0)) {
      const parts = this.#answers.splice(0, FRAME_ANSWERS)
      const taken: (() => void)[] = []
      const length = this.#fill(parts, taken)
      if (length > 0) this.#isBlocked = !this.session.send(parts, length)
      for (const done of taken) done()
    }
  }

  /**
   * Adds frames of data to `parts`, until a frame of the session is full. Each stream with data sends one frame in its turn: none
   * waits for another one (CHANNEL 8.6). Returns the bytes in all.
   */
  #fill(parts: Buffer[], taken: (() => void)[]): number {
    let length = parts.length * HEADER_BYTES
    while (length + HEADER_BYTES < MAX_DATA) {
      const [stream] = this.#turns
      if (stream === undefined) break
      this.#turns.delete(stream)
      const isAlone = this.#turns.size === 0
      const part = stream.nextPart(Math.min(MAX_DATA - length - HEADER_BYTES, isAlone ? MAX_DATA : MAX_TURN))
      if (part === null) continue // nothing to send, or no window: onCredit() schedules it again
      const flags = part.end ? FLAG.fin : 0
      parts.push(encodeHeader({ type: TYPE.data, flags, stream: stream.id, length: part.length }))
      for (const piece of part.data) parts.push(piece)
      length += HEADER_BYTES + part.length
      if (part.taken) taken.push(part.taken)
      if (part.more) this.#turns.add(stream)
    }
    return length
  }

  /** Answers and credits do not wait for their turn. */
  #control(header: Header): void {
    if (this.#closed || this.session.destroyed || this.session.writableEnded) return
    this.#answers.push(encodeHeader(header))
    if (this.#answers.length > MAX_ANSWERS) this.#fail('the peer does not read the answers that it causes')
    else this.#schedulePump()
  }

  // ---- receiving

  onData(chunk: Buffer): void {
    let rest = chunk
    while (rest.length > 0 && !this.#closed) {
      if (this.#data !== undefined) {
        const part = rest.subarray(0, this.#data.left)
        rest = rest.subarray(part.length)
        this.#deliver(part)
        continue
      }
      const part = rest.subarray(0, HEADER_BYTES - this.#headFilled)
      part.copy(this.#head, this.#headFilled)
      this.#headFilled += part.length
      rest = rest.subarray(part.length)
      if (this.#headFilled < HEADER_BYTES) return
      this.#headFilled = 0
      const header = decodeHeader(this.#head)
      if (typeof header === 'string') return this.#fail(header)
      this.#onHeader(header)
    }
  }

  #onHeader(header: Header): void {
    const { type, flags, stream: id, length } = header
    if (type === TYPE.ping) {
      if (flags & FLAG.syn) this.#control({ type: TYPE.ping, flags: FLAG.ack, stream: 0, length })
      return
    }
    if (type === TYPE.goAway) {
      this.#goingAway = true
      if (length !== GO_AWAY.normal) this.#end(reset(`the peer found an error in this end's streams (${length})`))
      return
    }
    if (flags & FLAG.syn) this.#onOpen(id)
    if (this.#closed) return
    const stream = this.#streams.get(id)
    if (type === TYPE.window) {
      if (stream?.onCredit(length) === false) return this.#fail('a window of more than 2^32 - 1 bytes')
      this.#onFlags(stream, flags)
      return
    }
    // Data of a stream that was reset meanwhile is dropped; a window limits the rest (CHANNEL 8.4).
    if (stream?.expect(length) === false) return this.#fail('more data than the window has room for')
    if (length > 0) this.#data = { stream, left: length, flags }
    else this.#onFlags(stream, flags)
  }

  #deliver(part: Buffer): void {
    const data = this.#data
    if (data === undefined) return
    const { stream } = data
    data.left -= part.length
    if (stream !== undefined && this.#streams.has(stream.id)) {
      stream.deliver(part)
      this.#shed()
    }
    if (data.left > 0) return
    this.#data = undefined
    this.#onFlags(stream, data.flags)
  }

  /** Streams that are not read must not keep others from being served (CHANNEL 8.5). */
  #shed(): void {
    let sum = 0
    let largest: YamuxStream | undefined
    for (const stream of this.#streams.values()) {
      sum += stream.readableLength
      if (largest === undefined || stream.readableLength > largest.readableLength) largest = stream
    }
    if (sum > this.#limits.unread) largest?.destroy(reset('too much data waits to be read'))
  }

  #onFlags(stream: YamuxStream | undefined, flags: number): void {
    if (flags & FLAG.rst) stream?.onReset()
    else if (flags & FLAG.fin) stream?.onEnd()
  }

  #onOpen(id: number): void {
    const ofPeer = id % 2 === (this.#initiator ? 0 : 1)
    if (!ofPeer || id <= this.#lastOfPeer) return this.#fail(`stream ${id} cannot be opened by the peer`)
    this.#lastOfPeer = id
    if (this.#accept === undefined || this.#goingAway || this.#streams.size >= this.#limits.streams) {
      return this.#control({ type: TYPE.window, flags: FLAG.rst, stream: id, length: 0 })
    }
    const stream = this.#add(id)
    this.#control({ type: TYPE.window, flags: FLAG.ack, stream: id, length: 0 })
    this.#accept(stream)
  }

  // ---- the end

  /** A peer that breaks the protocol has no further stream (CHANNEL 8.2). */
  #fail(reason: string): void {
    if (this.#closed) return
    this.#answers.push(encodeHeader({ type: TYPE.goAway, flags: 0, stream: 0, length: GO_AWAY.protocolError }))
    this.#end(reset(reason))
  }

  #end(error: Error): void {
    if (this.#closed) return
    this.#closed = true
    this.#turns.clear()
    for (const stream of [...this.#streams.values()]) stream.destroy(error)
    this.#streams.clear()
    const { session } = this
    if (this.#answers.length > 0 && session.writable) session.write(Buffer.concat(this.#answers))
    session.end(() => session.destroy())
    setTimeout(() => session.destroy(), GOODBYE_MS).unref()
  }
}
