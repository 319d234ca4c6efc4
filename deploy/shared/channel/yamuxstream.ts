/**
 * One stream of a session, with the interface of net.Socket. Invariant: it sends no more than the peer's window allows, and
 * gives back room in its own window only for bytes that were taken (test/deploy/shared/channel/yamux.test.ts).
 */
import { NetDuplex, type Peer, reset, type Transport } from './netsocket.ts'
import { WINDOW } from './yamuxheader.ts'

const MAX_WINDOW = 2 ** 32 - 1
/** Writes that wait in a stream, in bytes. */
const WRITE_BUFFER = 64 * 1024

/** If more writes than this wait, they are joined. */
const MAX_CHUNKS = 4

/** Data, an end, or both, to be sent in one frame. */
export interface Part {
  data: readonly Buffer[]
  length: number
  end: boolean
  /** the stream has more to send at once */
  more: boolean
  /** called when the session has taken the data */
  taken: (() => void) | undefined
}

/** The session below the streams: a SecureSocket. */
export interface MuxSession extends Transport {
  readonly peer?: Peer | undefined
  /** Plaintext is given to `receiver` from now on. */
  attach(receiver: MuxReceiver): void
  /** Sends `parts`, of `length` bytes in all, in one frame. False: the transport accepts no more before onDrain(). */
  send(parts: readonly Buffer[], length: number): boolean
}

export interface MuxReceiver {
  onData(data: Buffer): void
  onDrain(): void
}

/** The streams of a session, as yamux.ts implements them. */
export interface StreamOwner {
  readonly session: MuxSession
  /** The stream has data, or an end, to send. */
  schedule(stream: YamuxStream): void
  /** Tells the peer that it may send so many bytes more. */
  credit(stream: YamuxStream, bytes: number): void
  /** The stream is over. `sendReset`: the peer does not know it yet. */
  forget(stream: YamuxStream, sendReset: boolean): void
  /** A session keeps the process alive while one of its streams does. */
  countRefs(change: 1 | -1): void
}

/** Writes that the session takes together. */
interface Pending {
  chunks: readonly Buffer[]
  /** the first chunk with bytes that were not taken, and where they begin */
  at: number
  offset: number
  /** bytes that were not taken */
  left: number
  done: (error?: Error | null) => void
}

export class YamuxStream extends NetDuplex {
  readonly id: number
  readonly #mux: StreamOwner
  /** bytes that the peer has room for */
  #sendWindow = WINDOW
  /** bytes that the peer may still send */
  #receiveWindow = WINDOW
  /** bytes that came and were not yet given back as window */
  #owed = 0
  #pending: Pending | undefined
  #final: ((error?: Error | null) => void) | undefined
  #endSent = false
  #endHeard = false
  #discard = false
  #isReset = false
  #isReffed = true

  constructor(mux: StreamOwner, id: number, { allowHalfOpen }: { allowHalfOpen: boolean }) {
    super(mux.session, {
      allowHalfOpen,
      readableHighWaterMark: WINDOW,
      writableHighWaterMark: WRITE_BUFFER,
      decodeStrings: true,
    })
    this.id = id
    this.#mux = mux
    mux.countRefs(1)
  }

  /** The operator of the session, also after a change of the operators. */
  get peer(): Peer | undefined {
    return this.#mux.session.peer
  }

