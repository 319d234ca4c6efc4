/**
 * An established session as a byte stream, on which yamux.ts has its streams.
 * Invariant: it delivers authentic bytes, in order and once; after a bad frame, none (CHANNEL 4.4;
 * test/deploy/shared/channel/session.test.ts).
 */
import type { Duplex } from 'node:stream'
import { Deframer, type Frame, MAX_DATA, type Opener, type Sealer } from './frame.ts'
import type { FreshKeys } from './freshkeys.ts'
import { NetDuplex, type Peer, reset, type Transport } from './netsocket.ts'
import type { MuxReceiver, MuxSession } from './yamuxstream.ts'

export interface SecureSocketOptions {
  /** the transport below, which the session owns from now on */
  raw: Duplex
  sealer: Sealer
  opener: Opener
  /** bytes of the transport that were read during the handshake */
  head?: Buffer
  allowHalfOpen: boolean
  peer?: Peer
  /** fresh handshakes; without it, frames of them are refused */
  fresh?: FreshKeys
}

/** A smaller frame is sent as one buffer, in bytes; a larger one in parts, which saves a copy. */
const COPY_BELOW = 4096
/** A beat is when a session looks whether it sent and heard anything, and renews its key (CHANNEL 4.8 to 4.10). */
const BEAT_MS = 15_000
const RENEW_BEATS = 4
/** Beats from one fresh handshake to the next, to the one that a robot takes at the earliest, and to the end without one (CHANNEL 4.11). */
const FRESH_BEATS = { next: 240, earliest: 200, latest: 480, answer: 4 }
/** Beats are counted, not ms: a process that stood still for longer reads first what came meanwhile. */
const SILENT_BEATS = 3
const WRITE_BUFFER = 256 * 1024
const READ_BUFFER = 256 * 1024

export class SecureSocket extends NetDuplex implements MuxSession {
  /** Replaced when the robot's list of operators changes. */
  peer: Peer | undefined
  readonly #raw: Transport
  readonly #sealer: Sealer
  readonly #opener: Opener
  readonly #deframer = new Deframer()
  readonly #onFrame = (frame: Buffer) => this.#deliver(frame)
  readonly #beat: NodeJS.Timeout
  readonly #fresh: FreshKeys | undefined
  #beats = 0
  #silentBeats = 0
  /** since the last fresh handshake began */
  #freshBeats = 0
  /** since the last beat */
  #heard = false
  #sent = false
  #ended = false
  #endSent = false
  #waiting: (() => void) | undefined
  /** the multiplexer of this session, which calls send() in the place of write() */
  #receiver: MuxReceiver | undefined

  constructor(options: SecureSocketOptions) {
    super(options.raw, {
      allowHalfOpen: options.allowHalfOpen,
      readableHighWaterMark: READ_BUFFER,
      writableHighWaterMark: WRITE_BUFFER,
      decodeStrings: true,
    })
    this.peer = options.peer
    this.#raw = options.raw
    this.#sealer = options.sealer
    this.#opener = options.opener
    this.#fresh = options.fresh
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
    this.#beat = setInterval(() => this.#onBeat(), BEAT_MS)
    this.#beat.unref()
  }

  // ---- keeping the session alive

