/**
 * Invariant: this is the only file that loads koffi, and a failed call throws an Error with a `code`, as node:fs does.
 *
 * Structures are bytes that the caller lays out: a type that koffi would have to know costs every start of a program.
 */
import { fstatSync } from 'node:fs'
import { createRequire } from 'node:module'
import { getSystemErrorMap } from 'node:util'
import { HardwareError } from '../../errors.ts'
import type { System } from '../../program/inherit/system.ts'

/** What a libc function takes: whole numbers, and bytes where C has a pointer. */
export type Argument = number | bigint | Uint8Array | null
export type CType = 'int' | 'uint' | 'long' | 'ulong' | 'size_t' | 'ssize_t' | 'void*'

export interface LinuxSystem extends System {
  /**
   * Calls `onReady` from the event loop whenever `fd` has something to read, or will never have again: the listener
   * reads until nothing is left. Makes the descriptor non-blocking, for everybody who shares its open file. It keeps the
   * process alive until the returned function was called, which comes before the descriptor is closed.
   */
  watch(fd: number, onReady: () => void): () => void
  /** poll(2): blocks until one of them can be read or has hung up, and returns those; none when the time is over. */
  poll(fds: readonly number[], timeoutMs: number): number[]
  /** A function of libc with a fixed result type, one that says -1 and errno when it fails. */
  bind(name: string, result: 'int' | 'long' | 'ssize_t', parameters: readonly CType[]): (...args: Argument[]) => number
  /** syscall(2) with at most six arguments. The numbers are those of this architecture. */
  syscall(nr: number, ...args: Argument[]): number
  /** prctl(2) with at most four arguments. */
  prctl(option: number, ...args: Argument[]): number
}

type Native = (...args: unknown[]) => number
interface Koffi {
  load(path: null): { func(name: string, result: string, parameters: readonly string[]): Native }
  errno(): number
  address(value: Uint8Array): bigint
  node: { poll(fd: number, options: { readable: boolean }, onEvent: () => void): { close(): void } }
}

const POINTER = 'void*'
/** linux/fcntl.h */
const F_DUPFD_CLOEXEC = 1030
const POLLIN = 1
const POLLFD_SIZE = 8

let loaded: LinuxSystem | undefined

/** Throws `unsupported` where there is no Linux or no koffi. The same object each time. */
export function loadSystem(): LinuxSystem {
  if (loaded !== undefined) return loaded
  if (process.platform !== 'linux') {
    throw new HardwareError('unsupported', `hardware is driven through Linux, this is ${process.platform}`)
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

/** Its native half does all that is asked here, and is loaded in 1 ms; its own search for it takes 6 more of each start. */
function loadKoffi(): Koffi {
  const load = createRequire(import.meta.url)
  try {
    return load(`@koromix/koffi-linux-${process.arch}/linux_${process.arch}/koffi.node`) as Koffi
  } catch (error) {
    // musl, or other folders; a second try after any other failure would end the process
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
  /** koffi stops watching when its object is collected. */
  readonly #watches = new Set<{ close(): void }>()

  constructor(koffi: Koffi) {
    this.#koffi = koffi
    this.#libc = koffi.load(null)
    // variadic in C; on Linux a pointer goes the same way
    this.#ioctl = this.#libc.func('ioctl', 'int', ['int', 'ulong', POINTER])
  }

  ioctl(fd: number, request: number, argument: Uint8Array): number {
    const result = this.#ioctl(fd, request, argument)
    if (result === -1) throw this.#error('ioctl')
    return result
  }

  duplicate(fd: number): number {
    this.#fcntl ??= this.bind('fcntl', 'int', ['int', 'int', 'long'])
    return this.#fcntl(fd, F_DUPFD_CLOEXEC, 0)
  }

  address(bytes: Uint8Array): bigint {
    return this.#koffi.address(bytes)
  }

  watch(fd: number, onReady: () => void): () => void {
    // koffi 3.3.4 ends the process when epoll refuses a descriptor: it takes none of these
    const stat = fstatSync(fd)
    if (stat.isFile() || stat.isDirectory()) throw new HardwareError('unsupported', `${fd} cannot be waited for`)
    let open = true
    let queued = false
    const ready = () => {
      queued = false
      if (open) onReady()
    }
    // koffi calls from outside of Node's own frames: an immediate has them, and comes before the next look at `fd`
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

  /** Bytes as their address; what is not given as 0, which is what the kernel wants to see there. */
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
