/**
 * Invariant: a checkpoint was written by the running program outside a swap, and the body checked its hash before it wrote
 * it to disk (HANDOVER 9.1; test/runtime/body/slot/checkpoints.test.ts).
 */
import type { FromProgram, Snapshot } from '../../sdk/wire.ts'
import type { SlotStore } from './context.ts'
import type { Runnable, Running } from './running.ts'
import { oneLine } from './said.ts'
import { readSnapshot } from './snapshots.ts'

type Offer = Extract<FromProgram, { t: 'checkpoint' }>

export class Checkpoints {
  readonly #store: Pick<SlotStore, 'saveCheckpoint'>
  readonly #note: (level: string, text: string) => void
  /** Whether the program is the running one, and no swap is under way. */
  readonly #mayKeep: (running: Running) => boolean
  #asked = 0
  /** Program and root of the newest checkpoint on disk. */
  #kept = ''
  #taking = false
  /** The newest answer that came while another checkpoint was being written. */
  #next: { running: Running; offer: Offer } | null = null
  /** The caller of `secure` that waits for the checkpoint asked for last. */
  #waiting: { running: Running; done(kept: boolean): void } | null = null

  constructor(
    store: Pick<SlotStore, 'saveCheckpoint'>,
    mayKeep: (running: Running) => boolean,
    note: (level: string, text: string) => void,
  ) {
    this.#store = store
    this.#mayKeep = mayKeep
    this.#note = note
  }

  ask({ child, runnable }: Running): void {
    if (runnable.manifest.state !== null) child.send({ t: 'checkpoint', n: ++this.#asked })
  }

  /**
   * Resolves when the disk has a checkpoint from which `running` can be restarted; that of `from` may be of a newer version
   * or of another name (HANDOVER 9.8). Throws after `deadlineMs`.
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

  /** The program has ended: stop waiting for its state, because its handles need their safe levels now (HANDLES 6.6). */
  gone(running: Running | null): void {
    if (this.#waiting?.running === running) this.#waiting?.done(false)
  }

  /**
   * Keeps the last state of a program that is replaced by one of another name, for when it is pushed again (HANDOVER 5.9).
   * Throws when the state does not match its root, or cannot be written.
   */
  async keep(running: Running | null, snapshot: Snapshot | null): Promise<void> {
    const { state = null } = running?.runnable.manifest ?? {}
    if (running !== null && snapshot !== null && state !== null)
      await this.#save(running, snapshot, { stateVersion: state.version, encoding: state.encoding })
  }

  /** Keeps the copied state before the switch, in case the old program's `yielded` with its last state is never read. */
  async keepAhead(running: Running | null, snapshot: Snapshot | null): Promise<void> {
    await this.keep(running, snapshot).catch((error: Error) =>
      this.#note('warn', `the state of the old program is not on disk yet: ${oneLine(error.message)}`),
    )
  }

  async #save(
    { child, runnable: { program } }: Running,
    snapshot: Snapshot,
    about: Pick<Offer, 'stateVersion' | 'encoding'>,
  ): Promise<void> {
    const { state: bytes } = await readSnapshot(child.options.dir.outbox, snapshot)
    await this.#store.saveCheckpoint({ program, ...about, time: new Date().toISOString(), bytes })
  }

  /** A state that has not changed since the last one is not written again. */
  async take(running: Running, { n, snapshot, stateVersion, encoding }: Offer): Promise<void> {
    if (n !== this.#asked) return
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
      // When a swap began meanwhile, the program may have overwritten its outbox: then this is no error.
      if (this.#mayKeep(running)) this.#note('error', `checkpoint not kept: ${oneLine(text)}`)
      this.#kept = ''
    } finally {
      this.#taking = false
      const next = this.#next
      this.#next = null
      if (next !== null) void this.take(next.running, next.offer)
    }
  }
}

/** Whether `to` can be started from the checkpoint of `from`: same program name, and no newer state version. */
function startsFrom(to: Runnable, from: Runnable): boolean {
  const version = ({ manifest }: Runnable) => manifest.state?.version ?? 0
  return from.program === to.program && version(from) <= version(to)
}
