/**
 * Invariant: a program's servers accept connections only while the program drives the hardware, and its connections have
 * ended before another program does (HANDLES 17.4, 17.5, 17.7, 17.8; test/e2e/listen.test.ts, test/e2e/servers.test.ts).
 *
 * Installed by the loader, like the gate: it knows every server and every connection of the program, whichever package made
 * them. Its work runs in separate turns of the event loop, never in the gap of a swap.
 */
import dgram from 'node:dgram'
import net from 'node:net'
import { HardwareError } from '../../drivers/errors.ts'
import type { NodeServer } from '../../drivers/program/handle.ts'
import type { ServerRegistry } from '../../drivers/program/inherit/index.ts'
import { Connections } from './connections.ts'
import { type PatchTarget, type RealFunction, replaceFunction } from './exchange.ts'
import type { Gate } from './gate.ts'

/** The part of `Sockets` that the SDK uses. */
export interface SocketsPort extends ServerRegistry {
  /** The program runs: its servers accept, including those that were closed for a yield. */
  accept(): void
  /** `run` is called anew: servers that an earlier call opened are not opened again. */
  forget(): void
  /**
   * Closes all servers and winds their connections down. `ends` is what the program itself does at its end, under way. Calls
   * `done` when all connections have ended, synchronously if there are none, or after `ms`, when the others are cut off. From
   * then on the program cannot connect.
   */
  drain(ms: number, ends: Promise<void> | null, done: () => void): void
}

interface Served {
  readonly connections: Connections
  /** Name of the `listen` handle; null: the server listens by itself. */
  readonly name: string | null
  /** The top level made the server, before `run`: it outlives a call of `run`. */
  readonly isTop: boolean
  /** Listens, unless the server already does. */
  open(): void
  /** The server listened when it was closed for a yield. */
  wasOpen: boolean
}

/** Between two attempts at an address that is in use. */
const AGAIN_MS = 20
/** How long a server retries an address in use: by then the predecessor has closed its server. */
const TCP_MS = 500
/** The same for UDP: a socket that the predecessor leaves open closes with its process, at the commit. */
const UDP_MS = 5000

const realTimeout = setTimeout
const realImmediate = setImmediate

export class Sockets implements SocketsPort {
  readonly #served = new Map<net.Server, Served>()
  /** Outgoing connections of the program. */
  readonly #clients = new Set<net.Socket>()
  readonly #gate: Gate
  #isOpen = false
  /** A yield is near: new connections and servers are deferred. */
  #isClosing = false
  #drain = 0

