/**
 * UNIX stream sockets that pass descriptors (unix(7), cmsg(3)), with blocking calls: Node's sockets cannot pass them.
 *
 * Received descriptors are close-on-exec. When a call throws, it has left none open.
 */
import { closeSync, constants, openSync, readSync, renameSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { type Argument, type CType, type LinuxSystem, loadSystem } from './system.ts'

const AF_UNIX = 1
const SOCK_STREAM = 1
const SOCK_NONBLOCK = 0o4000
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

/** Descriptors in one message; the kernel accepts 253 (SCM_MAX_FD). */
export const MAX_FDS = 64

/** Size of a long and of a pointer, the members of struct msghdr. */
const WORD = process.arch === 'arm' || process.arch === 'ia32' ? 4 : 8
/** Offsets after struct msghdr: name, namelen, iov, iovlen, control, controllen, flags, each padded to a word. */
const IOVEC_AT = 64
const DATA_AT = 96
const CONTROL_AT = 128
/** struct cmsghdr: size_t len, int level, int type. */
const CMSG_SIZE = WORD + 8
const CONTROL_SIZE = CMSG_SIZE + 4 * MAX_FDS

export interface PeerCredentials {
  readonly pid: number
  readonly uid: number
}

export class UnixSockets {
  readonly #system: LinuxSystem
  readonly #calls = new Map<string, (...args: Argument[]) => number>()

  constructor(system: LinuxSystem = loadSystem()) {
    this.#system = system
  }

  /** Listens on the socket file `name` in `folder`, replacing an old one. By default only this user may connect. */
  listen(folder: string, name: string, { backlog = BACKLOG, mode = 0o600 } = {}): number {
    const socket = this.#socket()
    const temporary = `.${name}-${process.pid}`
    try {
      unlinkSync(join(folder, temporary))
    } catch {
      // usually there is no such file
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
    return retryInterrupted(() => accept(socket, null, null, SOCK_CLOEXEC))
  }

  /** Throws ENOENT or ECONNREFUSED when nobody listens. Any later call that exceeds the timeout throws EAGAIN. */
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
      withAddress(folder, name, (address) => retryInterrupted(() => connect(socket, address, address.length)))
      return socket
    } catch (error) {
      closeSync(socket)
      throw error
    }
  }

  /** As `connect`, but never waits: throws EAGAIN when the listener has too many connections that it has not accepted. */
  connectNow(folder: string, name: string): number {
    const socket = this.#socket(SOCK_NONBLOCK)
    try {
      const connect = this.#call('connect', ['int', 'void*', 'uint'])
      withAddress(folder, name, (address) => connect(socket, address, address.length))
      return socket
    } catch (error) {
      closeSync(socket)
      throw error
    }
  }

  /** The process at the other end: the one that connected, or that listens. */
  peer(socket: number): PeerCredentials {
    const ucred = new DataView(new ArrayBuffer(12))
    const length = new Uint8Array(Uint32Array.of(ucred.byteLength).buffer)
    const get = this.#call('getsockopt', ['int', 'int', 'int', 'void*', 'void*'])
    get(socket, SOL_SOCKET, SO_PEERCRED, new Uint8Array(ucred.buffer), length)
    return { pid: ucred.getInt32(0, true), uid: ucred.getUint32(4, true) }
  }

  /** Sends copies of the descriptors, at most {@link MAX_FDS} in a message, with one byte of data each. */
  sendFds(socket: number, fds: readonly number[]): void {
    const sendmsg = this.#call('sendmsg', ['int', 'void*', 'int'], 'long')
    for (let at = 0; at < fds.length; at += MAX_FDS) {
      const part = fds.slice(at, at + MAX_FDS)
      const message = this.#message(CMSG_SIZE + 4 * part.length)
      setWord(message, CONTROL_AT, CMSG_SIZE + 4 * part.length)
      message.setInt32(CONTROL_AT + WORD, SOL_SOCKET, true)
      message.setInt32(CONTROL_AT + WORD + 4, SCM_RIGHTS, true)
      for (const [index, fd] of part.entries()) message.setInt32(CONTROL_AT + CMSG_SIZE + 4 * index, fd, true)
      retryInterrupted(() => sendmsg(socket, bytesOf(message), MSG_NOSIGNAL))
    }
  }

  /** Receives what `sendFds` sent. Throws when a descriptor is missing, and closes the others. */
  receiveFds(socket: number, count: number): number[] {
    const recvmsg = this.#call('recvmsg', ['int', 'void*', 'int'], 'long')
    const fds: number[] = []
    try {
      while (fds.length < count) {
        const message = this.#message(CONTROL_SIZE)
        const got = retryInterrupted(() => recvmsg(socket, bytesOf(message), MSG_CMSG_CLOEXEC))
        const part = got === 1 ? fdsOf(message) : []
        fds.push(...part)
        const wanted = Math.min(MAX_FDS, count - (fds.length - part.length))
        // truncated: this process may have reached its limit of descriptors
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

  #socket(how = 0): number {
    return this.#call('socket', ['int', 'int', 'int'])(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | how, 0)
  }

  /** A message with one byte of data and `control` bytes of control data, in one buffer, which does not move. */
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

/** Reads exactly `length` bytes from a blocking socket; null when it ended before. */
export function readExactly(socket: number, length: number): Buffer | null {
  const bytes = Buffer.alloc(length)
  for (let at = 0; at < length; ) {
    const got = retryInterrupted(() => readSync(socket, bytes, at, length - at, null))
    if (got === 0) return null
    at += got
  }
  return bytes
}

/** Repeats a system call that a signal interrupted. */
export function retryInterrupted<T>(call: () => T): T {
  for (;;) {
    try {
      return call()
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EINTR') throw error
    }
  }
}

/** struct sockaddr_un holds a path of 107 bytes, so a long folder is addressed through its descriptor. */
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
