/**
 * Looks for robots by multicast DNS. Invariant: what answers is a hint: the address is the one from which the answer came, and only
 * a session with a pinned robot proves who is there (CHANNEL 11.7; test/e2e/discovery.test.ts).
 */
import { createSocket, type Socket } from 'node:dgram'
import { networkInterfaces } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { MulticastDNS } from 'multicast-dns'
import { type Announced, MDNS, mayDecode, readAnnouncements, SERVICE } from '../shared/discovery.ts'
import { timeScale } from '../shared/timescale.ts'

export interface Found extends Announced {
  host: string
}
export interface Search {
  found: Found[]
  /** Why nothing can be found on this computer; null: the question was sent. */
  problem: string | null
}

/** A robot answers at once, or at the end of the second in which it has answered somebody else (CHANNEL 11.4). */
const SEARCH_MS = 1200
/** The question is sent again, in case that it was lost. */
const AGAIN_MS = 500
/** Most robots of a search that this laptop does not know, and most addresses that claim to be one robot. */
const MAX_STRANGERS = 64
const MAX_CLAIMS = 4

/** Whether this laptop may send multicast: MEDULLA_DISCOVERY=off forbids it. */
export const mayDiscover = (env: Readonly<Record<string, string | undefined>>): boolean =>
  env.MEDULLA_DISCOVERY !== 'off'

/** `known`: ids of robots that no number of strangers crowds out. Ends early when `enough` is true. */
export async function discover(
  known: ReadonlySet<string>,
  enough: (found: readonly Found[]) => boolean,
): Promise<Search> {
  const { default: makeMdns } = await import('multicast-dns')
  const found: Found[] = []
  let strangers = 0
  let problem: string | null = null
  const done = new AbortController()
  const add = (robot: Announced, host: string): void => {
    const claims = found.filter(({ id }) => id === robot.id)
    if (claims.length >= MAX_CLAIMS || claims.some((other) => other.host === host)) return
    if (!known.has(robot.id) && ++strangers > MAX_STRANGERS) return
    found.push({ ...robot, host })
    if (enough(found)) done.abort()
  }
  const addresses = Object.values(networkInterfaces())
    .flatMap((each) => each ?? [])
    .filter(({ family, internal }) => family === 'IPv4' && !internal)
  // One socket for each interface: the system sends multicast on one of them only.
  const sockets = addresses.map(({ address }): MulticastDNS => {
    const mdns = makeMdns({ interface: address, bind: '0.0.0.0', socket: guarded() })
    mdns.on('response', (packet, { address: host, port }) => {
      if (port !== MDNS.port) return
      for (const robot of readAnnouncements(packet)) add(robot, host)
    })
    mdns.on('error', (error: Error) => {
      problem = error.message
    })
    // a packet that is no DNS, or an interface that has gone
    mdns.on('warning', () => {})
    return mdns
  })
  if (sockets.length === 0) problem = 'this computer has no network'
  const until = performance.now() + SEARCH_MS * timeScale()
  while (!done.signal.aborted && sockets.length > 0 && performance.now() < until) {
    for (const mdns of sockets) mdns.query({ questions: [{ name: SERVICE, type: 'PTR' }] })
    await sleep(Math.min(AGAIN_MS, until - performance.now()), undefined, { signal: done.signal }).catch(() => {})
  }
  for (const mdns of sockets) mdns.destroy()
  return { found, problem: found.length > 0 ? null : problem }
}

/** A socket that passes on only what is cheap to decode: multicast-dns decodes every packet that it gets (CHANNEL 11.6). */
function guarded(): Socket {
  const socket = createSocket({ type: 'udp4', reuseAddr: true })
  const emit = socket.emit.bind(socket) as (event: string, ...values: unknown[]) => boolean
  socket.emit = (event: string, ...values: unknown[]): boolean =>
    event === 'message' && !mayDecode(values[0] as Buffer) ? false : emit(event, ...values)
  return socket
}
