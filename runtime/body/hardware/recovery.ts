/**
 * Invariant: a body that finds a guard takes its descriptors over; it opens only what that guard has let go before
 * (HANDLES 14.5, 14.6).
 */
import { closeSync, readFileSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { timeScale } from '../../../deploy/shared/timescale.ts'
import type { BoardHandle } from '../../../drivers/board/types.ts'
import type { Kept } from '../../../drivers/owner/backend.ts'
import { loadSystem } from '../../../drivers/owner/linux/system.ts'
import { readExactly, UnixSockets } from '../../../drivers/owner/linux/unix.ts'
import type { Latch } from '../../guard/latch.ts'
import { Lines } from '../../guard/lines.ts'
import { GUARD_FORMAT, GUARD_SOCKET, type Legacy, type Rescue, type ToGuard } from '../../guard/wire.ts'

/** Longer than it takes to end the programs of the dead body. ms, before MEDULLA_TIME_SCALE */
const ANSWER_MS = 5000
const MAX_LEGACY = 16 * 1024 * 1024

export interface RecoverOptions {
  /** As of {@link GuardOptions}. */
  readonly folder: string
  readonly about: unknown
  /** The present board's. */
  readonly handles: Readonly<Record<string, BoardHandle>>
  note(level: 'info' | 'warn' | 'error', text: string): void
}

/** What a guard of this home has kept. Until `done`, the end of this process is for it the end of its body. */
export class Recovered {
  /** Handles whose entry is as it was: to be adopted. All others are free to be opened. */
  readonly kept: ReadonlyMap<string, Kept>
  readonly rescue: Rescue
  /** An emergency stop that no release has ended. */
  readonly latch: Latch | null
  readonly #kept: Map<string, Kept>
  readonly #lines: Lines

  constructor(lines: Lines, kept: Map<string, Kept>, { rescue, latch }: Legacy) {
    this.#lines = lines
    this.#kept = kept
    this.kept = kept
    this.rescue = rescue
    this.latch = latch
  }

  /** They are released, here and there: they can be opened anew then. */
  drop(names: readonly string[]): void {
    if (names.length === 0) return
    for (const name of names) {
      for (const fd of this.#kept.get(name)?.fds ?? []) closeSync(fd)
      this.#kept.delete(name)
    }
    this.#say({ t: 'drop', names })
    if (this.#lines.next() === null) throw new Error('the guard of the last body has ended')
  }

  /** This body has a guard of its own: the old one goes. */
  done(): void {
    try {
      this.#say({ t: 'end' })
    } catch {
      // it has gone already
    }
    closeSync(this.#lines.fd)
  }

  #say(message: ToGuard): void {
    writeSync(this.#lines.fd, `${JSON.stringify(message)}\n`)
  }
}

/**
 * null: no guard of this home waits for a body. One that does not answer, or is of another format, is ended, and its
 * lines are free. Whatever else fails is thrown: the guard keeps what it has, for the next attempt.
 */
export async function recover(options: RecoverOptions): Promise<Recovered | null> {
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
  // HANDLES 14.5: descriptors of a stranger are not taken
  if (peer.uid !== process.getuid?.()) {
    closeSync(socket)
    throw new Error(`${folder}/${GUARD_SOCKET} is served by user ${peer.uid}, expected ${process.getuid?.()}`)
  }
  try {
    const legacy = readLegacy(socket)
    const counts = legacy.handles.reduce((sum, { fds }) => sum + fds, 0)
    const fds = sockets.receiveFds(socket, counts)
    const kept = new Map<string, Kept>()
    for (const one of legacy.handles) kept.set(one.name, { ...one.kept, fds: fds.splice(0, one.fds) })
    const recovered = new Recovered(new Lines(socket), kept, legacy)
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
    note('error', `the guard of the last body is ended: ${(error as Error).message}`)
    await end(peer.pid, ANSWER_MS * scale)
    return null
  }
}

class WrongFormat extends Error {}

function readLegacy(socket: number): Legacy {
  const length = readExactly(socket, 4)?.readUInt32LE() ?? 0
  const text = length > 0 && length <= MAX_LEGACY ? readExactly(socket, length) : null
  if (text === null) throw new Error('it said nothing')
  const legacy = JSON.parse(text.toString('utf8')) as Legacy
  if (legacy.format !== GUARD_FORMAT) throw new WrongFormat(`expected format ${GUARD_FORMAT}, got ${legacy.format}`)
  return legacy
}

/** As it looks after a way through JSON. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value ?? null))

/** Its descriptors are closed when its end is seen. */
async function end(pid: number, deadlineMs: number): Promise<void> {
  const until = performance.now() + deadlineMs
  try {
    process.kill(pid, 'SIGKILL')
    while (performance.now() < until && !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')))
      await sleep(1)
  } catch {
    // gone
  }
}
