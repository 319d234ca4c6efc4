/**
 * An established session as a byte stream with the interface of net.Socket, so that node:http can run over it on both sides.
 * A later multiplexer would replace it, above frame.ts (CHANNEL 7.4).
 * Invariant: it delivers authentic bytes, in order and once; after a bad frame, none (CHANNEL 4.4; test/channel/session.test.ts).
 */
import { Duplex } from 'node:stream'
import { Deframer, type Frame, HEADER_LENGTH, MAX_DATA, type Opener, type Sealer } from './frame.ts'
import { TAG_LENGTH } from './noise.ts'

/** The operator at the other end of a session, on the robot; undefined on the laptop. */
export interface Peer {
  readonly fingerprint: string
  readonly role: 'owner' | 'operator' | 'observer'
  readonly name: string
}

export interface SecureSocketOptions {
  /** the transport below, which the session owns from now on */
  raw: Duplex
  sealer: Sealer
  opener: Opener
  /** bytes of the transport that were read during the handshake */
  head?: Buffer
  allowHalfOpen: boolean
  peer?: Peer
}

/** Methods and fields of net.Socket that a transport may lack. */
interface Transport extends Duplex {
  setNoDelay?(on?: boolean): unknown
  setKeepAlive?(on?: boolean, delay?: number): unknown
  ref?(): unknown
  unref?(): unknown
  remoteAddress?: string
  remotePort?: number
  remoteFamily?: string
  localAddress?: string
  localPort?: number
}

/** A smaller frame is sent as one buffer, in bytes; a larger one in parts, which saves a copy. */
const COPY_BELOW = 4096
/** If a frame has more writes than this, they are joined before they are sealed. */
const MAX_PARTS = 4
const WRITE_BUFFER = 256 * 1024
const READ_BUFFER = 256 * 1024

export class SecureSocket extends Duplex {
  /** Replaced when the robot's list of operators changes. */
  peer: Peer | undefined
  readonly #raw: Transport
  readonly #sealer: Sealer
  readonly #opener: Opener
  readonly #deframer = new Deframer()
  readonly #onFrame = (frame: Buffer) => this.#deliver(frame)
  #ended = false
  #waiting: (() => void) | undefined
  #idleMs = 0
  #idle: NodeJS.Timeout | undefined
  bytesRead = 0
  bytesWritten = 0

