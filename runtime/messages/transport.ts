/** What carries the connections of laptops to a program: a socket on a robot, a simulated network in `medulla/test`. */
import { createServer, type Server, type Socket } from 'node:net'

/** A connection with a laptop: the part of a socket that channels use. */
export interface Connection {
  readonly destroyed: boolean
  readonly writableCorked: number
  cork(): void
  uncork(): void
  write(bytes: Uint8Array): unknown
  end(): unknown
  end(bytes: Uint8Array): unknown
  destroy(): unknown
  on(event: 'data', listener: (chunk: Buffer) => void): unknown
  on(event: 'close' | 'error', listener: () => void): unknown
  once(event: 'close', listener: () => void): unknown
  removeAllListeners(event: 'data'): unknown
}

export interface Transport {
  /** From now on, calls `connected` with each connection. Called again when the program goes on after a rollback. */
  listen(connected: (connection: Connection) => void, backlog: number): void
  /** Calls `fn` in a later turn of the event loop. */
  soon(fn: () => void): void
  /** Calls `fn` after `ms`. Returns a function that cancels this. */
  later(ms: number, fn: () => void): () => void
}

const realTimeout = setTimeout
const realImmediate = setImmediate

/** Over the program instance's own listening socket: the body connects to it only while this is the running program of its slot. */
export function socketTransport(fd: number): Transport {
  let server: Server | null = null
  return {
    listen(connected, backlog) {
      if (server !== null) return
      server = createServer((socket: Socket) => connected(socket))
      // without a socket that works, there are no channels: no reason to end a program
      server.on('error', () => {})
      // with a descriptor, Node takes the backlog only from this place
      server.listen({ fd }, backlog as never)
      server.unref()
    },
    soon: (fn) => void realImmediate(fn),
    later(ms, fn) {
      const timer = realTimeout(fn, ms)
      return () => clearTimeout(timer)
    },
  }
}
