/**
 * Listening sockets: a TCP port or a socket file (socket(7), ip(7), ipv6(7), unix(7)).
 *
 * The body binds a socket once and never accepts on it: a client that connects while no program runs waits in the
 * kernel (HANDLES 17.1).
 */
import { closeSync, mkdirSync, rmSync } from 'node:fs'
import { isIPv6 } from 'node:net'
import { join } from 'node:path'
import { placeOf } from '../../board/places.ts'
import type { ListenEntry } from '../../board/types.ts'
import { HardwareError, hardwareFault } from '../../errors.ts'
import type { OpenContext, OpenDevice } from './device.ts'
import { keptFd } from './faults.ts'
import type { LinuxSystem } from './system.ts'
import { UnixSockets } from './unix.ts'

const AF_INET = 2
const AF_INET6 = 10
const SOCK_STREAM = 1
const SOCK_NONBLOCK = 0o4000
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_REUSEADDR = 2
/** The default of Node's servers; the kernel limits it to net.core.somaxconn. */
const BACKLOG = 511
/** Mode of a socket file: the runtime's user and group may connect. */
const FILE_MODE = 0o660

export function openListen(context: OpenContext<ListenEntry>): OpenDevice {
  const { name, entry, kept, system, sockets } = context
  const fd = kept === undefined ? listenOn(name, entry, sockets, system) : keptFd(name, kept.fds)
  return {
    source: { via: 'inherit', fd, encoding: 'listen' },
    fds: [fd],
    close: () => stopListening(fd, entry, sockets),
  }
}

/** `sockets` is the folder for socket files. Throws `busy` for a port in use. */
export function listenOn(name: string, entry: ListenEntry, sockets: string | undefined, system: LinuxSystem): number {
  const { port, path, host } = entry
  try {
    if (port !== undefined) return listenOnPort(host, port, system)
    if (path === undefined || sockets === undefined) throw new HardwareError('unsupported', 'no socket folder')
    mkdirSync(sockets, { recursive: true, mode: 0o755 })
    return new UnixSockets(system).listen(sockets, path, { backlog: BACKLOG, mode: FILE_MODE })
  } catch (error) {
    throw listenFault(name, entry, error)
  }
}

export function stopListening(fd: number, { path }: ListenEntry, sockets: string | undefined): void {
  if (path !== undefined && sockets !== undefined) rmSync(join(sockets, path), { force: true })
  closeSync(fd)
}

function listenOnPort(host: string, port: number, system: LinuxSystem): number {
  const address = isIPv6(host) ? addressV6(host, port) : addressV4(host, port)
  const family = isIPv6(host) ? AF_INET6 : AF_INET
  const how = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC
  const fd = system.bind('socket', 'int', ['int', 'int', 'int'])(family, how, 0)
  try {
    const yes = Uint8Array.of(1, 0, 0, 0)
    const set = system.bind('setsockopt', 'int', ['int', 'int', 'int', 'void*', 'uint'])
    set(fd, SOL_SOCKET, SO_REUSEADDR, yes, yes.length)
    system.bind('bind', 'int', ['int', 'void*', 'uint'])(fd, address, address.length)
    system.bind('listen', 'int', ['int', 'int'])(fd, BACKLOG)
    return fd
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

/** struct sockaddr_in: u16 family, u16 port in network order, four bytes of address, eight bytes unused. */
function addressV4(host: string, port: number): Uint8Array {
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, AF_INET, true)
  view.setUint16(2, port)
  bytes.set(host.split('.').map(Number), 4)
  return bytes
}

/** struct sockaddr_in6: u16 family, u16 port in network order, u32 flow, sixteen bytes of address, u32 scope. */
function addressV6(host: string, port: number): Uint8Array {
  const bytes = new Uint8Array(28)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, AF_INET6, true)
  view.setUint16(2, port)
  // URL brings the address into one form: lower case, without dotted decimals
  const [before = '', after] = new URL(`http://[${host}]`).hostname.slice(1, -1).split('::')
  const groups = (text: string | undefined): string[] => (text === undefined || text === '' ? [] : text.split(':'))
  const [first, last] = [groups(before), groups(after)]
  for (const [at, group] of first.entries()) view.setUint16(8 + 2 * at, Number.parseInt(group, 16))
  for (const [at, group] of last.entries()) {
    view.setUint16(8 + 2 * (8 - last.length + at), Number.parseInt(group, 16))
  }
  return bytes
}

function listenFault(name: string, entry: ListenEntry, error: unknown): HardwareError {
  const code = (error as { code?: unknown } | null)?.code
  const { port, host } = entry
  const place = port === undefined ? placeOf(entry) : `port ${port}`
  const fault = (kind: 'busy' | 'other' | 'no-device', text: string) =>
    new HardwareError(kind, `${name}: ${text}`, { cause: error })
  if (code === 'EADDRINUSE') {
    const find = `sudo ss -ltnp 'sport = :${port}'`
    return fault('busy', `${place} is in use: stop its process (${find} shows it), or change "port" in board.json`)
  }
  if (code === 'EADDRNOTAVAIL') {
    return fault('no-device', `${host} is not an address of this machine: write "host": "0.0.0.0" for all of them`)
  }
  if (code === 'EACCES') {
    return fault('other', `this user may not open ${place}: write a "port" from 1024, or start the runtime as root`)
  }
  return hardwareFault(name, error)
}
