/**
 * Invariant: a child reaches only the handles that were granted to it, only up to its own fence, and can end only its
 * own socket (HANDLES 7).
 */
import type { Duplex } from 'node:stream'
import { HardwareError, hardwareFault } from '../errors.ts'
import { encodeReply, FrameError, OP, type Request, RequestReader } from '../program/broker/protocol.ts'
import type { OwnedHandle } from './backend.ts'

/** HANDLES 7.7: a child that does not read its replies is cut off. */
const MAX_UNREAD = 256 * 1024

/**
 * Serves one child until its socket ends. `maxFence` is asked at each request: the fencing number of this child's
 * present tenure, or below 0 while it has none. Returns what ends the service.
 */
export function serveBroker(
  socket: Duplex,
  granted: ReadonlyMap<number, OwnedHandle>,
  maxFence: () => number,
  options: { onMalformed?: (reason: string) => void } = {},
): () => void {
  const reader = new RequestReader()
  const end = (reason?: string) => {
    if (socket.destroyed) return
    socket.destroy()
    if (reason !== undefined) options.onMalformed?.(reason)
  }
  socket.on('error', () => end())
  socket.on('data', (chunk: Uint8Array) => {
    let requests: Request[]
    try {
      requests = reader.push(chunk)
    } catch (error) {
      // HANDLES 7.2
      if (!(error instanceof FrameError)) throw error
      return end(error.message)
    }
    // HANDLES 7.3
    for (const request of requests) {
      if (socket.destroyed) return
      socket.write(encodeReply({ request: request.request, result: answer(request, granted, maxFence()) }))
      if (socket.writableLength > MAX_UNREAD) return end('the replies are not read')
    }
  })
  return () => end()
}

/** What the owner answers to one request of a child. */
export function answer(
  { id, op, fence, payload }: Omit<Request, 'request'>,
  granted: ReadonlyMap<number, OwnedHandle>,
  maxFence: number,
): Uint8Array | HardwareError {
  const handle = granted.get(id)
  // HANDLES 7.5
  if (handle === undefined) return new HardwareError('revoked', `handle ${id} was not granted to this program`)
  // HANDLES 7.6: reading a level needs no tenure
  if (op !== OP.get && fence > maxFence) {
    return new HardwareError('revoked', `${handle.name}: fence ${fence} was not given to this program`)
  }
  try {
    return handle.request(op, payload, fence)
  } catch (error) {
    return hardwareFault(handle.name, error)
  }
}
