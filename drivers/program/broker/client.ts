/**
 * Invariant: a request returns, or throws, within its deadline, and a reply is only ever given to its own request.
 *
 * Synchronous over one end of a socket pair. The descriptor is made non-blocking by a net.Socket that never reads;
 * what is not there yet is waited for in short sleeps (HANDLES 7.8).
 */
import { readSync, writeSync } from 'node:fs'
import { Socket } from 'node:net'
import { HardwareError, hardwareFault } from '../../errors.ts'
import { encodeRequest, FrameError, MAX_PAYLOAD, type Reply, ReplyReader } from './protocol.ts'

/** Tries before the first sleep: about the time of a round trip to an owner that is not busy. */
const EAGER_TRIES = 4
const SLEEP_MS = 0.03
const sleeper = new Int32Array(new SharedArrayBuffer(4))

/** What brokered handles need; the rehearsal gives them one that answers with zeros. */
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
    // the option is Node's own, and not in its types: opens the handle, sets O_NONBLOCK, never reads
    const silent = { fd, manualStart: true, readable: true, writable: true }
    this.#socket = new Socket(silent).unref()
  }

  /**
   * Throws what the owner answered; `busy` after the deadline (the request MAY still be carried out, under its fence);
   * `no-device` when the owner is gone, from then on at once.
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
    // a closed socket never comes back; what the owner answered says nothing about the socket
    if (fault !== error && fault.kind === 'no-device') this.#dead = fault
    return fault
  }

  #gone(): HardwareError {
    this.#dead = new HardwareError('no-device', 'the owner of the hardware is gone')
    return this.#dead
  }

  #send(frame: Uint8Array, until: number): void {
    // HANDLES 7.9: a frame that was cut by a full socket is finished before the next begins
    const bytes = this.#unsent.length === 0 ? frame : Buffer.concat([this.#unsent, frame])
    const owed = this.#unsent.length
    let at = 0
    for (let tries = 0; at < bytes.length; ) {
      const sent = attempt(() => writeSync(this.#fd, bytes, at))
      if (sent !== null) at += sent
      else if (!pause(++tries, until)) {
        // a frame of which nothing was sent is withdrawn
        this.#unsent = new Uint8Array(bytes.subarray(at, at <= owed ? owed : undefined))
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
        if (pause(++tries, until)) continue
        throw new HardwareError('busy', `no answer from the owner of the hardware within ${this.#deadlineMs} ms`)
      }
      // HANDLES 7.10: replies to requests that were given up are skipped
      const reply = this.#replies(got).find((each) => each.request === request)
      if (reply !== undefined) return reply
    }
  }

  #replies(got: number): Reply[] {
    try {
      return this.#reader.push(this.#chunk.subarray(0, got))
    } catch (error) {
      // a broken stream never heals
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

/** False when the deadline has passed. */
function pause(tries: number, until: number): boolean {
  if (tries <= EAGER_TRIES) return true
  if (performance.now() >= until) return false
  Atomics.wait(sleeper, 0, 0, SLEEP_MS)
  return true
}
