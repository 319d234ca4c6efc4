/**
 * Gates the file system. In a round of a rehearsal, synchronous reads work, writes are dropped, and asynchronous calls never
 * settle. At the top level of a program the file system is read-only.
 */
import { EventEmitter } from 'node:events'
import fs from 'node:fs'
import { devNull } from 'node:os'
import { type PatchTarget, type RealFunction, replaceFunction } from './exchange.ts'
import type { Gate, Round } from './gate.ts'

/** Functions that change the file at a path. Each exists with `Sync`, with a callback, and as a promise. */
const BY_PATH = ['writeFile', 'appendFile', 'rename', 'unlink', 'rm', 'rmdir', 'mkdir', 'mkdtemp', 'copyFile', 'cp', 'symlink', 'link', 'truncate', 'chmod', 'lchmod', 'chown', 'lchown', 'utimes', 'lutimes'] // biome-ignore format: a list
/** Functions that change the file of a descriptor. */
const BY_FD = ['write', 'writev', 'ftruncate', 'fsync', 'fdatasync', 'fchmod', 'fchown', 'futimes', 'close']
/** Functions that only read. */
const READS = /^(?:read|access|exists|f?stat|lstat|statfs|opendir|realpath|glob)/

/** Flags of open(2) that write or create. */
const ACCESS_MODE = fs.constants.O_WRONLY | fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_TRUNC

/** Whether `path` is a FileHandle of fs.promises. */
const isHandle = (path: unknown): boolean => typeof path === 'object' && path !== null && 'fd' in path

const isWriting = (path: unknown, flags: unknown): boolean =>
  path !== devNull &&
  (typeof flags === 'number' ? (flags & ACCESS_MODE) !== 0 : typeof flags === 'string' && /[wa+]/.test(flags))

