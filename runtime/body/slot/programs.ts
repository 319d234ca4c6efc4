/**
 * Invariant: at any instant at most one of a slot's programs has been given the newest fencing number, and only this file
 * gives one (design invariant "Writer", HANDOVER 6).
 *
 * The three roles of a slot, and the moves between them. When to make which move is slot.ts's business.
 */
import type { Snapshot } from '../../sdk/wire.ts'
import type { Cause, Consequence } from './cause.ts'
import type { SlotEnv } from './env.ts'
import type { Action, Event } from './lifecycle.ts'
import type { Runnable, Running } from './running.ts'
import { fillInbox, readSnapshot } from './snapshots.ts'
import { type OwnState, takesStateOf } from './stateowner.ts'

/** HANDOVER 3.8: who may say what, so that no program answers for another one. */
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

type About = Parameters<SlotEnv['launch']>[0]

/** HANDLES 10.5: a program that may still run although it was frozen and killed. */
class Unfenced extends Error {}

export class Programs {
  readonly #slot: string
  readonly #env: Pick<SlotEnv, 'owner' | 'launch' | 'loadCheckpoint'>
  #generation = 0
  /** holds the lease, or held it last */
  current: Running | null = null
  /** the candidate */
  next: Running | null = null
  /** the parked predecessor of a program in its trial */
  old: Running | null = null
  /** What ran last: a crash is reported, and undone, with it. */
  last: Running | null = null
  /** Newest fencing number of the slot. */
  fence = 0
  /** What the current one copied ahead, and what the new one handed back. */
  copied: Snapshot | null = null
  handedBack: Snapshot | null = null
  /** performance.now() at which the body saw that the old program had parked. */
  parkedAt = 0
  /** Where the program that parked last has its state. */
  parked: { running: Running; snapshot: Snapshot } | null = null
  /** What the candidate began with, or would have, had it replaced a program of another name. */
  own: OwnState = null
  #inbox: Snapshot | null = null

  constructor(slot: string, env: Pick<SlotEnv, 'owner' | 'launch' | 'loadCheckpoint'>) {
    this.#slot = slot
    this.#env = env
  }

