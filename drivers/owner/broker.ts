/**
 * The broker: serves the hardware requests that a child sends over its socket (HANDLES 7).
 *
 * Invariant: a child reaches only the handles granted to it, only with its own fence, and a malformed request ends only
 * its own socket (test/drivers/owner/broker.test.ts).
 */
import type { Duplex } from 'node:stream'
import { HardwareError, hardwareFault } from '../errors.ts'
import { encodeReply, FrameError, OP, type Request, RequestReader } from '../program/broker/protocol.ts'
import type { OwnedHandle } from './backend.ts'

/**
 * Bytes of unread replies after which a child is disconnected, so that it cannot fill the body's memory (HANDLES 7.7).
 */
const MAX_UNREAD = 256 * 1024

export interface BrokerService {
  end(): void
  /** The part of a request that was read: the next service begins with it. */
  unread(): Uint8Array
}

/**
 * Serves one child until its socket ends. `maxFence` is called for each request and returns the child's fencing number,
 * below 0 while the child has none.
 */
export function serveBroker(
  socket: Duplex,
  granted: ReadonlyMap<number, OwnedHandle>,
  maxFence: () => number,
  options: { onMalformed?: (reason: string) => void; unread?: Uint8Array } = {},
): BrokerService {
  const reader = new RequestReader()
  const end = (reason?: string) => {
    if (socket.destroyed) return
    socket.destroy()
    if (reason !== undefined) options.onMalformed?.(reason)
  }
  socket.on('error', () => end())
  const take = (chunk: Uint8Array): void => {
    let requests: Request[]
    try {
      requests = reader.push(chunk)
    } catch (error) {
      // after a malformed frame the stream cannot be read any further (HANDLES 7.2)
      if (!(error instanceof FrameError)) throw error
      return end(error.message)
    }
    // every request gets one reply, in order (HANDLES 7.3)
    for (const request of requests) {
      if (socket.destroyed) return
      socket.write(encodeReply({ request: request.request, result: answer(request, granted, maxFence()) }))
      if (socket.writableLength > MAX_UNREAD) return end('the replies are not read')
    }
  }
  if (options.unread !== undefined && options.unread.length > 0) take(options.unread)
  socket.on('data', take)
  return { end: () => end(), unread: () => reader.unread }
}

/** Checks one request of a child and runs it; returns the result or the error to send back. */
export function answer(
  { id, op, fence, payload }: Omit<Request, 'request'>,
  granted: ReadonlyMap<number, OwnedHandle>,
  maxFence: number,
): Uint8Array | HardwareError {
  const handle = granted.get(id)
  // the same answer whether the handle exists or not (HANDLES 7.5)
  if (handle === undefined) return new HardwareError('revoked', `handle ${id} was not granted to this program`)
  // reading a level needs no fence (HANDLES 7.6)
  if (op !== OP.get && fence > maxFence) {
    return new HardwareError('revoked', `${handle.name}: fence ${fence} was not given to this program`)
  }
  try {
    return handle.request(op, payload, fence)
  } catch (error) {
    return hardwareFault(handle.name, error)
  }
}
