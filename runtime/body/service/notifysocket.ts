/**
 * Sends messages to systemd over its datagram socket (sd_notify(3)).
 *
 * Through koffi: Node has no UNIX datagram sockets, and whatever drives hardware needs koffi anyway. The npm packages for it
 * compile an addon of their own on the robot. systemd-notify(1) is a process for each message, of which NotifyAccess=main
 * takes none, and whose exit systemd may see before it has looked up whose message it was.
 */
import { type Argument, loadSystem } from '../../../drivers/owner/linux/system.ts'

const AF_UNIX = 1
const AF_INET = 2
const AF_INET6 = 10
const SOCK_DGRAM = 2
const SOL_SOCKET = 1
const SO_TYPE = 3
const SOCK_CLOEXEC = 0o2000000
const MSG_DONTWAIT = 0x40
const MSG_NOSIGNAL = 0x4000
/** sockaddr_un(7): path of at most 107 bytes and a NUL. */
const MAX_PATH = 107
/** systemd reads at most 4,096 bytes of a message. */
const MAX_STATUS = 1000

export interface Notice {
  /** The start is over, and the robot works. */
  readonly ready?: boolean
  readonly stopping?: boolean
  /** The body works: systemd waits for the next message. */
  readonly alive?: boolean
  /** The start takes at most this long from now on. */
  readonly extendMs?: number
  /** One line for `systemctl status`. */
  readonly status?: string
}

export class NotifySocket {
  readonly #send: (bytes: Uint8Array) => void

  /** Throws HardwareError `unsupported` without koffi, and an Error for an address that is no UNIX socket. */
  constructor(path: string) {
    const address = addressOf(path)
    const system = loadSystem()
    const fd = system.bind('socket', 'int', ['int', 'int', 'int'])(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    const sendto = system.bind('sendto', 'long', ['int', 'void*', 'size_t', 'int', 'void*', 'uint'])
    this.#send = (bytes) => {
      sendto(fd, bytes, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL, address, address.length)
    }
  }

  /** False when systemd did not take the message, as while its queue is full. Never blocks. */
  send(notice: Notice): boolean {
    const { ready, stopping, alive, extendMs, status } = notice
    const lines = [
      ...(ready ? ['READY=1'] : []),
      ...(stopping ? ['STOPPING=1'] : []),
      ...(alive ? ['WATCHDOG=1'] : []),
      ...(extendMs === undefined ? [] : [`EXTEND_TIMEOUT_USEC=${Math.ceil(extendMs * 1000)}`]),
      ...(status === undefined ? [] : [`STATUS=${oneLine(status)}`]),
    ]
    try {
      this.#send(Buffer.from(lines.join('\n')))
      return true
    } catch {
      return false
    }
  }
}

/** Without line breaks, which would begin another assignment, and without control characters. */
const oneLine = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?').slice(0, MAX_STATUS)

/** sockaddr_un; a leading @ stands for the NUL of an abstract address. */
function addressOf(path: string): Uint8Array {
  const bytes = Buffer.from(path.startsWith('@') ? `\0${path.slice(1)}` : `${path}\0`)
  if (!/^[/@]/.test(path) || bytes.length > MAX_PATH + 1) {
    throw new Error(`NOTIFY_SOCKET is no address of a UNIX socket: ${path}`)
  }
  const address = new Uint8Array(2 + bytes.length)
  new DataView(address.buffer).setUint16(0, AF_UNIX, true)
  address.set(bytes, 2)
  return address
}

/** The TCP port of a listening socket. */
export function portOf(socket: number): number {
  const address = new Uint8Array(28)
  const length: Argument = new Uint8Array(Uint32Array.of(address.length).buffer)
  loadSystem().bind('getsockname', 'int', ['int', 'void*', 'void*'])(socket, address, length)
  const view = new DataView(address.buffer)
  const family = view.getUint16(0, true)
  if (family !== AF_INET && family !== AF_INET6) throw new Error(`descriptor ${socket} is no TCP socket`)
  return view.getUint16(2)
}

/** Whether a socket is for datagrams: SO_TYPE of socket(7). */
export function isDatagram(socket: number): boolean {
  const [type, length] = [new Uint8Array(4), new Uint8Array(Uint32Array.of(4).buffer)]
  const getsockopt = loadSystem().bind('getsockopt', 'int', ['int', 'int', 'int', 'void*', 'void*'])
  getsockopt(socket, SOL_SOCKET, SO_TYPE, type, length)
  return new DataView(type.buffer).getInt32(0, true) === SOCK_DGRAM
}