  constructor(options: SecureSocketOptions) {
    super({
      allowHalfOpen: options.allowHalfOpen,
      readableHighWaterMark: READ_BUFFER,
      writableHighWaterMark: WRITE_BUFFER,
      decodeStrings: true,
    })
    this.peer = options.peer
    this.#raw = options.raw
    this.#sealer = options.sealer
    this.#opener = options.opener
    this.#raw.on('data', (chunk: Buffer) => this.#receive(chunk))
    this.#raw.on('drain', () => this.#proceed())
    this.#raw.on('error', (error) => this.destroy(error))
    this.#raw.on('end', () => {
      if (!this.#ended) this.destroy(reset('the transport ended without an end frame')) // it may have been cut (CHANNEL 4.5)
    })
    this.#raw.on('close', () => {
      if (!this.#ended || !this.writableFinished) this.destroy(reset('the transport was closed'))
    })
    const head = options.head
    if (head && head.length > 0) queueMicrotask(() => this.#receive(head))
    this.#raw.resume()
  }

  // ---- sending

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#send([chunk], callback)
  }

  /** Small writes that came during the last one share frames (CHANNEL 4.7). */
  override _writev(chunks: { chunk: Buffer }[], callback: (error?: Error | null) => void): void {
    this.#send(
      chunks.map(({ chunk }) => chunk),
      callback,
    )
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#attempt(callback, () => {
      this.#raw.write(this.#sealer.end()) // without it the peer must take the end for a cut (CHANNEL 4.5)
      this.#raw.end(() => callback())
    })
  }

  /** Seals as much as the transport takes, and more when it has drained, so that memory stays bounded (CHANNEL 5.6). */
  #send(chunks: Buffer[], callback: (error?: Error | null) => void): void {
    let at = 0
    let offset = 0
    const step = () =>
      this.#attempt(callback, () => {
        while (at < chunks.length) {
          const parts: Buffer[] = []
          let length = 0
          while (at < chunks.length && length < MAX_DATA) {
            const chunk = chunks[at] ?? Buffer.alloc(0)
            const part = chunk.subarray(offset, offset + MAX_DATA - length)
            if (part.length > 0) parts.push(part)
            length += part.length
            offset += part.length
            if (offset === chunk.length) {
              at++
              offset = 0
            }
          }
          if (length === 0) break
          if (!this.#put(length, parts)) {
            this.#waiting = step
            return
          }
        }
        process.nextTick(callback) // not at once: further writes of this tick then gather for _writev (CHANNEL 4.7)
      })
    step()
  }

  #put(length: number, parts: Buffer[]): boolean {
    this.bytesWritten += length
    this.#touch()
    const plain = parts.length > MAX_PARTS ? [Buffer.concat(parts, length)] : parts
    const sealed = this.#sealer.data(plain)
    if (length < COPY_BELOW) {
      return this.#raw.write(Buffer.concat(sealed, HEADER_LENGTH + 1 + length + TAG_LENGTH))
    }
    this.#raw.cork()
    let more = true
    for (const part of sealed) more = this.#raw.write(part)
    this.#raw.uncork()
    return more
  }

  #proceed(): void {
    this.#touch()
    const step = this.#waiting
    this.#waiting = undefined
    step?.()
  }

  #attempt(callback: (error?: Error | null) => void, action: () => void): void {
    try {
      action()
    } catch (error) {
      callback(error as Error)
    }
  }

  // ---- receiving

  /** The transport is only read while there is room, so that memory stays bounded (CHANNEL 5.6). */
  override _read(): void {
    this.#raw.resume()
  }

  #receive(chunk: Buffer): void {
    if (this.destroyed) return
    this.#touch()
    try {
      this.#deframer.push(chunk, this.#onFrame)
    } catch (cause) {
      // destroy() also drops the data that was not read yet (CHANNEL 4.4)
      this.destroy(reset('a frame was refused', cause))
    }
  }

  #deliver(sealed: Buffer): boolean {
    const frame: Frame = this.#opener.open(sealed)
    if (this.#ended) throw new Error('frame: data after the end')
    if (frame.kind === 'data') {
      this.bytesRead += frame.data.length
      if (!this.push(frame.data)) this.#raw.pause()
    } else if (frame.kind === 'end') {
      this.#ended = true
      this.push(null)
    } else throw new Error('frame: a second confirmation') // it may only be the first frame (CHANNEL 3.6)
    return !this.destroyed
  }

  // ---- the end

  /** As in net.Socket: ends the stream, and closes it when everything is sent. */
  destroySoon(): void {
    if (this.writable) this.end()
    if (this.writableFinished) this.destroy()
    else this.once('finish', () => this.destroy())
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#waiting = undefined
    clearTimeout(this.#idle)
    this.#raw.destroy()
    callback(error)
  }

  // ---- the rest of net.Socket's interface

  get timeout(): number {
    return this.#idleMs
  }

  /** Emits `timeout` after `ms` without a byte either way; 0 is never. */
  setTimeout(ms: number, listener?: () => void): this {
    clearTimeout(this.#idle)
    this.#idle = undefined
    this.#idleMs = ms
    if (ms > 0 && !this.destroyed) {
      this.#idle = setTimeout(() => this.emit('timeout'), ms)
      this.#idle.unref()
      if (listener) this.once('timeout', listener)
    } else if (listener) this.removeListener('timeout', listener)
    return this
  }

  #touch(): void {
    this.#idle?.refresh()
  }

  setNoDelay(on = true): this {
    this.#raw.setNoDelay?.(on)
    return this
  }

  setKeepAlive(on = false, delay = 0): this {
    this.#raw.setKeepAlive?.(on, delay)
    return this
  }

  ref(): this {
    this.#raw.ref?.()
    return this
  }

  unref(): this {
    this.#raw.unref?.()
    return this
  }

  get connecting(): boolean {
    return false
  }

  get remoteAddress(): string | undefined {
    return this.#raw.remoteAddress
  }

  get remotePort(): number | undefined {
    return this.#raw.remotePort
  }

  get remoteFamily(): string | undefined {
    return this.#raw.remoteFamily
  }

  get localAddress(): string | undefined {
    return this.#raw.localAddress
  }

  get localPort(): number | undefined {
    return this.#raw.localPort
  }

  address(): { address?: string; port?: number } {
    return {
      ...(this.localAddress !== undefined && { address: this.localAddress }),
      ...(this.localPort !== undefined && { port: this.localPort }),
    }
  }
}

/** An error with the code that node:http treats as a lost connection. */
function reset(message: string, cause?: unknown): Error {
  return Object.assign(new Error(`session: ${message}`, { cause }), { code: 'ECONNRESET' })
}
