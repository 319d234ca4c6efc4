/**
 * Announces the robot by multicast DNS (CHANNEL 11). The body has the socket, and only sends on it; the endpoint has a copy, and
 * only reads it (HANDOVER 8.24). Invariant: what strangers ask makes the robot send at most once a second, and always the
 * same bytes (test/e2e/discovery.test.ts).
 *
 * Through koffi: Node's dgram reads each socket that it has, and lists the interfaces of this process's network only, which under
 * systemd is another one than the socket's.
 */
import { type Announced, encodeAnnouncement, MDNS } from '../../../deploy/shared/discovery.ts'
import { type LinuxSystem, loadSystem } from '../../../drivers/owner/linux/system.ts'
import { isArch } from '../../sdk/seccomp.ts'

/** bits/socket.h, asm-generic/socket.h, linux/in.h, linux/sockios.h */
const AF_INET = 2
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const MSG_DONTWAIT = 0x40
const SOL_SOCKET = 1
const SO_REUSEADDR = 2
const SO_RCVBUF = 8
const IPPROTO_IP = 0
const IP_MULTICAST_IF = 32
const IP_MULTICAST_TTL = 33
const IP_ADD_MEMBERSHIP = 35
const SIOCGIFCONF = 0x8912
/** struct ifreq on 64-bit: a name of 16 bytes, then an address. */
const IFREQ = 40
const MAX_INTERFACES = 16

/** RFC 6762 6: a record is not sent again on an interface before a second has passed. */
const APART_MS = 1000
/** How often the interfaces are looked at: a network may come long after the start. */
const LOOK_MS = 5000
/** Bytes of packets that wait to be read: the kernel drops further ones. */
const RECEIVE_BYTES = 16 * 1024

export class Announcer {
  readonly #system: LinuxSystem
  /** The socket, for the endpoint. */
  readonly fd: number
  /** Null: on every interface. */
  readonly #host: string | null
  #robot: Announced | null = null
  /** Addresses of the interfaces on which the group was joined. */
  #joined: ReadonlySet<string> = new Set()
  #sentAt = Number.NEGATIVE_INFINITY
  #later: NodeJS.Timeout | null = null
  #looking: NodeJS.Timeout | null = null

  private constructor(system: LinuxSystem, fd: number, host: string | null) {
    this.#system = system
    this.fd = fd
    this.#host = host
  }

  /**
   * On the socket of systemd, or on one of its own when the robot listens on an address that others reach. Null: this robot is
   * not announced. Throws the error of bind(2).
   */
  static open(given: number | null, isService: boolean, host: string): Announcer | null {
    if (process.platform !== 'linux' || !isArch(process.arch) || (given === null && (isService || isLoopback(host))))
      return null
    let system: LinuxSystem
    try {
      system = loadSystem()
    } catch {
      return null
    }
    const fd = given ?? bound(system)
    option(system, fd, SOL_SOCKET, SO_RCVBUF, word(RECEIVE_BYTES))
    option(system, fd, IPPROTO_IP, IP_MULTICAST_TTL, word(255))
    return new Announcer(system, fd, given !== null || isWildcard(host) ? null : host)
  }

  /** Announces the robot now, and when it is asked for or gets an address. */
  begin(robot: Announced): void {
    this.#robot = robot
    if (this.#looking !== null) return
    this.#look()
    this.#looking = setInterval(() => this.#look(), LOOK_MS)
    this.#looking.unref()
  }

  /** Somebody has asked for robots. */
  asked(): void {
    if (this.#robot === null || this.#later !== null) return
    const waitMs = this.#sentAt + APART_MS - performance.now()
    if (waitMs <= 0) return this.#send()
    this.#later = setTimeout(() => {
      this.#later = null
      this.#send()
    }, waitMs)
    this.#later.unref()
  }

  close(): void {
    if (this.#looking !== null) clearInterval(this.#looking)
    if (this.#later !== null) clearTimeout(this.#later)
    this.#looking = this.#later = null
    this.#robot = null
  }

  #look(): void {
    const now = new Set(addresses(this.#system, this.fd).filter((each) => this.#host === null || each === this.#host))
    const fresh = [...now].filter((each) => !this.#joined.has(each))
    for (const address of fresh) {
      // EADDRINUSE: another address of an interface whose group was joined already
      attempt(() =>
        option(this.#system, this.fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, [...quad(MDNS.group), ...quad(address)]),
      )
    }
    this.#joined = now
    if (fresh.length > 0) this.asked()
  }

  #send(): void {
    this.#sentAt = performance.now()
    const sendto = this.#system.bind('sendto', 'long', ['int', 'void*', 'size_t', 'int', 'void*', 'uint'])
    const group = Uint8Array.from([
      AF_INET,
      0,
      MDNS.port >> 8,
      MDNS.port & 0xff,
      ...quad(MDNS.group),
      ...Array<number>(8).fill(0),
    ])
    for (const address of this.#joined) {
      if (this.#robot === null) return
      const bytes = encodeAnnouncement(this.#robot, address)
      // An interface may have gone, and its address with it.
      attempt(() => {
        option(this.#system, this.fd, IPPROTO_IP, IP_MULTICAST_IF, quad(address))
        sendto(this.fd, bytes, bytes.length, MSG_DONTWAIT, group, group.length)
      })
    }
  }
}

export const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || host.startsWith('127.')
const isWildcard = (host: string): boolean => host === '0.0.0.0' || host === '::'

function bound(system: LinuxSystem): number {
  const fd = system.bind('socket', 'int', ['int', 'int', 'int'])(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  // avahi-daemon and systemd-resolved may have the port: each gets a copy of what is sent to the group
  option(system, fd, SOL_SOCKET, SO_REUSEADDR, word(1))
  const any = Uint8Array.from([AF_INET, 0, MDNS.port >> 8, MDNS.port & 0xff, ...Array<number>(12).fill(0)])
  system.bind('bind', 'int', ['int', 'void*', 'uint'])(fd, any, any.length)
  return fd
}

function option(system: LinuxSystem, fd: number, level: number, name: number, value: readonly number[]): void {
  system.bind('setsockopt', 'int', ['int', 'int', 'int', 'void*', 'uint'])(
    fd,
    level,
    name,
    Uint8Array.from(value),
    value.length,
  )
}

/** The IPv4 addresses of the socket's network, without those of the loopback. */
function addresses(system: LinuxSystem, fd: number): string[] {
  const list = new Uint8Array(MAX_INTERFACES * IFREQ)
  const request = new Uint8Array(16)
  const view = new DataView(request.buffer)
  view.setInt32(0, list.length, true)
  view.setBigUint64(8, system.address(list), true)
  attempt(() => system.ioctl(fd, SIOCGIFCONF, request))
  const count = Math.floor(Math.min(view.getInt32(0, true), list.length) / IFREQ)
  const found = Array.from({ length: count }, (_, at) => list.subarray(at * IFREQ + 20, at * IFREQ + 24).join('.'))
  return found.filter((address) => !isLoopback(address))
}

const word = (value: number): number[] => [...new Uint8Array(Int32Array.of(value).buffer)]
const quad = (address: string): number[] => address.split('.').map(Number)

function attempt(action: () => unknown): void {
  try {
    action()
  } catch {
    // said by what is missing on the network, and tried again
  }
}
