/**
 * Invariant: at most one of a slot's programs has the newest fencing number (HANDOVER 6; test/e2e/swap.test.ts).
 *
 * The three roles of a slot (`current`, `next`, `old`), and the moves between them; slot.ts decides when to make which.
 */
import { Refusal } from '../../../deploy/shared/errors.ts'
import type { Snapshot } from '../../sdk/wire.ts'
import type { Cause, Consequence } from './cause.ts'
import type { LaunchListener, LaunchOrder, SlotContext } from './context.ts'
import type { Action, Event } from './lifecycle.ts'
import type { ProgramInstance, Runnable, Running } from './running.ts'
import { fillInbox, readSnapshot } from './snapshots.ts'
import { checkpointOf, type OwnState, takesStateOf } from './stateowner.ts'

/** Which role may send which message, so that no program answers for another one (HANDOVER 3.8). */
const SPEAKERS: Partial<Record<Event, 'current' | 'next'>> = {
  ready: 'next',
  started: 'next',
  preloaded: 'next',
  armed: 'next',
  took: 'next',
  'next-orphaned': 'next',
  copied: 'current',
  yielded: 'current',
  resumed: 'current',
  unhealthy: 'current',
  lost: 'current',
}

/** A program may still run although it was frozen and killed (HANDLES 10.5). */
class Unfenced extends Error {}

export class Programs {
  readonly #slot: string
  readonly #context: Pick<SlotContext, 'owner' | 'launcher' | 'store'>
  readonly #note: (level: string, text: string) => void
  #generation = 0
  /** The program that holds the lease, or held it last. */
  current: Running | null = null
  /** The candidate. */
  next: Running | null = null
  /** The parked predecessor of a program in its trial. */
  old: Running | null = null
  /** The program that ran last, for the receipt of a crash and as the target of a rollback. */
  last: Running | null = null
  /** Newest fencing number of the slot. */
  fence = 0
  /** The state that the current program copied ahead. */
  copied: Snapshot | null = null
  /** The state that a program in its trial gave back. */
  handedBack: Snapshot | null = null
  /** performance.now() at which the body saw that the old program had parked. */
  parkedAt = 0
  /** The program that parked last, and its state. */
  parked: { running: Running; snapshot: Snapshot } | null = null
  /** The candidate's own checkpoint: with it a program begins that replaces one of another name. */
  own: OwnState = null
  #inbox: Snapshot | null = null
  /** Message channels, each with its program: called when that program was parked. */
  readonly #channels = new Map<() => void, Running>()

  constructor(
    slot: string,
    context: Pick<SlotContext, 'owner' | 'launcher' | 'store'>,
    note: (level: string, text: string) => void,
  ) {
    this.#slot = slot
    this.#context = context
    this.#note = note
  }