export function gateFiles(gate: Gate, ownFds: number): void {
  const target = fs as unknown as PatchTarget
  const readOnly = (name: string, path: unknown) => gate.refusal(`EROFS: ${name} '${String(path)}'`, 'EROFS')

  for (const name of BY_PATH) {
    // only mkdtempSync returns a value that programs use: the path of a folder, which a rehearsal does not make
    const answer = (args: unknown[]) => (name === 'mkdtemp' ? `${String(args[0])}XXXXXX` : undefined)
    replaceFunction(target, `${name}Sync`, (real) => sync(real, answer, name))
    replaceFunction(target, name, (real) => called(real, name))
    replaceFunction(fs.promises as unknown as PatchTarget, name, (real) => promised(real, name))
  }

  /** `answer` makes the return value in a round. Descriptors pass outside of rounds, as opening the file was checked. */
  function sync(real: RealFunction, answer: (args: unknown[]) => unknown, name: string): RealFunction {
    return function (this: unknown, ...args: unknown[]) {
      const { round } = gate
      if (round !== undefined) {
        round.relied = true
        return answer(args)
      }
      if (!gate.isLive && typeof args[0] !== 'number') throw readOnly(name, args[0])
      return real.apply(this, args)
    }
  }

  function called(real: RealFunction, name: string): RealFunction {
    return function (this: unknown, ...args: unknown[]) {
      if (gate.round !== undefined) return undefined
      const done = args.at(-1)
      if (gate.isLive || typeof args[0] === 'number' || typeof done !== 'function') return real.apply(this, args)
      process.nextTick(done as RealFunction, readOnly(name, args[0]))
      return undefined
    }
  }

  function promised(real: RealFunction, name: string): RealFunction {
    return function (this: unknown, ...args: unknown[]) {
      if (gate.round !== undefined) return new Promise(() => {})
      if (!gate.isLive && !isHandle(args[0])) return Promise.reject(readOnly(name, args[0]))
      return real.apply(this, args)
    }
  }

  for (const name of BY_FD) {
    const length = (args: unknown[]) =>
      name === 'write' ? sizeOf(args[1]) : name === 'writev' ? sizesOf(args[1]) : undefined
    replaceFunction(target, `${name}Sync`, (real) =>
      name === 'write' ? writeSync(real) : onFd(real, length, name === 'close'),
    )
    replaceFunction(target, name, (real) =>
      function (this: unknown, ...args: unknown[]) {
        if (gate.round === undefined) return real.apply(this, args)
        // the callback must come: a logger that the top level made would wait for it for ever
        const done = args.at(-1)
        if (typeof done === 'function') process.nextTick(done as RealFunction, null, length(args), args[1])
        return undefined
      }) // biome-ignore format: one call
  }

  function onFd(real: RealFunction, answer: (args: unknown[]) => unknown, isClose: boolean): RealFunction {
    return function (this: unknown, ...args: unknown[]) {
      const { round } = gate
      if (round === undefined || (isClose && round.fds.delete(args[0] as number))) return real.apply(this, args)
      return answer(args)
    }
  }

  /** Handles write through this function at every tick, so it checks as little as possible. */
  function writeSync(real: RealFunction): RealFunction {
    return function (this: unknown, ...args: unknown[]) {
      const fd = args[0] as number
      if (fd > 2 && fd < ownFds) return real.apply(this, args)
      if (gate.rehearsing || (fd <= 2 && gate.round !== undefined)) return sizeOf(args[1])
      return real.apply(this, args)
    }
  }

  replaceFunction(target, 'openSync', (real) =>
    function (this: unknown, ...args: unknown[]) {
      const { round } = gate
      const [path, flags = 'r', ...rest] = args
      const writes = isWriting(path, flags)
      if (round === undefined) {
        if (writes && !gate.isLive) throw readOnly('open', path)
        return real.apply(this, args)
      }
      if (writes) round.relied = true
      const fd = (writes ? real.call(this, devNull, 'r+') : real.call(this, path, flags, ...rest)) as number
      return closedLater(round, fd)
    }) // biome-ignore format: one call

  function closedLater(round: Round, fd: number): number {
    round.fds.add(fd)
    round.undo.push(() => {
      if (round.fds.has(fd)) fs.closeSync(fd)
    })
    return fd
  }

  replaceFunction(target, 'open', (real) =>
    function (this: unknown, ...args: unknown[]) {
      if (gate.round !== undefined) return undefined
      const done = args.at(-1)
      const writes = isWriting(args[0], typeof args[1] === 'function' ? 'r' : args[1])
      if (gate.isLive || !writes || typeof done !== 'function') return real.apply(this, args)
      process.nextTick(done as RealFunction, readOnly('open', args[0]))
      return undefined
    }) // biome-ignore format: one call
  replaceFunction(fs.promises as unknown as PatchTarget, 'open', (real) =>
    function (this: unknown, ...args: unknown[]) {
      if (gate.round !== undefined) return new Promise(() => {})
      if (!gate.isLive && isWriting(args[0], args[1] ?? 'r')) return Promise.reject(readOnly('open', args[0]))
      return real.apply(this, args)
    }) // biome-ignore format: one call

  // asynchronous reads
  for (const [module, answer] of [
    [target, () => undefined],
    [fs.promises as unknown as PatchTarget, () => new Promise(() => {})],
  ] as const) {
    for (const name of Object.keys(module)) {
      if (!READS.test(name) || name.endsWith('Sync')) continue
      replaceFunction(module, name, (real) =>
        function (this: unknown, ...args: unknown[]) {
          return gate.round === undefined ? real.apply(this, args) : answer()
        }) // biome-ignore format: one call
    }
  }
  for (const name of ['watch', 'watchFile', 'unwatchFile']) {
    replaceFunction(
      target,
      name,
      (real) =>
        function (this: unknown, ...args: unknown[]) {
          return gate.round === undefined ? real.apply(this, args) : blindWatcher()
        },
    )
  }
}

const sizeOf = (bytes: unknown): number =>
  typeof bytes === 'string' ? Buffer.byteLength(bytes) : ((bytes as { byteLength?: number }).byteLength ?? 0)
const sizesOf = (list: unknown): number =>
  (Array.isArray(list) ? list : []).reduce((sum: number, bytes) => sum + sizeOf(bytes), 0)

/** A watcher like that of fs.watch, which never reports a change. */
function blindWatcher(): object {
  const watcher = new EventEmitter()
  const itself = () => watcher
  return Object.assign(watcher, { close: itself, ref: itself, unref: itself })
}
