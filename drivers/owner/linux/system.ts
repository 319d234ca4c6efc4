/**
 * System calls that Node does not have, through koffi. Only this file loads koffi. A failed call throws an Error with a
 * `code`, as node:fs does.
 *
 * Callers lay out structures as bytes: registering types with koffi would slow every start of a program.
 */
import { fstatSync } from 'node:fs'
import { createRequire } from 'node:module'
import { constants } from 'node:os'
import { getSystemErrorMap } from 'node:util'
import { HardwareError } from '../../errors.ts'
import type { System } from '../../program/inherit/system.ts'

/** Arguments of a libc function: whole numbers, and bytes where C has a pointer. */
export type Argument = number | bigint | Uint8Array | null
export type CType = 'int' | 'uint' | 'long' | 'ulong' | 'size_t' | 'ssize_t' | 'void*'

export interface LinuxSystem extends System {
  /** A copy of the descriptor, closed on exec. */
  duplicate(fd: number): number
  /**
   * Calls `onReady` from the event loop whenever `fd` has data or has ended; `onReady` must read until nothing is left.
   * Makes the descriptor non-blocking, for everybody who shares its open file. Keeps the process alive until the
   * returned function is called, which must happen before the descriptor is closed.
   */
  watch(fd: number, onReady: () => void): () => void
  /** poll(2): blocks until descriptors have data or have hung up, and returns those; empty after the timeout. */
  poll(fds: readonly number[], timeoutMs: number): number[]
  /** waitpid(2) without waiting: null while the child runs, else how it ended, as `exit code 1` or `SIGKILL`. */
  reap(pid: number): string | null
  /** A libc function that returns -1 and sets errno when it fails. */
  bind(name: string, result: 'int' | 'long' | 'ssize_t', parameters: readonly CType[]): (...args: Argument[]) => number
  /** syscall(2) with at most six arguments. The call numbers depend on the architecture. */
  syscall(nr: number, ...args: Argument[]): number
  /** prctl(2) with at most four arguments. */
  prctl(option: number, ...args: Argument[]): number
  /** Clears FD_CLOEXEC, which Node sets on every descriptor at its start. */
  keepOnExec(fd: number): void
  /** Sets FD_CLOEXEC again: Node does so at its start only up to the first gap in the numbers. */
  closeOnExec(fd: number): void
  /**
   * execve(2): replaces the program of this process, which keeps its pid, its children, stdin, stdout, stderr and what
   * {@link keepOnExec} was called for. Returns only by throwing.
   */
  execve(path: string, argv: readonly string[], env: Readonly<Record<string, string>>): never
}

type Native = (...args: unknown[]) => number
interface Koffi {
  load(path: null): { func(name: string, result: string, parameters: readonly string[]): Native }
  errno(): number
  address(value: Uint8Array): bigint
  node: { poll(fd: number, options: { readable: boolean }, onEvent: () => void): { close(): void } }
}

const POINTER = 'void*'
const POINTER_SIZE = ['arm', 'ia32', 'mips', 'mipsel'].includes(process.arch) ? 4 : 8
/** linux/fcntl.h */
const F_DUPFD_CLOEXEC = 1030
const F_SETFD = 2
const FD_CLOEXEC = 1
const POLLIN = 1
/** bits/waitflags.h */
const WNOHANG = 1
const POLLFD_SIZE = 8

let loaded: LinuxSystem | undefined

/** Returns the same object each time. Throws `unsupported` without Linux or koffi. */
export function loadSystem(): LinuxSystem {
  if (loaded !== undefined) return loaded
  if (process.platform !== 'linux') {
    throw new HardwareError('unsupported', `hardware needs Linux; this is ${process.platform}`)
  }
  let koffi: Koffi
  try {
    koffi = loadKoffi()
  } catch (cause) {
    throw new HardwareError('unsupported', 'the package koffi cannot be loaded: npm install koffi@3.3.4', { cause })
  }
  loaded = new KoffiSystem(koffi)
  return loaded
}

/** Loads koffi's native part directly, in 1 ms: it is all we need, and koffi's own search for it takes 6 ms more. */
function loadKoffi(): Koffi {
  const load = createRequire(import.meta.url)
  try {
    return load(`@koromix/koffi-linux-${process.arch}/linux_${process.arch}/koffi.node`) as Koffi
  } catch (error) {
    // not found with musl or another folder layout; after any other failure a second load would end the process
    if ((error as { code?: unknown }).code !== 'MODULE_NOT_FOUND') throw error
    return load('koffi') as Koffi
  }
}

class KoffiSystem implements LinuxSystem {
  readonly #koffi: Koffi
  readonly #libc: ReturnType<Koffi['load']>
  readonly #ioctl: Native
  #fcntl: ((...args: Argument[]) => number) | undefined
  #poll: ((...args: Argument[]) => number) | undefined
  #syscall: ((...args: Argument[]) => number) | undefined
  #prctl: ((...args: Argument[]) => number) | undefined
  #waitpid: ((...args: Argument[]) => number) | undefined
  /** Kept from the garbage collector: koffi stops watching when the object is collected. */
  readonly #watches = new Set<{ close(): void }>()

  constructor(koffi: Koffi) {
    this.#koffi = koffi
    this.#libc = koffi.load(null)
    // ioctl is variadic in C; on Linux a pointer is passed the same way
    this.#ioctl = this.#libc.func('ioctl', 'int', ['int', 'ulong', POINTER])
  }

  ioctl(fd: number, request: number, argument: Uint8Array): number {
    const result = this.#ioctl(fd, request, argument)
    if (result === -1) throw this.#error('ioctl')
    return result
  }

