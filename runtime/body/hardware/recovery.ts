/**
 * Takes the descriptors of the last body over from its guard. Invariant: the body opens a handle anew only after that guard has
 * closed it (HANDLES 14.5, 14.6; test/runtime/guard/guard.test.ts).
 */
import { closeSync, readFileSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { timeScale } from '../../../deploy/shared/timescale.ts'
import type { BoardHandle } from '../../../drivers/board/types.ts'
import type { KeptHandle } from '../../../drivers/owner/backend.ts'
import { loadSystem } from '../../../drivers/owner/linux/system.ts'
import { readExactly, UnixSockets } from '../../../drivers/owner/linux/unix.ts'
import type { Latch } from '../../guard/latch.ts'
import { LineReader } from '../../guard/lines.ts'
import {
  type FromGuard,
  GUARD_FORMAT,
  GUARD_SOCKET,
  type GuardInheritance,
  type Rescue,
  type ToGuard,
} from '../../guard/wire.ts'

/** Longer than the guard needs to end the programs of the dead body. ms, before MEDULLA_TIME_SCALE */
const ANSWER_MS = 5000
const MAX_LEGACY = 16 * 1024 * 1024

export interface RecoverOptions {
  /** `folder` and `about` as in GuardLinkOptions. */
  readonly folder: string
  readonly about: unknown
  /** The handles of the present board file. */
  readonly handles: Readonly<Record<string, BoardHandle>>
  note(level: 'info' | 'warn' | 'error', text: string): void
}

/** What a guard of this home has kept. Until `done`, that guard acts when this process ends as if its own body had ended. */
export class RecoveredHandles {
  /** Handles whose entry in the board file is unchanged: to be adopted. All others can be opened. */
  readonly kept: ReadonlyMap<string, KeptHandle>
  /** An emergency stop that no release has ended. */
  readonly latch: Latch | null
  /** What the guard did; null: the runtime was replaced, and the guard had nothing to do. */
  readonly rescue: Rescue | null
  readonly #kept: Map<string, KeptHandle>
  readonly #lines: LineReader

  constructor(
    lines: LineReader,
    kept: Map<string, KeptHandle>,
    { rescue, latch }: Pick<GuardInheritance, 'latch'> & { rescue: Rescue | null },
  ) {
    this.#lines = lines
    this.#kept = kept
    this.kept = kept
    this.rescue = rescue
    this.latch = latch
  }

  /** The runtime was replaced: its guard is there. What it stopped meanwhile, {@link done} returns. */
  static left(lifeline: number, kept: Map<string, KeptHandle>): RecoveredHandles {
    return new RecoveredHandles(new LineReader(lifeline), kept, { rescue: null, latch: null })
  }

  /** Closes the handles in this process and in the guard, so that they can be opened anew. */
  drop(names: readonly string[]): void {
    if (names.length === 0) return
    for (const name of names) {
      for (const fd of this.#kept.get(name)?.fds ?? []) closeSync(fd)
      this.#kept.delete(name)
    }
    this.#say({ t: 'drop', names })
    if (this.#lines.next() === null) throw new Error('the guard of the last body has ended')
  }

  /**
   * This body has a guard of its own now: ends the old one, and waits until it is gone. Returns the emergency stop that the old
   * guard latched while no body listened to it (HANDOVER 18.4).
   */
  async done(): Promise<Latch | null> {
    let latch: Latch | null = null
    try {
      this.#say({ t: 'end' })
      const until = performance.now() + ANSWER_MS * timeScale()
      while (await this.#hears(until)) {
        for (let line = this.#lines.take(); line !== null; line = this.#lines.take()) {
          const message = JSON.parse(line) as FromGuard
          if (message.t === 'stopped') latch = message.latch
        }
      }
    } catch {
      // The old guard has ended already.
    }
    closeSync(this.#lines.fd)
    return latch
  }

  /** False: the guard has closed its end, or does not do so in time. */
  async #hears(until: number): Promise<boolean> {
    for (;;) {
      try {
        return this.#lines.read()
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || performance.now() > until) return false
        await sleep(1)
      }
    }
  }

  #say(message: ToGuard): void {
    writeSync(this.#lines.fd, `${JSON.stringify(message)}\n`)
  }
}

/**
 * Null: no guard of this home waits for a body. A guard that does not answer, or has another format, is killed, which frees
 * its lines. Any other failure is thrown, and the guard keeps its descriptors for the next attempt.
 */
export async function recover(options: RecoverOptions): Promise<RecoveredHandles | null> {
  const { folder, about, handles, note } = options
  const scale = timeScale()
  const sockets = new UnixSockets(loadSystem())
  let socket: number
  try {
    socket = sockets.connect(folder, GUARD_SOCKET, ANSWER_MS * scale)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ECONNREFUSED') return null
    throw error
  }
  const peer = sockets.peer(socket)
  // Descriptors of another user are not taken (HANDLES 14.5).
  if (peer.uid !== process.getuid?.()) {
    closeSync(socket)
    throw new Error(`${folder}/${GUARD_SOCKET} is served by user ${peer.uid}, expected ${process.getuid?.()}`)
  }
  try {
    const legacy = readLegacy(socket)
    const counts = legacy.handles.reduce((sum, { fds }) => sum + fds, 0)
    const fds = sockets.receiveFds(socket, counts)
    const kept = new Map<string, KeptHandle>()
    for (const one of legacy.handles) kept.set(one.name, { ...one.kept, fds: fds.splice(0, one.fds) })
    const recovered = new RecoveredHandles(new LineReader(socket), kept, legacy)
    const same = isDeepStrictEqual(legacy.about, plain(about))
    const changed = legacy.handles.filter(
      ({ name, entry }) => !same || !Object.hasOwn(handles, name) || !isDeepStrictEqual(entry, plain(handles[name])),
    )
    recovered.drop(changed.map(({ name }) => name))
    return recovered
  } catch (error) {
    closeSync(socket)
    const stuck = error instanceof WrongFormat || (error as NodeJS.ErrnoException).code === 'EAGAIN'
    if (!stuck) throw error
    note('error', `the guard of the last body is killed: ${(error as Error).message}`)
    await end(peer.pid, ANSWER_MS * scale)
    return null
  }
}

class WrongFormat extends Error {}

function readLegacy(socket: number): GuardInheritance {
  const length = readExactly(socket, 4)?.readUInt32LE() ?? 0
  const text = length > 0 && length <= MAX_LEGACY ? readExactly(socket, length) : null
  if (text === null) throw new Error('the guard of the last body sent nothing')
  const legacy = JSON.parse(text.toString('utf8')) as GuardInheritance
  if (legacy.format !== GUARD_FORMAT) throw new WrongFormat(`expected format ${GUARD_FORMAT}, got ${legacy.format}`)
  return legacy
}

/** The value as JSON would carry it. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value ?? null))

/** Kills the guard, and waits for its end, which closes its descriptors. */
async function end(pid: number, deadlineMs: number): Promise<void> {
  const until = performance.now() + deadlineMs
  try {
    process.kill(pid, 'SIGKILL')
    while (performance.now() < until && !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')))
      await sleep(1)
  } catch {
    // The process has ended.
  }
}
