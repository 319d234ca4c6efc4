/**
 * Invariant: a descriptor that was sent is at the receiver, close-on-exec, or the call throws and nothing of it is left.
 *
 * UNIX stream sockets that carry descriptors (unix(7), cmsg(3)), in blocking calls: Node's own sockets carry none.
 */
import { closeSync, constants, openSync, readSync, renameSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { type Argument, type CType, type LinuxSystem, loadSystem } from './system.ts'

const AF_UNIX = 1
const SOCK_STREAM = 1
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_PEERCRED = 17
const SO_RCVTIMEO = 20
const SO_SNDTIMEO = 21
const SCM_RIGHTS = 1
const MSG_CTRUNC = 0x8
const MSG_NOSIGNAL = 0x4000
const MSG_CMSG_CLOEXEC = 0x40000000
const BACKLOG = 4

/** Descriptors in one message; the kernel takes 253 (SCM_MAX_FD). */
export const MAX_FDS = 64

/** sizeof(long), and of a pointer: struct msghdr is made of them. */
const WORD = process.arch === 'arm' || process.arch === 'ia32' ? 4 : 8
/** Behind struct msghdr: name, namelen, iov, iovlen, control, controllen, flags, which take a word each. */
const IOVEC_AT = 64
const DATA_AT = 96
const CONTROL_AT = 128
/** struct cmsghdr: size_t len, int level, int type. */
const CMSG_SIZE = WORD + 8
const CONTROL_SIZE = CMSG_SIZE + 4 * MAX_FDS

export interface Peer {
  readonly pid: number
  readonly uid: number
}

export class UnixSockets {
  readonly #system: LinuxSystem
  readonly #calls = new Map<string, (...args: Argument[]) => number>()

  constructor(system: LinuxSystem = loadSystem()) {
    this.#system = system
  }

  /** A listening socket `name` in `folder`, in the place of one that was there; by default only for this user. */
  listen(folder: string, name: string, { backlog = BACKLOG, mode = 0o600 } = {}): number {
    const socket = this.#socket()
    const temporary = `.${name}-${process.pid}`
    try {
      unlinkSync(join(folder, temporary))
    } catch {
      // the rule
    }
    const umask = process.umask(0o777 & ~mode)
    try {
      withAddress(folder, temporary, (address) =>
        this.#call('bind', ['int', 'void*', 'uint'])(socket, address, address.length),
      )
      this.#call('listen', ['int', 'int'])(socket, backlog)
      renameSync(join(folder, temporary), join(folder, name))
      return socket
    } catch (error) {
      closeSync(socket)
      throw error
    } finally {
      process.umask(umask)
    }
  }

  /** Blocks until somebody connects. */
  accept(socket: number): number {
    const accept = this.#call('accept4', ['int', 'void*', 'void*', 'int'])
    return again(() => accept(socket, null, null, SOCK_CLOEXEC))
  }

  /** Throws ENOENT or ECONNREFUSED when nobody listens, EAGAIN from any later call that takes longer than the timeout. */
  connect(folder: string, name: string, timeoutMs: number): number {
    const socket = this.#socket()
    const timeout = new DataView(new ArrayBuffer(2 * WORD))
    timeout.setInt32(0, Math.floor(timeoutMs / 1000), true)
    timeout.setInt32(WORD, Math.ceil((timeoutMs % 1000) * 1000), true)
    const set = this.#call('setsockopt', ['int', 'int', 'int', 'void*', 'uint'])
    try {
      for (const option of [SO_RCVTIMEO, SO_SNDTIMEO]) {
        set(socket, SOL_SOCKET, option, new Uint8Array(timeout.buffer), timeout.byteLength)
      }
      const connect = this.#call('connect', ['int', 'void*', 'uint'])
      withAddress(folder, name, (address) => again(() => connect(socket, address, address.length)))
      return socket
    } catch (error) {
      closeSync(socket)
      throw error
    }
  }

  /** Who is at the other end: the process that connected, or that listened. */
  peer(socket: number): Peer {
    const ucred = new DataView(new ArrayBuffer(12))
    const length = new Uint8Array(Uint32Array.of(ucred.byteLength).buffer)
    const get = this.#call('getsockopt', ['int', 'int', 'int', 'void*', 'void*'])
    get(socket, SOL_SOCKET, SO_PEERCRED, new Uint8Array(ucred.buffer), length)
    return { pid: ucred.getInt32(0, true), uid: ucred.getUint32(4, true) }
  }

  /** Copies of the descriptors, {@link MAX_FDS} to a message, each message with one byte of data. */
  sendFds(socket: number, fds: readonly number[]): void {
    const sendmsg = this.#call('sendmsg', ['int', 'void*', 'int'], 'long')
    for (let at = 0; at < fds.length; at += MAX_FDS) {
      const part = fds.slice(at, at + MAX_FDS)
      const message = this.#message(CMSG_SIZE + 4 * part.length)
      setWord(message, CONTROL_AT, CMSG_SIZE + 4 * part.length)
      message.setInt32(CONTROL_AT + WORD, SOL_SOCKET, true)
      message.setInt32(CONTROL_AT + WORD + 4, SCM_RIGHTS, true)
      for (const [index, fd] of part.entries()) message.setInt32(CONTROL_AT + CMSG_SIZE + 4 * index, fd, true)
      again(() => sendmsg(socket, bytesOf(message), MSG_NOSIGNAL))
    }
  }

  /** What the other side's `sendFds` sent. All or none: throws when one is missing. */
  receiveFds(socket: number, count: number): number[] {
    const recvmsg = this.#call('recvmsg', ['int', 'void*', 'int'], 'long')
    const fds: number[] = []
    try {
      while (fds.length < count) {
        const message = this.#message(CONTROL_SIZE)
        const got = again(() => recvmsg(socket, bytesOf(message), MSG_CMSG_CLOEXEC))
        const part = got === 1 ? fdsOf(message) : []
        fds.push(...part)
        const wanted = Math.min(MAX_FDS, count - (fds.length - part.length))
        // cut short: this process may have no more descriptors
        if (part.length !== wanted || message.getInt32(6 * WORD, true) & MSG_CTRUNC) {
          throw new Error(`expected ${wanted} descriptors, got ${part.length}`)
        }
      }
      return fds
    } catch (error) {
      for (const fd of fds) closeSync(fd)
      throw error
    }
  }

  #socket(): number {
    return this.#call('socket', ['int', 'int', 'int'])(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
  }

  /** One byte of data and this much room for control data, all in one buffer, which does not move. */
  #message(control: number): DataView {
    const view = new DataView(new ArrayBuffer(CONTROL_AT + CONTROL_SIZE))
    const base = this.#system.address(bytesOf(view))
    setPointer(view, 2 * WORD, base + BigInt(IOVEC_AT))
    setWord(view, 3 * WORD, 1)
    setPointer(view, 4 * WORD, base + BigInt(CONTROL_AT))
    setWord(view, 5 * WORD, control)
    setPointer(view, IOVEC_AT, base + BigInt(DATA_AT))
    setWord(view, IOVEC_AT + WORD, 1)
    return view
  }

  #call(name: string, parameters: readonly CType[], result: 'int' | 'long' = 'int') {
    const known = this.#calls.get(name) ?? this.#system.bind(name, result, parameters)
    this.#calls.set(name, known)
    return known
  }
}

