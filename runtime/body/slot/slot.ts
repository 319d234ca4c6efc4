/**
 * Invariant: at any instant at most one program of this slot has a live lease (test/runtime/body/slot/lifecycle.test.ts).
 *
 * The driver of lifecycle.ts: it turns messages, exits and timers into events, and has their actions performed in order
 * (actions.ts). What a state means is in the table: nothing here asks for a state by its name.
 */
import type { SlotStatus } from '../../../deploy/shared/api.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import type { FromProgram } from '../../sdk/wire.ts'
import { SlotActions } from './actions.ts'
import type { Cause } from './cause.ts'
import type { LaunchListener, SlotContext } from './context.ts'
import { Deadline } from './deadlines.ts'
import { accepts, type Event, FACTS, type State, step } from './lifecycle.ts'
import type { SlotLog } from './log.ts'
import { runningStatus, unhealthy } from './monitor.ts'
import type { SlotParams } from './params.ts'
import type { Programs } from './programs.ts'
import type { Runnable, Running } from './running.ts'
import type { SavedProgram, SavedSlot } from './saved.ts'
import type { Upgrade } from './upgrade.ts'
import { causeOf, hangingRole } from './verdict.ts'

export class Slot {
  readonly name: string
  readonly log: SlotLog
  readonly params: SlotParams
  readonly #context: SlotContext
  #state: State = 'idle'
  #reserved = false
  /** Number of stops so far, and at the reservation: a stop in between calls the push off (HANDOVER 2.9). */
  #stops = { now: 0, reserved: 0 }
  readonly #actions: SlotActions
  readonly #programs: Programs
  readonly #deadline: Deadline
  #queue: Promise<void> = Promise.resolve()
  readonly #listener = {
    message: (running: Running, message: FromProgram) => this.#hear(running, message),
    exit: (running: Running) => this.#post('died', running),
  }
  readonly #timer: NodeJS.Timeout
  readonly #note = (level: string, text: string): void => this.log.add('runtime', text, this.#programs.fence, level)

  constructor(name: string, context: SlotContext) {
    this.name = name
    this.#context = context
    this.log = context.log
    this.#actions = new SlotActions(name, context, {
      post: (event) => this.#post(event, null),
      listener: this.#listener,
      keepsCheckpoints: (running) => this.#keepsCheckpoints(running),
    })
    this.#programs = this.#actions.programs
    this.params = this.#actions.params
    const { timing } = context
    this.#deadline = new Deadline(timing, context.timeScale)
    this.#timer = setInterval(() => this.#actions.askCheckpoint(), timing.checkpointMs)
    this.#timer.unref()
  }

  get state(): State {
    return this.#state
  }

  /** Throws `in-progress` when an upgrade is under way (HANDOVER 2.4). To be followed by `launch` or `abandon`. */
  reserve(): void {
    this.#context.launcher.admit()
    if (this.#reserved || this.#actions.upgrade !== null || !accepts(this.#state, 'launch'))
      throw new Refusal('in-progress', `slot ${this.name} is busy (${this.#state})`, 'medulla status')
    this.#reserved = true
    this.#stops.reserved = this.#stops.now
  }

  abandon(): void {
    this.#reserved = false
  }

  get runs(): Runnable | null {
    return this.#programs.current?.runnable ?? null
  }

  /** The program to which a failed upgrade goes back: the running one, or one about to be restarted. */
  get goesBackTo(): Runnable | null {
    return this.runs ?? (this.#actions.restarts.isRestartDue ? this.#programs.last?.runnable : null) ?? null
  }

  /** Uses the reservation; resolves when the upgrade has ended. */
  launch(upgrade: Upgrade): Promise<unknown> {
    this.#reserved = false
    this.#actions.upgrade = upgrade
    if (this.#stops.now === this.#stops.reserved) this.#post('launch', null)
    else void this.#actions.callOff({ code: 'interrupted', message: `slot ${this.name} was stopped meanwhile` })
    return upgrade.finished
  }

  /** Resolves when what was asked of the slot so far is done, sent and on disk. */
  async settle(): Promise<void> {
    await this.#queue
    await this.params.flush()
  }

  /**
   * For the runtime that goes on with this slot; null while something is not sent yet. Throws `in-progress` while a program
   * is being started, replaced or stopped (HANDOVER 18.2).
   */
  save(): SavedSlot | null {
    const { current, generation, fence } = this.#programs
    if (this.#reserved || this.#actions.upgrade !== null || !(this.isIdle || accepts(this.#state, 'launch')))
      throw new Refusal('in-progress', `slot ${this.name} is busy (${this.#state})`, 'medulla status')
    const about = { slot: this.name, log: this.log.save() }
    if (current === null) return { ...about, program: null }
    const child = current.child.save?.() ?? null
    if (child === null) return null
    const { stored: _, extract: __, ...runnable } = current.runnable
    const ranMs = performance.now() - current.startedAt
    const restarts = this.#actions.restarts.of(runnable.digest)
    const counts = { restarts, lastGapMs: this.#actions.lastGapMs }
    return { ...about, program: { runnable, child, generation, fence, ranMs, ...counts } }
  }

  /** Goes on with the program that the last runtime left running; `take` makes an instance of its process. */
  adopt(saved: SavedProgram, take: (listener: LaunchListener) => Running): void {
    const running = take(this.#listener)
    this.#programs.adopt(running, saved.generation, saved.fence)
    this.#actions.restarts.goOn(saved.runnable.digest, saved.restarts)
    this.#actions.lastGapMs = saved.lastGapMs
    this.#post('adopt', null)
  }

  /** At boot: starts the committed program. */
  begin(): void {
    this.#post('start', null)
  }

  /** Ends the program and drives safe levels; `halt` gives it no time (HANDLES 6.7). Resolves to null, or to why the stop is not on disk. */
  stop(how: 'stop' | 'halt', by: string | null): Promise<string | null> {
    // An adopted program is there before its event `adopt` is handled; the halt comes after that event.
    if (step(this.#state, 'halt') === null && this.#programs.current === null) return Promise.resolve(null)
    return new Promise((resolve) => {
      this.#actions.records.stoppedBy = by
      this.#stops.now++
      this.#actions.failures.giveUp()
      this.#actions.stopping.push(resolve)
      this.#post(how, null)
    })
  }

  /** Stops every program of the slot where it is, in any state; the caller kills them next. */
  freezePrograms(): Promise<void> {
    return this.#programs.freezeAll()
  }

  /** SIGKILL to every program of the slot, in any state; the caller posts `halt` next. */
  killPrograms(deadlineMs: number): Promise<void> {
    return this.#programs.killAll(deadlineMs)
  }

  /** Another slot has changed: a handle that a program here waits for may be free. */
  reconsider(): void {
    if (this.#actions.failures.isFree) this.begin()
  }

  /** No program runs or is about to, and no push has reserved the slot. */
  get isIdle(): boolean {
    return accepts(this.#state, 'start') && !this.#reserved && this.#actions.upgrade === null
  }

  /** Starts the committed program, by order of `by`. Throws `in-progress` when a program runs or is about to. */
  start(by: string): Promise<void> {
    this.reserve()
    this.#reserved = false
    if (!this.isIdle) throw new Refusal('in-progress', `slot ${this.name} runs already`, 'medulla status')
    const refusal = this.#actions.failures.refusal()
    if (refusal !== null) throw refusal
    // In the queue, so that a stop that comes during the write is handled after the start (HANDOVER 2.9).
    return new Promise((resolve, reject) =>
      this.#enqueue(async () => {
        const refused = await this.#context.store.setStopped(false).then(() => null, String)
        if (refused !== null) return reject(new Refusal('internal', `the start is not on disk: ${refused}`))
        resolve()
        this.#actions.records.startedBy = by
        await this.#handle('start', null, null)
      }),
    )
  }

  /** The body ends: ends every program of the slot. Its record stays, so the next body starts the program again. */
  async close(): Promise<void> {
    clearInterval(this.#timer)
    this.#actions.restarts.cancel()
    this.#deadline.disarm()
    this.#actions.monitor.rest()
    this.#actions.monitor.endTrial()
    this.#actions.failures.rest()
    this.#post('close', null)
    await this.#queue
    for (const done of this.#actions.stopping.splice(0)) done(null)
    await this.#programs.close()
    await this.params.close()
    this.log.close()
  }

  edge(message: { id: number; level: 0 | 1; ns: string; seqno: number }): void {
    this.#programs.current?.child.send({ t: 'edge', ...message })
    if (FACTS[this.#state].edgesToNext) this.#programs.next?.child.send({ t: 'edge', ...message })
  }

  /** See Programs.connect. */
  connect(onParked: () => void): { connection: number; leave: () => void } {
    return this.#programs.connect(onParked)
  }

  /** For how long a silent program was not dealt with, in ms. */
  get silentMs(): number {
    return this.#actions.monitor.overdueMs
  }

  status(): SlotStatus {
    const { current, last } = this.#programs
    const { isIdle } = this
    const failures = this.#actions.failures.status(isIdle)
    return {
      slot: this.name,
      state: this.#state,
      fence: this.#programs.fence,
      restarts: this.#actions.restarts.of(failures.digest ?? (current ?? last)?.runnable.digest),
      log: { lines: this.log.arrivals.length, dropped: this.log.dropped },
      lastGapMs: this.#actions.lastGapMs,
      ...failures,
      ...this.#context.store.status(isIdle),
      handles: this.#context.owner.report(this.name),
      ...(current === null ? {} : runningStatus(current, this.#actions.tickRate)),
    }
  }

  #post(event: Event | 'died' | 'failed', from: Running | null, said: Cause | null = null): void {
    if (event === 'died') this.#actions.checkpoints.gone(from)
    // The end of a killed program changes nothing; every other event may call for a stop.
    if (event !== 'died' || (from !== null && this.#programs.role(from) !== null)) this.#actions.hang.hurry()
    this.#enqueue(() => this.#handle(event, from, said))
  }

  #enqueue(job: () => Promise<void>): void {
    this.#queue = this.#queue
      .then(job)
      .catch((error: unknown) =>
        this.#note('error', `internal: ${error instanceof Error ? error.stack : String(error)}`),
      )
  }

  async #handle(kind: Event | 'died' | 'failed', from: Running | null, said: Cause | null): Promise<void> {
    const before = this.#state
    const event = this.#programs.event(kind, from, said)
    if (event === null) return
    const row = step(before, event)
    if (row === null) {
      // `launch` has no row when the program crashed during the verification and is being restarted.
      const message = `slot ${this.name} is busy (${before})`
      return event === 'launch' ? this.#actions.callOff({ code: 'in-progress', message }) : undefined
    }
    const { state, actions, reason, fault } = row
    const moved = state !== before || actions.length > 0
    if (reason !== null) {
      const deadlineMs = this.#deadline.lengthMs(before, this.#programs.stateBytes)
      const evidence = {
        ...this.#programs.evidence(kind, from, said),
        held: this.#actions.upgrade?.held ?? null,
        deadlineMs,
      }
      const cause = causeOf(reason, evidence, this.#context.timing)
      if (moved) this.#actions.upgrade?.setCause(cause, fault)
      this.#actions.failures.met(cause, moved, this.#actions.upgrade !== null)
      const hangs = hangingRole(reason)
      if (hangs !== null && moved) this.#actions.hang.expect(this.#programs[hangs], cause, actions)
    }
    this.#state = state
    this.#actions.willRestart = actions.includes('restart-later')
    if (moved) this.#deadline.disarm()
    for (const action of actions) {
      try {
        const next = await this.#actions.do(action)
        // The event of an action replaces the rest of this row.
        if (next !== undefined) return this.#handle(next.event, null, next.said ?? null)
      } catch (error) {
        const next = this.#programs.afterError(event, action, error as Error)
        if (next !== null) return this.#handle(next.event, null, next.said ?? null)
        this.#note('error', (error as Error).message)
      }
    }
    if (moved && this.#state === state) this.#armDeadline(state)
    const idle = this.#actions.upgrade === null && accepts(state, 'launch')
    this.#context.launcher.onIdle(this.name, this.log, idle ? this.#programs.current : null)
  }

  #hear(running: Running, message: FromProgram): void {
    const upgrade = this.#actions.upgrade
    if ('swap' in message && message.swap !== upgrade?.swap) return
    const role = this.#programs.role(running)
    switch (message.t) {
      case 'ready':
        if (role === 'current' || role === 'old' || !accepts(this.#state, 'ready')) return
        if (message.note) this.log.add('log', message.note, running.child.fence, 'info')
        upgrade?.rehearsed(message.rehearseMs)
        return this.#post('ready', running)
      case 'copied':
        if (role === 'current') this.#programs.copied = message.snapshot
        return this.#post('copied', running)
      case 'preloaded':
      case 'armed':
      case 'started':
      case 'resumed':
        return this.#post(message.t, running)
      case 'took':
        if (role === 'next' && accepts(this.#state, 'took') && upgrade?.tookOver(message) === false)
          this.#note('warn', 'the new program reports impossible times, so the gap is as the body measured it')
        return this.#post('took', running)
      case 'yielded':
        this.#programs.yielded(running, message.snapshot)
        return this.#post('yielded', running)
      case 'failed':
        return this.#post('failed', running, { code: message.code, message: '', said: message.message })
      case 'orphan':
        return this.#post('next-orphaned', running)
      case 'held':
        return role === 'current' ? upgrade?.hold(message.reason) : undefined
      case 'unhealthy':
        return this.#post('unhealthy', running, { code: 'unhealthy', message: '', said: message.reason })
      case 'hb':
        return role === 'current' ? this.#beat(running, message) : undefined
      case 'checkpoint':
        if (this.#keepsCheckpoints(running)) void this.#actions.checkpoints.take(running, message)
        return
      case 'log':
        return this.log.add('log', message.text, running.child.fence, message.level)
      case 'fatal':
        return this.log.add('log', message.stack ?? message.message, running.child.fence, 'error')
    }
  }

  #beat(running: Running, beat: Extract<FromProgram, { t: 'hb' }>): void {
    const cause = unhealthy(running, beat, this.#context.timing.lateMs)
    if (cause !== null) return this.#post('lost', running, cause)
    this.log.drop(beat.dropped ?? 0)
    this.#actions.tickRate.beat(beat.ticks)
    this.#actions.monitor.beat()
  }

  #armDeadline(state: State): void {
    this.#deadline.arm(state, this.#programs.stateBytes, () => {
      this.#post(this.#actions.upgrade?.force === true ? 'forced-deadline' : 'deadline', null)
    })
  }

  #keepsCheckpoints(running: Running): boolean {
    return FACTS[this.#state].checkpoints === true && running === this.#programs.current
  }
}
