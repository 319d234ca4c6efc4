/**
 * The program's side of the broker: synchronous requests over one end of a socket pair.
 *
 * Invariant: a request returns or throws within its deadline, and never gets the reply to another request
 * (test/drivers/owner/broker.test.ts).
 *
 * A net.Socket that never reads makes the descriptor non-blocking; the client waits in short sleeps (HANDLES 7.8).
 */
import { readSync, writeSync } from 'node:fs'
import { Socket } from 'node:net'
import { pause } from '../../clock.ts'
import { HardwareError, hardwareFault } from '../../errors.ts'
import { encodeRequest, FrameError, MAX_PAYLOAD, type Reply, ReplyReader } from './protocol.ts'

/** Tries before the first sleep, which take about as long as a round trip to an idle body. */
const EAGER_TRIES = 4
const SLEEP_MS = 0.03

/** The part of the client that handles use. A rehearsal passes one that answers with zeros. */
export interface BrokerPort {
  request(id: number, op: number, fence: number, payload: Uint8Array): Uint8Array
}

export class BrokerClient implements BrokerPort {
  readonly #fd: number
  readonly #deadlineMs: number
  readonly #socket: Socket
  readonly #chunk = Buffer.alloc(2 * MAX_PAYLOAD)
  readonly #reader = new ReplyReader()
  #unsent: Uint8Array = new Uint8Array(0)
  #last = 0
  #dead: HardwareError | null = null

  constructor(fd: number, options: { deadlineMs: number }) {
    this.#fd = fd
    this.#deadlineMs = options.deadlineMs
    // manualStart, which Node's types do not have: open the handle and set O_NONBLOCK, but do not read
    const silent = { fd, manualStart: true, readable: true, writable: true }
    this.#socket = new Socket(silent).unref()
  }

  /**
   * Throws the error that the body answered; `busy` after the deadline (the body MAY still carry the request out, under
   * its fence); `no-device` when the body is gone, and at once from then on.
   */
  request(id: number, op: number, fence: number, payload: Uint8Array): Uint8Array {
    if (this.#dead !== null) throw this.#dead
    const until = performance.now() + this.#deadlineMs
    this.#last = (this.#last + 1) >>> 0
    const request = this.#last
    try {
      this.#send(encodeRequest({ request, id, op, fence, payload }), until)
      const { result } = this.#receive(request, until)
      if (result instanceof HardwareError) throw result
      return result
    } catch (error) {
      throw this.#fault(error)
    }
  }

  /** Every later request throws `no-device`. Idempotent. */
  close(): void {
    this.#dead ??= new HardwareError('no-device', 'the broker socket is closed')
    this.#socket.destroy()
  }

  #fault(error: unknown): HardwareError {
    if (error instanceof FrameError) return new HardwareError('other', error.message, { cause: error })
    const fault = hardwareFault('broker', error)
    // a closed socket stays closed; an error in a reply says nothing about the socket
    if (fault !== error && fault.kind === 'no-device') this.#dead = fault
    return fault
  }

  #gone(): HardwareError {
    this.#dead = new HardwareError('no-device', 'the owner of the hardware is gone')
    return this.#dead
  }

  #send(frame: Uint8Array, until: number): void {
    // a frame that was sent in part is completed before the next one (HANDLES 7.9)
    const bytes = this.#unsent.length === 0 ? frame : Buffer.concat([this.#unsent, frame])
    const frameEnd = this.#unsent.length
    let at = 0
    for (let tries = 0; at < bytes.length; ) {
      const sent = attempt(() => writeSync(this.#fd, bytes, at))
      if (sent !== null) at += sent
      else if (!canRetry(++tries, until)) {
        // keep the unsent part of a begun frame; drop the new frame if none of it was sent
        this.#unsent = new Uint8Array(bytes.subarray(at, at <= frameEnd ? frameEnd : undefined))
        throw new HardwareError('busy', `no room for a request within ${this.#deadlineMs} ms`)
      }
    }
    this.#unsent = new Uint8Array(0)
  }

  #receive(request: number, until: number): Reply {
    for (let tries = 0; ; ) {
      const got = attempt(() => readSync(this.#fd, this.#chunk))
      if (got === 0) throw this.#gone()
      if (got === null) {
        if (canRetry(++tries, until)) continue
        throw new HardwareError('busy', `no answer from the owner of the hardware within ${this.#deadlineMs} ms`)
      }
      // skip late replies to requests that timed out (HANDLES 7.10)
      const reply = this.#replies(got).find((each) => each.request === request)
      if (reply !== undefined) return reply
    }
  }

  #replies(got: number): Reply[] {
    try {
      return this.#reader.push(this.#chunk.subarray(0, got))
    } catch (error) {
      // the frame boundaries are lost, so the stream is unusable
      this.#dead = new HardwareError('other', 'the owner of the hardware sent a malformed reply', { cause: error })
      throw this.#dead
    }
  }
}

/** Null when the call would block. */
function attempt(call: () => number): number | null {
  try {
    return call()
  } catch (error) {
    if ((error as { code?: unknown }).code === 'EAGAIN') return null
    throw error
  }
}

/** Waits a moment before the next try. False when the deadline has passed. */
function canRetry(tries: number, until: number): boolean {
  if (tries <= EAGER_TRIES) return true
  if (performance.now() >= until) return false
  pause(SLEEP_MS)
  return true
}