  /** To be made after the gate is installed: its patches call the gate's. */
  constructor(gate: Gate) {
    this.#gate = gate
    const sockets = this
    replaceFunction(
      net.Server.prototype as unknown as PatchTarget,
      'listen',
      (real) =>
        function (this: net.Server, ...args: unknown[]) {
          if (gate.round !== undefined || isDescriptor(args[0])) return real.apply(this, args)
          sockets.#listens(this, real, args)
          return sockets.#unlessClosing(this, 'a server', real, args)
        },
    )
    replaceFunction(
      net.Socket.prototype as unknown as PatchTarget,
      'connect',
      (real) =>
        function (this: net.Socket, ...args: unknown[]) {
          if (gate.round !== undefined) return real.apply(this, args)
          if (!sockets.#clients.has(this)) {
            sockets.#clients.add(this)
            this.once('close', () => sockets.#clients.delete(this))
          }
          if (sockets.#isClosing) Object.assign(this, { connecting: true })
          return sockets.#unlessClosing(this, 'a connection', real, args)
        },
    )
    replaceFunction(
      dgram.Socket.prototype as unknown as PatchTarget,
      'bind',
      (real) =>
        function (this: dgram.Socket, ...args: unknown[]) {
          if (gate.round === undefined) retry(this, UDP_MS, () => real.apply(this, withoutCallback(args)))
          return real.apply(this, args)
        },
    )
  }

  /** Serves on the descriptor of a `listen` handle; one server for each handle (HANDLES 17.4). */
  add(name: string, given: NodeServer, descriptor: () => number): void {
    const server = given as net.Server
    if (this.#served.has(server)) throw new HardwareError('busy', `${name}: this server has an address already`)
    if ([...this.#served.values()].some((served) => served.name === name)) {
      throw new HardwareError('busy', `${name}: another server has this handle already`)
    }
    const open = () => {
      if (!server.listening) server.listen({ fd: descriptor() })
    }
    this.#served.set(server, { name, isTop: false, open, connections: new Connections(server), wasOpen: true })
    if (this.#isOpen) realImmediate(() => this.#reopen(server))
  }

  accept(): void {
    this.#drain += 1
    this.#isOpen = true
    this.#isClosing = false
    for (const server of this.#served.keys()) realImmediate(() => this.#reopen(server))
  }

  forget(): void {
    for (const [server, { isTop }] of this.#served) if (!isTop) this.#served.delete(server)
  }

  drain(ms: number, ends: Promise<void> | null, done: () => void): void {
    const drain = ++this.#drain
    this.#isOpen = false
    const all = [...this.#served.values()]
    let isEnded = ends === null
    // until the servers are closed, this turn of the loop may still accept connections
    let isClosed = false
    let isOver = false
    const finish = () => {
      if (isOver || drain !== this.#drain) return
      isOver = true
      clearTimeout(timer)
      this.#endClients(done)
    }
    const look = () => {
      if (isEnded && isClosed && all.every(({ connections }) => connections.count === 0)) finish()
    }
    const timer = realTimeout(() => {
      for (const { connections } of all) connections.end()
      // the FINs go out first
      realImmediate(() => {
        for (const { connections } of all) connections.destroy()
        finish()
      })
    }, ms)
    const close = () => {
      if (drain !== this.#drain) return
      this.#isClosing = true
      for (const served of all) {
        served.wasOpen = served.connections.server.listening || (served.name !== null && served.wasOpen)
        served.connections.close(look)
      }
      isClosed = true
      look()
    }
    if (ends === null) return close()
    void ends.then(() => {
      isEnded = true
      look()
    })
    // one turn later: what the program sends at its end, like a WebSocket close frame, goes out before our FIN
    realImmediate(close)
  }

  /** Ends the program's outgoing connections with a FIN; new ones are deferred. */
  #endClients(done: () => void): void {
    this.#isClosing = true
    const clients = [...this.#clients].filter(({ destroyed }) => !destroyed)
    if (clients.length === 0) return done()
    for (const client of clients) client.end()
    realImmediate(() => {
      for (const client of clients) client.destroy()
      done()
    })
  }

  #reopen(server: net.Server): void {
    const served = this.#served.get(server)
    if (!this.#isOpen || served === undefined || !served.wasOpen) return
    served.connections.reopen()
    served.wasOpen = false
    served.open()
  }

  /** Tracks a server that the program itself calls `listen` on. */
  #listens(server: net.Server, real: RealFunction, args: unknown[]): void {
    const again = withoutCallback(args)
    const isTop = !this.#gate.isLive
    const listen = (at: unknown[]) => this.#unlessClosing(server, 'a server', real, at)
    retry(server, TCP_MS, () => listen(again))
    const known = this.#served.get(server)
    const connections = known?.connections ?? new Connections(server)
    const open = () => {
      if (server.listening) return
      retry(server, TCP_MS, () => listen(sameAddress))
      listen(sameAddress)
    }
    let sameAddress = again
    // with port 0, listening again must take the port that the system chose the first time
    server.once('listening', () => {
      const address = server.address()
      if (address !== null && typeof address === 'object') sameAddress = atPort(again, address.port)
    })
    this.#served.set(server, { name: null, isTop: known?.isTop ?? isTop, connections, open, wasOpen: false })
    server.once('close', () => {
      // closed by the program itself
      if (this.#isOpen && !server.listening) this.#served.delete(server)
    })
  }

  #unlessClosing(on: object, what: string, real: RealFunction, args: unknown[]): unknown {
    if (!this.#isClosing) return real.apply(on, args)
    this.#gate.defer(on, what, () => {
      if ((on as { destroyed?: boolean }).destroyed !== true) real.apply(on, args)
    })
    return on
  }
}

type Failing = net.Server | dgram.Socket

/** Servers and sockets that retry an address in use, and until when. */
const waiting = new WeakMap<Failing, { until: number; again: () => void }>()

/** Retries an address in use for `ms` before `on` emits the error. */
function retry(on: Failing, ms: number, again: () => void): void {
  const isNew = !waiting.has(on)
  waiting.set(on, { until: performance.now() + ms, again })
  if (!isNew) return
  const emit = on.emit
  on.emit = (event: string, ...args: unknown[]): boolean => {
    const wait = waiting.get(on)
    const isTaken = event === 'error' && (args[0] as { code?: unknown } | undefined)?.code === 'EADDRINUSE'
    if (!isTaken || wait === undefined || performance.now() > wait.until) {
      return Reflect.apply(emit, on, [event, ...args]) as boolean
    }
    realTimeout(wait.again, AGAIN_MS)
    return true
  }
}

const withoutCallback = (args: readonly unknown[]): unknown[] => args.filter((arg) => typeof arg !== 'function')

/** Whether `listen` was given a descriptor, which cannot be opened a second time. */
function isDescriptor(first: unknown): boolean {
  const options = Array.isArray(first) ? first[0] : first
  return typeof options === 'object' && options !== null && ('fd' in options || '_handle' in options)
}

/** The arguments of `listen` with another port. */
function atPort(args: readonly unknown[], port: number): unknown[] {
  const [first, ...rest] = args
  if (typeof first === 'object' && first !== null) return [{ ...first, port }, ...rest]
  return [port, ...rest]
}