  #onBeat(): void {
    const renew = ++this.#beats % RENEW_BEATS === 0
    if (renew) this.#sealer.expire() // every minute (CHANNEL 4.8)
    // While this end does not read, or after the peer's end frame, silence does not mean that the peer is lost (CHANNEL 4.10).
    if (this.#heard || this.#ended || this.#raw.isPaused()) this.#silentBeats = 0
    else if (++this.#silentBeats >= SILENT_BEATS)
      return void this.destroy(reset(`nothing came for ${(SILENT_BEATS * BEAT_MS) / 1000} s`))
    this.#heard = false
    if (this.#fresh !== undefined) this.#refresh(this.#fresh)
    if (this.destroyed) return
    // a transport that accepts no more is given no more (CHANNEL 5.6)
    if ((renew || !this.#sent) && !this.#endSent && !this.#raw.writableNeedDrain)
      this.#raw.write(this.#sealer.keepAlive()) // shows the peer that this end is there (CHANNEL 4.9)
    this.#sent = false
  }

  /** The laptop begins a fresh handshake each hour; neither end goes on for long without one (CHANNEL 4.11). */
  #refresh(fresh: FreshKeys): void {
    this.#freshBeats++
    // at the end of one direction there are no more handshakes: the session soon ends
    if (this.#ended || this.#endSent) return
    if (fresh.initiator && fresh.pending && this.#freshBeats > FRESH_BEATS.answer && !this.#raw.isPaused())
      return void this.destroy(reset('a fresh handshake was not answered'))
    if (this.#freshBeats > FRESH_BEATS.latest)
      return void this.destroy(reset('the session had no fresh handshake for two hours'))
    if (!fresh.initiator || fresh.pending || this.#freshBeats < FRESH_BEATS.next || this.#raw.writableNeedDrain) return
    this.#freshBeats = 0
    this.#raw.write(this.#sealer.handshake(fresh.begin()))
    this.#sent = true
  }

  #onHandshake(message: Uint8Array): void {
    const fresh = this.#fresh
    if (fresh === undefined) throw new Error('frame: this session takes no fresh handshake')
    if (fresh.initiator) {
      const { send, receive } = fresh.finish(message)
      this.#opener.replaceKey(receive)
      if (this.#endSent) return
      this.#raw.write(this.#sealer.handshake(Buffer.alloc(0)))
      this.#sealer.replaceKey(send)
    } else if (message.length === 0) {
      this.#opener.replaceKey(fresh.confirmed())
    } else {
      // each costs this end some DH
      if (this.#freshBeats < FRESH_BEATS.earliest) throw new Error('frame: a fresh handshake came too early')
      this.#freshBeats = 0
      const { message: answer, send } = fresh.answer(message)
      if (this.#endSent) return
      this.#raw.write(this.#sealer.handshake(answer))
      this.#sealer.replaceKey(send)
    }
    this.#sent = true
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
      this.#endSent = true
      this.#raw.write(this.#sealer.end()) // without it the peer must take the end for a cut (CHANNEL 4.5)
      this.#raw.end(() => callback())
    })
  }

  /** For a Mux: without the callbacks and ticks that write() costs for each frame. */
  send(parts: readonly Buffer[], length: number): boolean {
    if (this.destroyed) return false
    try {
      return this.#put(length, parts)
    } catch (error) {
      this.destroy(error as Error)
      return false
    }
  }

  /** Seals as much as the transport takes, and more when it has drained, so that memory stays bounded (CHANNEL 5.6). */
  #send(chunks: Buffer[], callback: (error?: Error | null) => void): void {
    let at = 0
    let offset = 0
    const step = () =>
      this.#attempt(callback, () => {
        while (at < chunks.length) {
          if (this.#raw.writableNeedDrain) {
            this.#waiting = step
            return
          }
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
          this.#put(length, parts)
        }
        process.nextTick(callback) // not at once: further writes of this tick then gather for _writev (CHANNEL 4.7)
      })
    step()
  }

  #put(length: number, parts: readonly Buffer[]): boolean {
    this.bytesWritten += length
    this.#sent = true
    this.touch()
    const sealed = this.#sealer.data(parts)
    if (length < COPY_BELOW) {
      return this.#raw.write(Buffer.concat(sealed))
    }
    this.#raw.cork()
    let more = true
    for (const part of sealed) more = this.#raw.write(part)
    this.#raw.uncork()
    return more
  }

  #proceed(): void {
    this.touch()
    const step = this.#waiting
    this.#waiting = undefined
    step?.()
    this.#receiver?.onDrain()
  }

  #attempt(callback: (error?: Error | null) => void, action: () => void): void {
    try {
      action()
    } catch (error) {
      callback(error as Error)
    }
  }

  // ---- receiving

  attach(receiver: MuxReceiver): void {
    this.#receiver = receiver
    this.on('data', (chunk: Buffer) => receiver.onData(chunk)) // what came before
  }

  /** The transport is only read while there is room, so that memory stays bounded (CHANNEL 5.6). */
  override _read(): void {
    this.#raw.resume()
  }

  #receive(chunk: Buffer): void {
    if (this.destroyed) return
    try {
      this.#deframer.push(chunk, this.#onFrame)
    } catch (cause) {
      // destroy() also drops the data that was not read yet (CHANNEL 4.4)
      this.destroy(reset('a frame was refused', cause))
    }
  }

  #deliver(sealed: Buffer): boolean {
    const frame: Frame = this.#opener.open(sealed)
    this.#heard = true
    if (this.#ended) throw new Error('frame: data after the end')
    if (frame.kind === 'data') {
      this.touch()
      this.bytesRead += frame.data.length
      if (this.#receiver !== undefined && this.readableLength === 0) this.#receiver.onData(frame.data)
      else if (!this.push(frame.data)) this.#raw.pause()
    } else if (frame.kind === 'end') {
      this.#ended = true
      this.push(null)
    } else if (frame.kind === 'handshake') this.#onHandshake(frame.data)
    else if (frame.kind === 'confirm') throw new Error('frame: a second confirmation') // it may only be the first frame (CHANNEL 3.6)
    return !this.destroyed
  }

  // ---- the end

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#waiting = undefined
    clearInterval(this.#beat)
    this.#raw.destroy()
    callback(error)
  }
}
