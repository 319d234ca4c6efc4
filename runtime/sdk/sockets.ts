/**
 * Invariant: the servers of a program accept only while it is the one that runs, and its connections have come to an end
 * before another one drives (HANDLES 17.4, 17.5, 17.7, 17.8; test/e2e/listen.test.ts, test/e2e/servers.test.ts).
 *
 * It is the loader's, as the gate is: it knows every server and every connection of a program, whichever package made it.
 * What it does is done in turns of the event loop of their own, never between the revocation of one lease and the next.
 */
import dgram from 'node:dgram'
import net from 'node:net'
import { HardwareError } from '../../drivers/errors.ts'
import type { NodeServer } from '../../drivers/program/handle.ts'
import type { Serving } from '../../drivers/program/inherit/index.ts'
import { Connections } from './connections.ts'
import { type Call, exchange, type Target } from './exchange.ts'
import type { Gate } from './gate.ts'

/** What the loader gives the SDK of it. */
export interface SocketsPort extends Serving {
  /** The program runs: its servers accept, those that were closed for a yield again. */
  accept(): void
  /** `run` is called anew: what an earlier call of it has opened is not opened again. */
  forget(): void
  /**
   * Lets all clients go, `ends` (what the program itself does for that) being under way: `done` comes when all have gone, at
   * once if there are none, or after `ms`, when those that are left are cut off. From then on nothing connects.
   */
  drain(ms: number, ends: Promise<void> | null, done: () => void): void
}

interface Served {
  readonly connections: Connections
  /** of the handle, where it has one */
  readonly name: string | null
  /** of a server that was there before `run`: it outlives a call of `run` */
  readonly isTop: boolean
  /** Listens, or goes on listening. */
  open(): void
  /** It listened when it was closed for a yield. */
  wasOpen: boolean
}

/** Between two attempts at an address that is in use. */
const AGAIN_MS = 20
/** The longest that a server waits for its address: a predecessor has closed its own by then. */
const TCP_MS = 500
/** The same of UDP: what a predecessor has not closed goes with it, at the commit. */
const UDP_MS = 5000

const realTimeout = setTimeout
const realImmediate = setImmediate

export class Sockets implements SocketsPort {
  readonly #served = new Map<net.Server, Served>()
  /** Connections that the program made. */
  readonly #clients = new Set<net.Socket>()
  readonly #gate: Gate
  #isOpen = false
  /** Nothing connects or listens: a yield is near. */
  #isClosing = false
  #drain = 0

  /** To be put in place after the gate: it sees what the program asks for, and asks the gate for it. */
  constructor(gate: Gate) {
    this.#gate = gate
    const sockets = this
    exchange(
      net.Server.prototype as unknown as Target,
      'listen',
      (real) =>
        function (this: net.Server, ...args: unknown[]) {
          if (gate.round !== undefined || isDescriptor(args[0])) return real.apply(this, args)
          sockets.#listens(this, real, args)
          return sockets.#unlessClosing(this, 'a server', real, args)
        },
    )
    exchange(
      net.Socket.prototype as unknown as Target,
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
    exchange(
      dgram.Socket.prototype as unknown as Target,
      'bind',
      (real) =>
        function (this: dgram.Socket, ...args: unknown[]) {
          if (gate.round === undefined) retry(this, UDP_MS, () => real.apply(this, withoutCallback(args)))
          return real.apply(this, args)
        },
    )
  }

  /** HANDLES 17.4: one server for each handle. */
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
    // before that somebody may still be accepted, in this very turn
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
    // what the program says at its end, as a close frame, comes before our FIN
    realImmediate(close)
  }

  /** What the program connected to gets a FIN, and no new connection begins. */
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

  /** A server that listens by itself. */
  #listens(server: net.Server, real: Call, args: unknown[]): void {
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
    // port 0 is another one each time
    server.once('listening', () => {
      const address = server.address()
      if (address !== null && typeof address === 'object') sameAddress = atPort(again, address.port)
    })
    this.#served.set(server, { name: null, isTop: known?.isTop ?? isTop, connections, open, wasOpen: false })
    server.once('close', () => {
      // by the program itself
      if (this.#isOpen && !server.listening) this.#served.delete(server)
    })
  }

  #unlessClosing(on: object, what: string, real: Call, args: unknown[]): unknown {
    if (!this.#isClosing) return real.apply(on, args)
    this.#gate.defer(on, what, () => {
      if ((on as { destroyed?: boolean }).destroyed !== true) real.apply(on, args)
    })
    return on
  }
}

type Failing = net.Server | dgram.Socket

/** The emitters that wait for their address, and until when. */
const waiting = new WeakMap<Failing, { until: number; again: () => void }>()

/** An address that is in use is tried again for `ms` before `on` tells of it. */
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

/** A descriptor that somebody gave cannot be listened on again. */
function isDescriptor(first: unknown): boolean {
  const options = Array.isArray(first) ? first[0] : first
  return typeof options === 'object' && options !== null && ('fd' in options || '_handle' in options)
}

/** The arguments of `listen`, at the port that the server had. */
function atPort(args: readonly unknown[], port: number): unknown[] {
  const [first, ...rest] = args
  if (typeof first === 'object' && first !== null) return [{ ...first, port }, ...rest]
  return [port, ...rest]
}