  /** Resolves when the candidate's process is there, and its release is on disk (HANDOVER 4.7). */
  async launchNext(
    runnable: Runnable,
    given: Pick<About, 'log' | 'params'>,
    on: Parameters<SlotEnv['launch']>[2],
  ): Promise<undefined> {
    this.own = this.parked = null
    const predecessor = this.current?.child ?? null
    const about = { slot: this.#slot, generation: ++this.#generation, predecessor, ...given }
    this.next = await this.#env.launch(about, runnable, on)
    await runnable.stored
  }

  role(running: Running): 'current' | 'next' | 'old' | null {
    if (running === this.current) return 'current'
    if (running === this.next) return 'next'
    return running === this.old ? 'old' : null
  }

  /**
   * The event that a message or an exit is, by the role that its program has when it is handled: roles may change while it
   * waits. Null: a program without a role, or one whose role may not say this (HANDOVER 3.8).
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

  /** How long the program has run that holds the lease, in ms; null when none does. */
  get ranMs(): number | null {
    return this.current === null ? null : performance.now() - this.current.startedAt
  }

  /** What is known of an event of `from`, for its cause. */
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
   * What an action that threw comes to. HANDLES 10.5: nobody gets the handles of a program that may still run; and a slot
   * that could not do what its state stands for (a disk that gives no fencing numbers, no memory for a state) is no better.
   * Null: everything was being ended anyway. A program that could not be started, and never was, may be started later.
   */
  afterError(event: Event, action: Action, error: Error): Consequence | null {
    if (event === 'halt' || event === 'unfenced' || event === 'close') return null
    const { message } = error
    if (action === 'start-next') return { event: 'spawn-failed', said: { code: 'internal', message } }
    const code = error instanceof Unfenced ? 'fence-failed' : 'internal'
    return { event: 'unfenced', said: { code, message } }
  }

  /** The program that the candidate replaces without going on with its state (HANDOVER 5.9). */
  get replaced(): Running | null {
    const { current, next } = this
    return current === null || next === null || takesStateOf(next.runnable, current.runnable) ? null : current
  }

  /** The same once it has parked, with its last state. */
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

  /** From `running`: it has parked, or has given its state back. */
  yielded(running: Running, snapshot: Snapshot): void {
    const role = this.role(running)
    if (role === 'current') this.handedBack = snapshot
    // the new program's word may be heard first
    if (role !== null) this.parked = { running, snapshot }
  }

  arm(swap: string): void {
    this.#grant(this.next)
    this.next?.child.raise?.()
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

  /** HANDOVER 7.2: the new program gives its state back, in the old one's version. */
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

  /** A first start, or one after a crash: with the last checkpoint, where there is one. */
  async startNext(why: 'start' | 'restart'): Promise<void> {
    const next = this.next
    if (next === null) return
    const snapshot = await this.#ownState(next)
    this.#grant(next)
    // stopped with the rest when its predecessor was forced out
    next.child.thaw()
    next.child.raise?.()
    const edges = this.#env.owner.edges(this.#slot)
    next.child.send({ t: 'start', fence: this.fence, why, snapshot, values: this.#values(), edges })
  }

  /** The candidate is the one that runs; what ran before it is parked, when `keepOld`. */
  promote(keepOld: boolean): void {
    this.old = keepOld ? this.current : null
    if (keepOld) this.parkedAt = performance.now()
    this.current = this.next
    this.next = null
    this.#env.owner.raise(this.#slot, this.fence)
    if (this.current === null) return
    this.current.startedAt = performance.now()
    this.last = this.current
  }

  /** HANDLES 10.4: what cannot be seen stopped is ended. Throws Unfenced when that is not seen either. */
  async freezeOld(): Promise<void> {
    const child = this.old?.child
    if (child === undefined || (await child.freeze()) || (await child.kill())) return
    throw new Unfenced('the old program could be neither stopped nor ended')
  }

  /** HANDLES 10.6: stopped first, so that nobody writes over them. What could not be done. */
  async safeLevels(): Promise<string[]> {
    const children = [this.current, this.next, this.old].flatMap((running) => (running === null ? [] : [running.child]))
    const stopped = await Promise.all(
      children.map(async (child) => (await child.freeze()) || child.kill(child.freezeMs)),
    )
    const problems = stopped.every(Boolean) ? [] : ['a program could be neither stopped nor ended']
    try {
      this.#env.owner.safe(this.#slot)
      return problems
    } catch (error) {
      return [...problems, (error as Error).message]
    }
  }

  /**
   * Called off after the yield was asked for, and the candidate is dead: whether it has parked or not, it goes on under a
   * new number. Until it hears that, it may still be writing under the one it has, which is therefore not barred.
   */
  resumeCurrent(): void {
    this.#grant(this.current)
    this.current?.child.send({ t: 'resume', fence: this.fence, snapshot: null, values: this.#values() })
  }

  /**
   * HANDOVER 7.3: the new program's state, migrated down, goes into the old one's inbox when every byte of it is what it
   * said. Returns why it cannot be used, or null.
   */
  async takeBack(): Promise<string | null> {
    const { current, old, handedBack } = this
    this.handedBack = null
    if (current === null || old === null || handedBack === null) return null
    // the old one goes on with its own, as it was
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
   * Call it when the new program is dead: the old one goes on from its inbox, or from where it parked. Returns the age in
   * ms of a parked state; null when the inbox was used.
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
    this.#env.owner.raise(this.#slot, this.fence)
    old.child.thaw()
    old.child.send({ t: 'resume', fence: this.fence, snapshot, values: this.#values() })
    return snapshot === null ? performance.now() - this.parkedAt : null
  }

  /** Forgets and ends a program; it is seen to be gone when this resolves. Throws Unfenced when it is not. */
  async kill(role: 'current' | 'next' | 'old'): Promise<void> {
    const running = this[role]
    this[role] = null
    await this.#kill(running)
  }

  /** As `kill`, for a program whose death is itself waited for: it keeps its role until that event. */
  async end(role: 'current'): Promise<void> {
    await this.#kill(this[role])
  }

  async #kill(running: Running | null): Promise<void> {
    if (running === null || (await running.child.kill())) return
    throw new Unfenced(`process ${running.child.pid} was killed, and has not ended`)
  }

  /** SIGKILL to all of them; each keeps its role until its death is handled. */
  async killAll(deadlineMs: number): Promise<void> {
    const all = [this.current, this.next, this.old].flatMap((running) => (running === null ? [] : [running.child]))
    await Promise.all(all.map((child) => child.kill(deadlineMs)))
  }

  async close(): Promise<void> {
    await Promise.allSettled([this.kill('current'), this.kill('next'), this.kill('old')])
  }

  /** The program's last checkpoint in its inbox, where there is one. */
  async #ownState({ child, runnable }: Running): Promise<Snapshot | null> {
    const checkpoint = await this.#env.loadCheckpoint(this.#slot, runnable)
    this.own = checkpoint
    if (checkpoint === null) return null
    const { stateVersion, encoding, bytes } = checkpoint
    return fillInbox(child.options.dir.inbox, bytes, { stateVersion, encoding, values: {}, seqnos: {}, schedule: [] })
  }

  /** HANDOVER 7.8 */
  #values(): Record<string, number> {
    return this.#env.owner.values(this.#slot)
  }

  #grant(running: Running | null): void {
    this.fence = this.#env.owner.nextFence()
    if (running !== null) running.child.fence = this.fence
  }
}

/** The state version to write for `reader`; 0, as it is, for one that keeps none, or has another one of its own. */
function readerVersion(reader: Running | null, writer: Running | null): number {
  if (reader === null || writer === null) return 0
  const related = takesStateOf(reader.runnable, writer.runnable) || takesStateOf(writer.runnable, reader.runnable)
  return related ? (reader.runnable.manifest.state?.version ?? 0) : 0
}