  override ref(): this {
    if (!this.#isReffed && !this.destroyed) this.#mux.countRefs(1)
    this.#isReffed = true
    return this
  }

  override unref(): this {
    if (this.#isReffed && !this.destroyed) this.#mux.countRefs(-1)
    this.#isReffed = false
    return this
  }

  // ---- sending

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#send([chunk], callback)
  }

  /** Small writes that came during the last one share frames (CHANNEL 4.7). */
  override _writev(chunks: { chunk: Buffer }[], callback: (error?: Error | null) => void): void {
    const data = chunks.map(({ chunk }) => chunk)
    this.#send(data.length > MAX_CHUNKS ? [Buffer.concat(data)] : data, callback)
  }

  #send(chunks: readonly Buffer[], done: (error?: Error | null) => void): void {
    const left = chunks.reduce((sum, { length }) => sum + length, 0)
    if (this.#discard || left === 0) return done()
    this.#pending = { chunks, at: 0, offset: 0, left, done }
    this.#mux.schedule(this)
  }

  override _final(callback: (error?: Error | null) => void): void {
    if (this.#discard) return callback()
    this.#final = callback
    this.#mux.schedule(this)
  }

  /** The next data of at most `max` bytes, or null when there is none, or no window for it. */
  nextPart(max: number): Part | null {
    const pending = this.#pending
    if (pending === undefined) {
      const final = this.#final
      if (final === undefined || this.#endSent) return null
      this.#endSent = true
      this.#final = undefined
      return { data: [], length: 0, end: true, more: false, taken: final }
    }
    const length = Math.min(max, this.#sendWindow, pending.left)
    if (length === 0) return null
    const data = take(pending, length)
    this.#sendWindow -= length
    this.bytesWritten += length
    this.touch()
    if (pending.left > 0) return { data, length, end: false, more: true, taken: undefined }
    this.#pending = undefined
    return { data, length, end: false, more: false, taken: pending.done }
  }

  /** False when the window gets larger than the protocol allows. */
  onCredit(bytes: number): boolean {
    this.#sendWindow += bytes
    if (this.#sendWindow > MAX_WINDOW) return false
    if (this.#pending !== undefined) this.#mux.schedule(this)
    return true
  }

  // ---- receiving

  /** False when the peer may not send so much. */
  expect(bytes: number): boolean {
    if (bytes > this.#receiveWindow || (this.#endHeard && bytes > 0)) return false
    this.#receiveWindow -= bytes
    return true
  }

  deliver(part: Buffer): void {
    if (this.destroyed) return
    this.bytesRead += part.length
    this.#owed += part.length
    this.touch()
    this.push(part)
    this.#giveBack()
  }

  override _read(): void {
    // The window holds the peer back: bytes are pushed as they come.
  }

  override read(size?: number): Buffer | null {
    const taken = super.read(size)
    this.#giveBack()
    return taken
  }

  /** Room in the window for bytes that were taken, half a window at a time. */
  #giveBack(): void {
    const taken = this.#owed - this.readableLength
    if (taken < WINDOW / 2 || this.#endHeard || this.destroyed) return
    this.#owed -= taken
    this.#receiveWindow += taken
    this.#mux.credit(this, taken)
  }

  onEnd(): void {
    if (this.#endHeard || this.destroyed) return
    this.#endHeard = true
    this.push(null)
  }

  onReset(): void {
    this.#isReset = true
    if (!this.#endHeard) return void this.destroy(reset('the peer reset the stream'))
    // The peer has sent everything and reads no more: what came is still delivered, what waits to be sent is dropped.
    this.#discard = true
    this.#pending?.done()
    this.#pending = undefined
    this.#final?.()
    this.#mux.forget(this, false)
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    const both = this.#endSent && this.#endHeard
    this.#pending = undefined
    this.#mux.forget(this, !both && !this.#isReset)
    if (this.#isReffed) this.#mux.countRefs(-1)
    callback(error)
  }
}

/** The next `length` bytes, of which there are as many. */
function take(pending: Pending, length: number): Buffer[] {
  const data: Buffer[] = []
  pending.left -= length
  for (let missing = length; missing > 0; ) {
    const chunk = pending.chunks[pending.at] as Buffer
    const end = Math.min(chunk.length, pending.offset + missing)
    const part = end - pending.offset === chunk.length ? chunk : chunk.subarray(pending.offset, end)
    if (part.length > 0) data.push(part)
    missing -= part.length
    pending.offset = end
    if (end < chunk.length) break
    pending.at++
    pending.offset = 0
  }
  return data
}
