/**
 * Invariant: at any instant at most one of a slot's programs has been given the newest fencing number, and only this file
 * gives one (design invariant "Writer", HANDOVER 6).
 *
 * The three roles of a slot, and the moves between them. When to make which move is slot.ts's business.
 */
import type { Snapshot } from '../sdk/wire.ts'
import type { SlotEnv } from './env.ts'
import type { Action, Event } from './lifecycle.ts'
import { fillInbox, readSnapshot } from './snapshots.ts'
import type { Cause, Consequence, Runnable, Running } from './upgrade.ts'

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

  copy(swap: string): void {
    this.current?.child.send({ t: 'copy', swap, stateVersion: stateVersion(this.next) })
  }

  preload(swap: string): void {
    if (this.copied !== null) this.next?.child.send({ t: 'preload', swap, snapshot: this.copied })
  }

  arm(swap: string): void {
    this.#grant(this.next)
    this.next?.child.send({ t: 'arm', swap, fence: this.fence })
  }

  yieldToNext(swap: string): void {
    const { fence } = this
    this.current?.child.send({ t: 'yield', swap, fence, to: 'successor', stateVersion: stateVersion(this.next) })
  }

  /** HANDOVER 7.2: the new program gives its state back, in the old one's version. */
  handBack(swap: string): void {
    const { fence } = this
    this.current?.child.send({ t: 'yield', swap, fence, to: 'body', stateVersion: stateVersion(this.old) })
  }

  /** A first start, or one after a crash: with the last checkpoint, where there is one. */
  async startNext(why: 'start' | 'restart'): Promise<void> {
    const next = this.next
    if (next === null) return
    const checkpoint = await this.#env.loadCheckpoint(this.#slot, next.runnable)
    let snapshot: Snapshot | null = null
    if (checkpoint !== null) {
      const { stateVersion, encoding, bytes } = checkpoint
      const meta = { stateVersion, encoding, values: {}, seqnos: {}, schedule: [] }
      snapshot = await fillInbox(next.child.options.dir.inbox, bytes, meta)
    }
    this.#grant(next)
    // stopped with the rest when its predecessor was forced out
    next.child.thaw()
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

  /** HANDOVER 7.8 */
  #values(): Record<string, number> {
    return this.#env.owner.values(this.#slot)
  }

  #grant(running: Running | null): void {
    this.fence = this.#env.owner.nextFence()
    if (running !== null) running.child.fence = this.fence
  }
}

/** 0 for a program that keeps none. */
function stateVersion(running: Running | null): number {
  return running?.runnable.manifest.state?.version ?? 0
}