  /** Resolves when the candidate's process is started and its release is on disk (HANDOVER 4.7). */
  async launchNext(
    runnable: Runnable,
    given: Pick<LaunchOrder, 'log' | 'params'>,
    on: LaunchListener,
  ): Promise<undefined> {
    this.own = this.parked = null
    const predecessor = this.current?.child ?? null
    const about = { slot: this.#slot, generation: ++this.#generation, predecessor, ...given }
    this.next = await this.#context.launcher.launch(about, runnable, on)
    await runnable.stored
  }

  /** The program that the last runtime left running. */
  adopt(running: Running, generation: number, fence: number): void {
    this.#generation = generation
    this.fence = fence
    this.current = this.last = running
  }

  get generation(): number {
    return this.#generation
  }

  role(running: Running): 'current' | 'next' | 'old' | null {
    if (running === this.current) return 'current'
    if (running === this.next) return 'next'
    return running === this.old ? 'old' : null
  }

  /**
   * The event of a message or an exit, by the role of the program when the message is handled: the role may have changed
   * while the message was queued. Null: the program has no role, or its role may not send this message (HANDOVER 3.8).
   */
  event(kind: Event | 'died' | 'failed', from: Running | null, said: Cause | null): Event | null {
    if (from === null) return kind as Event
    const role = this.role(from)
    if (role === null) return null
    if (kind === 'died') return `${role}-died`
    if (kind === 'failed') {
      if (role === 'next') return said?.code === 'bad-state' ? 'bad-copy' : 'next-failed'
      return role === 'current' ? 'current-failed' : null
    }
    return SPEAKERS[kind] === role ? kind : null
  }

  /** How long the program that holds the lease has run, in ms; null when there is none. */
  get ranMs(): number | null {
    return this.current === null ? null : performance.now() - this.current.startedAt
  }

  /** What is known about an event of `from`, for verdict.ts. */
  evidence(kind: Event | 'died' | 'failed', from: Running | null, said: Cause | null) {
    const { fatal = null, ending = null } = from?.child ?? {}
    const entered = this.next?.child.entered ?? null
    return { said: said ?? fatal, ending: kind === 'died' ? ending : null, ranMs: this.ranMs, entered }
  }

  /** Length of the state that is being handed over; 0 before the current program has copied it. */
  get stateBytes(): number {
    return Math.max(this.copied?.length ?? 0, this.handedBack?.length ?? 0)
  }

  /**
   * The event after an action that threw. Nobody gets the handles of a program that may still run (HANDLES 10.5), and a slot
   * that failed in the middle of a row (no fencing number from the disk, no memory for a state) is treated the same way. A
   * program that was never started may be started later. Null: every program was being ended anyway.
   */
  afterError(event: Event, action: Action, error: Error): Consequence | null {
    if (event === 'halt' || event === 'unfenced' || event === 'close') return null
    const { message } = error
    if (action === 'start-next') return { event: 'spawn-failed', said: { code: 'internal', message } }
    const code = error instanceof Unfenced ? 'fence-failed' : 'internal'
    return { event: 'unfenced', said: { code, message } }
  }

  /** The running program, where the candidate does not take its state (HANDOVER 5.9). */
  get replaced(): Running | null {
    const { current, next } = this
    return current === null || next === null || takesStateOf(next.runnable, current.runnable) ? null : current
  }

  /** The parked program and its last state, where the program in its trial did not take that state. */
  get lastOfReplaced(): [Running | null, Snapshot | null] {
    const { current, old, parked } = this
    const isReplaced = current !== null && old !== null && !takesStateOf(current.runnable, old.runnable)
    return isReplaced && parked?.running === old ? [old, parked.snapshot] : [null, null]
  }

  copy(swap: string): void {
    this.current?.child.send({ t: 'copy', swap, stateVersion: readerVersion(this.next, this.current) })
  }

  async preload(swap: string): Promise<void> {
    const { copied, next } = this
    if (copied === null || next === null) return
    const own = this.replaced === null ? {} : { own: await this.#ownState(next) }
    next.child.send({ t: 'preload', swap, snapshot: copied, ...own })
  }

  /** `running` has parked, or has given its state back. */
  yielded(running: Running, snapshot: Snapshot): void {
    const role = this.role(running)
    if (role === 'current') this.handedBack = snapshot
    // The role is `old` already when the body read the new program's `took` first.
    if (role !== null) this.parked = { running, snapshot }
  }

  arm(swap: string): void {
    this.#grant(this.next)
    this.next?.child.raisePriority()
    this.next?.child.send({ t: 'arm', swap, fence: this.fence })
  }

  yieldToNext(swap: string): void {
    const { fence } = this
    this.current?.child.send({
      t: 'yield',
      swap,
      fence,
      to: 'successor',
      stateVersion: readerVersion(this.next, this.current),
    })
  }

  /** Asks the new program for its state, in the old program's version (HANDOVER 7.2). */
  handBack(swap: string): void {
    const { fence } = this
    this.current?.child.send({
      t: 'yield',
      swap,
      fence,
      to: 'body',
      stateVersion: readerVersion(this.old, this.current),
    })
  }

  /** Starts the candidate from its last checkpoint, where there is one: there is no program that hands over a state. */
  async startNext(why: 'start' | 'restart'): Promise<void> {
    const next = this.next
    if (next === null) return
    const snapshot = await this.#ownState(next)
    this.#grant(next)
    // It was frozen with the whole slot when its predecessor was forced out.
    next.child.thaw()
    next.child.raisePriority()
    const edges = this.#context.owner.edges(this.#slot)
    next.child.send({ t: 'start', fence: this.fence, why, snapshot, values: this.#values(), edges })
  }

  /** Makes the candidate the running program; with `keepOld` its predecessor stays parked. */
  promote(keepOld: boolean): void {
    this.old = keepOld ? this.current : null
    if (keepOld) this.parkedAt = performance.now()
    this.current = this.next
    this.next = null
    this.#context.owner.raise(this.#slot, this.fence)
    if (this.current === null) return
    this.current.startedAt = performance.now()
    this.last = this.current
  }

  /**
   * A new connection for a message channel with the running program, as a descriptor. Throws Refusal. `onParked` is called when
   * that program was parked for the trial of another one; `leave` cancels this.
   */
  connect(onParked: () => void): { connection: number; leave: () => void } {
    const { current } = this
    if (current?.child.connect === undefined) {
      throw new Refusal('not-running', `slot ${this.#slot} runs no program`, 'medulla status')
    }
    const connection = current.child.connect()
    this.#channels.set(onParked, current)
    return { connection, leave: () => this.#channels.delete(onParked) }
  }

  /** The parked program cannot end its connections: it may have been stopped before it closed or accepted them (CHANNEL 12.12). */
  endChannelsOfOld(): void {
    for (const [onParked, running] of this.#channels) {
      if (running !== this.old) continue
      this.#channels.delete(onParked)
      onParked()
    }
  }

  /** Kills the old program when it is not seen stopped in time (HANDLES 10.4). Throws Unfenced when its end is not seen either. */
  async freezeOld(): Promise<void> {
    const child = this.old?.child
    if (child === undefined || (await child.freeze()) || (await child.kill())) return
    throw new Unfenced('the old program could be neither stopped nor ended')
  }

  /** Stops every program first, so that none overwrites a safe level (HANDLES 10.6). Returns what could not be done. */
  async safeLevels(): Promise<string[]> {
    const stopped = await Promise.all(
      this.#children.map(async (child) => (await child.freeze()) || child.kill(child.freezeMs)),
    )
    const problems = stopped.every(Boolean) ? [] : ['a program could be neither stopped nor ended']
    try {
      this.#context.owner.safe(this.#slot)
      return problems
    } catch (error) {
      return [...problems, (error as Error).message]
    }
  }

  /**
   * The swap was called off after the yield was asked for, and the candidate is dead. The running program goes on under a
   * new fencing number, whether it has parked or not. Its present number stays valid: it may write until it reads `resume`.
   */
  resumeCurrent(): void {
    this.#grant(this.current)
    this.current?.child.send({ t: 'resume', fence: this.fence, snapshot: null, values: this.#values() })
  }

  /**
   * Puts the new program's state, migrated down, into the old program's inbox if it matches its root (HANDOVER 7.3).
   * Returns why it cannot be used, or null.
   */
  async takeBack(): Promise<string | null> {
    const { current, old, handedBack } = this
    this.handedBack = null
    if (current === null || old === null || handedBack === null) return null
    // The old program has a state of its own, and goes on with that.
    if (!takesStateOf(current.runnable, old.runnable)) return null
    try {
      const { meta, state } = await readSnapshot(current.child.options.dir.outbox, handedBack)
      this.#inbox = await fillInbox(old.child.options.dir.inbox, state, meta)
      return null
    } catch (error) {
      return error instanceof Error ? error.message : String(error)
    }
  }

  /**
   * To be called when the new program is dead: the old one goes on from its inbox, or from where it parked. Returns the age
   * of the parked state in ms; null when the inbox was used.
   */
  resumeOld(): number | null {
    const { old } = this
    const snapshot = this.#inbox
    this.#inbox = null
    this.old = null
    this.current = old
    if (old === null) return null
    this.last = old
    this.#grant(old)
    this.#context.owner.raise(this.#slot, this.fence)
    old.child.thaw()
    old.child.send({ t: 'resume', fence: this.fence, snapshot, values: this.#values() })
    return snapshot === null ? performance.now() - this.parkedAt : null
  }

  /** Ends a program and clears its role; resolves when its end was seen. Throws Unfenced when it was not. */
  async kill(role: 'current' | 'next' | 'old'): Promise<void> {
    const running = this[role]
    this[role] = null
    await this.#kill(running)
  }

  /** As `kill`, but the program keeps its role until its exit is handled: forcing and stopping wait for that event. */
  async end(role: 'current'): Promise<void> {
    await this.#kill(this[role])
  }

  async #kill(running: Running | null): Promise<void> {
    if (running === null || (await running.child.kill())) return
    throw new Unfenced(`process ${running.child.pid} was killed, and has not ended`)
  }

  /** Stops every program where it is; nothing is said of those that were not seen stopped in time. */
  async freezeAll(): Promise<void> {
    await Promise.all(this.#children.map((child) => child.freeze()))
  }

  /** SIGKILL to every program; each keeps its role until its exit is handled. */
  async killAll(deadlineMs: number): Promise<void> {
    await Promise.all(this.#children.map((child) => child.kill(deadlineMs)))
  }

  get #children(): ProgramInstance[] {
    return [this.current, this.next, this.old].flatMap((running) => (running === null ? [] : [running.child]))
  }

  async close(): Promise<void> {
    await Promise.allSettled([this.kill('current'), this.kill('next'), this.kill('old')])
  }

  /** Puts the program's last checkpoint into its inbox; null when there is none. */
  async #ownState({ child, runnable }: Running): Promise<Snapshot | null> {
    const checkpoint = await checkpointOf(this.#context.store, runnable, this.#note)
    this.own = checkpoint
    if (checkpoint === null) return null
    const { stateVersion, encoding, bytes } = checkpoint
    return fillInbox(child.options.dir.inbox, bytes, { stateVersion, encoding, values: {}, seqnos: {}, schedule: [] })
  }

  /** What each handle is driven to: a program that starts or goes on takes these values over (HANDOVER 7.8). */
  #values(): Record<string, number> {
    return this.#context.owner.values(this.#slot)
  }

  #grant(running: Running | null): void {
    this.fence = this.#context.owner.nextFence()
    if (running !== null) running.child.fence = this.fence
  }
}

/** The version in which to write the state for `reader`. 0, no migration: the reader has no state, or another one of its own. */
function readerVersion(reader: Running | null, writer: Running | null): number {
  if (reader === null || writer === null) return 0
  const related = takesStateOf(reader.runnable, writer.runnable) || takesStateOf(writer.runnable, reader.runnable)
  return related ? (reader.runnable.manifest.state?.version ?? 0) : 0
}