  duplicate(fd: number): number {
    return this.#control(fd, F_DUPFD_CLOEXEC)
  }

  keepOnExec(fd: number): void {
    this.#control(fd, F_SETFD)
  }

  closeOnExec(fd: number): void {
    this.#control(fd, F_SETFD, FD_CLOEXEC)
  }

  address(bytes: Uint8Array): bigint {
    return this.#koffi.address(bytes)
  }

  watch(fd: number, onReady: () => void): () => void {
    // epoll refuses files and folders, and then koffi 3.3.4 ends the process
    const stat = fstatSync(fd)
    if (stat.isFile() || stat.isDirectory()) throw new HardwareError('unsupported', `${fd} is a file or a folder`)
    let open = true
    let queued = false
    const ready = () => {
      queued = false
      if (open) onReady()
    }
    // koffi calls outside of a Node callback scope; setImmediate gives one, and runs before the next poll of `fd`
    const handle = this.#koffi.node.poll(fd, { readable: true }, () => {
      if (queued) return
      queued = true
      setImmediate(ready)
    })
    this.#watches.add(handle)
    return () => {
      if (!open) return
      open = false
      this.#watches.delete(handle)
      handle.close()
    }
  }

  poll(fds: readonly number[], timeoutMs: number): number[] {
    this.#poll ??= this.bind('poll', 'int', [POINTER, 'ulong', 'int'])
    const bytes = new Uint8Array(Math.max(1, fds.length) * POLLFD_SIZE)
    const view = new DataView(bytes.buffer)
    for (const [index, fd] of fds.entries()) {
      view.setInt32(index * POLLFD_SIZE, fd, true)
      view.setInt16(index * POLLFD_SIZE + 4, POLLIN, true)
    }
    const end = performance.now() + timeoutMs
    for (;;) {
      const left = timeoutMs < 0 ? -1 : Math.max(0, Math.ceil(end - performance.now()))
      try {
        this.#poll(bytes, fds.length, left)
        return fds.filter((_, index) => view.getInt16(index * POLLFD_SIZE + 6, true) !== 0)
      } catch (error) {
        if ((error as { code?: unknown }).code !== 'EINTR') throw error
      }
    }
  }

  reap(pid: number): string | null {
    this.#waitpid ??= this.bind('waitpid', 'int', ['int', POINTER, 'int'])
    const status = new Int32Array(1)
    try {
      if (this.#waitpid(pid, new Uint8Array(status.buffer), WNOHANG) === 0) return null
    } catch (error) {
      // somebody else has waited for it
      if ((error as { code?: unknown }).code === 'ECHILD') return 'unknown'
      throw error
    }
    const [word = 0] = status
    return (word & 0x7f) === 0 ? `exit code ${(word >> 8) & 0xff}` : signalName(word & 0x7f)
  }

  bind(
    name: string,
    result: 'int' | 'long' | 'ssize_t',
    parameters: readonly CType[],
  ): (...args: Argument[]) => number {
    const native = this.#libc.func(name, result, parameters)
    return (...args) => {
      const got = native(...args)
      if (got === -1) throw this.#error(name)
      return got
    }
  }

  syscall(nr: number, ...args: Argument[]): number {
    this.#syscall ??= this.bind('syscall', 'long', ['long', ...Array<CType>(6).fill('ulong')])
    return this.#syscall(nr, ...this.#words(args, 6))
  }

  prctl(option: number, ...args: Argument[]): number {
    this.#prctl ??= this.bind('prctl', 'int', ['int', ...Array<CType>(4).fill('ulong')])
    return this.#prctl(option, ...this.#words(args, 4))
  }

  execve(path: string, argv: readonly string[], env: Readonly<Record<string, string>>): never {
    const texts = [path, ...argv, ...Object.entries(env).map(([name, value]) => `${name}=${value}`)]
    // A NUL would end the text early, and so change what is started.
    if (texts.some((text) => text.includes('\0'))) throw new Error('EINVAL: a text for execve has a NUL')
    const bytes = texts.map((text) => Buffer.from(`${text}\0`))
    const pointers = bytes.map((text) => this.address(text))
    const list = (from: number, to?: number) => {
      const items = [...pointers.slice(from, to), 0n]
      return Buffer.from((POINTER_SIZE === 8 ? BigUint64Array.from(items) : Uint32Array.from(items, Number)).buffer)
    }
    for (const fd of [0, 1, 2]) this.keepOnExec(fd)
    const call = this.bind('execve', 'int', [POINTER, POINTER, POINTER])
    call(bytes[0] as Uint8Array, list(1, 1 + argv.length), list(1 + argv.length))
    // `bytes` is named here, so that it is not collected before the call.
    throw new Error(`execve returned without an error, after ${bytes.length} texts`)
  }

  #control(fd: number, command: number, argument = 0): number {
    this.#fcntl ??= this.bind('fcntl', 'int', ['int', 'int', 'long'])
    return this.#fcntl(fd, command, argument)
  }

  /** Replaces bytes by their address, and missing arguments by 0, which the kernel expects for unused ones. */
  #words(args: readonly Argument[], count: number): Argument[] {
    const words = args.map((arg) => (arg instanceof Uint8Array ? this.address(arg) : (arg ?? 0)))
    return [...words, ...Array<number>(count - words.length).fill(0)]
  }

  #error(name: string): Error {
    const errno = this.#koffi.errno()
    const [code, message] = getSystemErrorMap().get(-errno) ?? [`E${errno}`, 'unknown error']
    return Object.assign(new Error(`${code}: ${message}, ${name}`), { code, errno: -errno, syscall: name })
  }
}

function signalName(number: number): string {
  return Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? `signal ${number}`
}
