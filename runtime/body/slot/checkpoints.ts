/**
 * Invariant: what a crash goes back to was written by the running program, outside a swap, and hashed by the body before
 * it was kept (HANDOVER 9.1).
 */
import type { FromProgram, Snapshot } from '../../sdk/wire.ts'
import type { SlotEnv } from './env.ts'
import type { Runnable, Running } from './running.ts'
import { oneLine } from './said.ts'
import { readSnapshot } from './snapshots.ts'

type Offer = Extract<FromProgram, { t: 'checkpoint' }>

export class Checkpoints {
  readonly #slot: string
  readonly #env: Pick<SlotEnv, 'saveCheckpoint'>
  readonly #note: (level: string, text: string) => void
  /** Whether the program still runs, outside a swap. */
  readonly #keeps: (running: Running) => boolean
  #asked = 0
  /** Program and root of the newest one on disk. */
  #kept = ''
  #taking = false
  /** The newest answer that came while one was written. */
  #next: { running: Running; offer: Offer } | null = null
  /** Who waits for the one that was asked for last. */
  #waiting: { running: Running; done(kept: boolean): void } | null = null

  constructor(
    slot: string,
    env: Pick<SlotEnv, 'saveCheckpoint'>,
    keeps: (running: Running) => boolean,
    note: (level: string, text: string) => void,
  ) {
    this.#slot = slot
    this.#env = env
    this.#keeps = keeps
    this.#note = note
  }

  ask({ child, runnable }: Running): void {
    if (runnable.manifest.state !== null) child.send({ t: 'checkpoint', n: ++this.#asked })
  }

  /**
   * HANDOVER 9.8: resolves when there is something on disk that `running` can be started from, after `from` ran. Throws when
   * that takes longer than `deadlineMs`.
   */
  async secure(running: Running, from: Runnable | null, deadlineMs: number): Promise<void> {
    if (running.runnable.manifest.state === null || from === null || startsFrom(running.runnable, from)) return
    const kept = await new Promise<boolean>((resolve) => {
      const timer = setTimeout(resolve, deadlineMs, false)
      this.#waiting = {
        running,
        done(kept) {
          clearTimeout(timer)
          resolve(kept)
        },
      }
      this.ask(running)
    })
    this.#waiting = null
    if (!kept) throw new Error(`the new program gave no state within ${deadlineMs} ms`)
  }

  /** It has ended: nobody waits for a state of it, and its handles need their safe levels (HANDLES 6.6). */
  gone(running: Running | null): void {
    if (this.#waiting?.running === running) this.#waiting?.done(false)
  }

  /**
   * HANDOVER 5.9: the last state of a program that is replaced by one of another name, for when it comes back. Throws when
   * it is not what the program said, or the disk does not take it.
   */
  async keep(running: Running | null, snapshot: Snapshot | null): Promise<void> {
    const { state = null } = running?.runnable.manifest ?? {}
    if (running !== null && snapshot !== null && state !== null)
      await this.#save(running, snapshot, { stateVersion: state.version, encoding: state.encoding })
  }

  /** Before the switch: what is kept should its last state not be told (the new program's word may come first). */
  async keepAhead(running: Running | null, snapshot: Snapshot | null): Promise<void> {
    await this.keep(running, snapshot).catch((error: Error) =>
      this.#note('warn', `its state is not kept yet: ${oneLine(error.message)}`),
    )
  }

  async #save(
    { child, runnable: { program } }: Running,
    snapshot: Snapshot,
    about: Pick<Offer, 'stateVersion' | 'encoding'>,
  ): Promise<void> {
    const { state: bytes } = await readSnapshot(child.options.dir.outbox, snapshot)
    await this.#env.saveCheckpoint(this.#slot, { program, ...about, time: new Date().toISOString(), bytes })
  }

  /** A state that has not changed since the last one is not written again. */
  async take(running: Running, { n, snapshot, stateVersion, encoding }: Offer): Promise<void> {
    if (n !== this.#asked) return
    // The answer to a newer question is taken when the one before is on disk.
    if (this.#taking) {
      this.#next = { running, offer: { n, snapshot, stateVersion, encoding } as Offer }
      return
    }
    const kept = `${running.runnable.program} ${snapshot.root}`
    if (kept === this.#kept) return this.#waiting?.done(true)
    this.#taking = true
    try {
      await this.#save(running, snapshot, { stateVersion, encoding })
      this.#kept = kept
      this.#waiting?.done(true)
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error)
      // while it was read, a swap may have begun, and its program written another one
      if (this.#keeps(running)) this.#note('error', `checkpoint not kept: ${oneLine(text)}`)
      this.#kept = ''
    } finally {
      this.#taking = false
      const next = this.#next
      this.#next = null
      if (next !== null) void this.take(next.running, next.offer)
    }
  }
}

/** Whether `to` can be started from what `from` has left on disk: of its own program, and of no newer version. */
function startsFrom(to: Runnable, from: Runnable): boolean {
  const version = ({ manifest }: Runnable) => manifest.state?.version ?? 0
  return from.program === to.program && version(from) <= version(to)
}