/** Exactly so many bytes of a blocking socket; null when it ended before. */
export function readExactly(socket: number, length: number): Buffer | null {
  const bytes = Buffer.alloc(length)
  for (let at = 0; at < length; ) {
    const got = again(() => readSync(socket, bytes, at, length - at, null))
    if (got === 0) return null
    at += got
  }
  return bytes
}

/** A signal that nobody handles interrupts a call now and then. */
export function again<T>(call: () => T): T {
  for (;;) {
    try {
      return call()
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EINTR') throw error
    }
  }
}

/** struct sockaddr_un holds 107 bytes of path: the folder goes in by descriptor, however long its name is. */
function withAddress(folder: string, name: string, use: (address: Uint8Array) => void): void {
  const fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    const path = Buffer.from(`/proc/self/fd/${fd}/${name}\0`)
    const address = new Uint8Array(2 + path.length)
    new DataView(address.buffer).setUint16(0, AF_UNIX, true)
    address.set(path, 2)
    use(address)
  } finally {
    closeSync(fd)
  }
}

function fdsOf(message: DataView): number[] {
  const length = getWord(message, CONTROL_AT)
  const used = getWord(message, 5 * WORD)
  if (used < CMSG_SIZE || message.getInt32(CONTROL_AT + WORD + 4, true) !== SCM_RIGHTS) return []
  const count = Math.floor((length - CMSG_SIZE) / 4)
  return Array.from({ length: count }, (_, index) => message.getInt32(CONTROL_AT + CMSG_SIZE + 4 * index, true))
}

function bytesOf({ buffer }: DataView): Uint8Array {
  return new Uint8Array(buffer)
}

function setPointer(view: DataView, at: number, value: bigint): void {
  if (WORD === 8) view.setBigUint64(at, value, true)
  else view.setUint32(at, Number(value), true)
}

/** The upper half of a wide word stays 0. */
function setWord(view: DataView, at: number, value: number): void {
  view.setUint32(at, value, true)
}

function getWord(view: DataView, at: number): number {
  return view.getUint32(at, true)
}
