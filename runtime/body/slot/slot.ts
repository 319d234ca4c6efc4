/**
 * Invariant: at any instant at most one program of this slot has a live lease (test/runtime/lifecycle.test.ts).
 *
 * The driver of lifecycle.ts: it turns messages, exits and timers into events, and performs the actions in order. What a
 * state means is in the table: nothing here asks for a state by its name.
 */
import type { Outcome, SlotStatus } from '../../../deploy/shared/api.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import type { FromProgram } from '../../sdk/wire.ts'
import type { Cause, Consequence } from './cause.ts'
import { Checkpoints } from './checkpoints.ts'
import { Deadline } from './deadlines.ts'
import { upgradeEntry } from './entries.ts'
import type { SlotEnv } from './env.ts'
import { Failures } from './failures.ts'
import { type Action, accepts, type Event, FACTS, PHASE_OF, type State, step } from './lifecycle.ts'
import { SlotLog } from './log.ts'
import { Monitor, runningStatus, TickRate, unwell } from './monitor.ts'
import { SlotParams } from './params.ts'
import { Programs } from './programs.ts'
import { SlotRecords } from './records.ts'
import { Restarts } from './restarts.ts'
import type { Runnable, Running } from './running.ts'
import { stateNotes } from './stateowner.ts'
import type { Upgrade } from './upgrade.ts'
import { causeOf, describeOutcome, outcomeOf } from './verdict.ts'

export class Slot {
  readonly name: string
  readonly log: SlotLog
  readonly params: SlotParams
  #env: SlotEnv
  #state: State = 'idle'
  #programs: Programs
  #upgrade: Upgrade | null = null
  #reserved = false
  /** Number of stops so far, and at the reservation: a stop in between calls the push off (HANDOVER 2.9). */
  #stops = { now: 0, reserved: 0 }
  #monitor: Monitor
  #deadline: Deadline
  #queue: Promise<void> = Promise.resolve()
  readonly #listener = {
    message: (running: Running, message: FromProgram) => this.#hear(running, message),
    exit: (running: Running) => this.#post('died', running),
  }
  #restarts: Restarts
  #tickRate = new TickRate()
  #checkpoints: Checkpoints
  #records: SlotRecords
  #stopping: ((problem: string | null) => void)[] = []
  #lastGapMs: number | null = null
  #failures: Failures
  #timer: NodeJS.Timeout
  readonly #note = (level: string, text: string): void => this.log.add('runtime', text, this.#programs.fence, level)

  constructor(name: string, env: SlotEnv) {
    this.name = name
    this.#env = env
    this.log = new SlotLog(name)
    this.#programs = new Programs(name, env)
    this.params = new SlotParams(name, env, this.#programs, this.#note)
    this.#deadline = new Deadline(env.timing, env.timeScale)
    this.#restarts = new Restarts(env.timing.restartMostMs)
    this.#checkpoints = new Checkpoints(name, env, (running) => this.#keepsCheckpoints(running), this.#note)
    this.#records = new SlotRecords(name, env, this.#note)
    this.#failures = new Failures(name, env, this.#programs, this.#records, this.#note)
    const lost = () => this.#post('lost', null)
    this.#monitor = new Monitor(env.timing.heartbeatMs, lost, () => this.#post('proved', null))
    this.#timer = setInterval(() => this.#askCheckpoint(), env.timing.checkpointMs)
    this.#timer.unref()
  }

  get state(): State {
    return this.#state
  }

  /** Throws `in-progress` when an upgrade is under way (HANDOVER 2.4). To be followed by `launch` or `abandon`. */
  reserve(): void {
    this.#env.admit(this.name)
    if (this.#reserved || this.#upgrade !== null || !accepts(this.#state, 'launch'))
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
    return this.runs ?? (this.#restarts.isRestartDue ? this.#programs.last?.runnable : null) ?? null
  }

  /** Uses the reservation; resolves when the upgrade has ended. */
  launch(upgrade: Upgrade): Promise<unknown> {
    this.#reserved = false
    this.#upgrade = upgrade
    if (this.#stops.now === this.#stops.reserved) this.#post('launch', null)
    else void this.#callOff({ code: 'interrupted', message: `slot ${this.name} was stopped meanwhile` })
    return upgrade.finished
  }

  /** At boot: starts the committed program. */
  begin(): void {
    this.#post('start', null)
  }

  /** Ends the program and drives safe levels; `halt` gives it no time (HANDLES 6.7). Resolves to null, or to why the stop is not on disk. */
  stop(how: 'stop' | 'halt', by: string | null): Promise<string | null> {
    if (step(this.#state, 'halt') === null) return Promise.resolve(null)
    return new Promise((resolve) => {
      this.#records.stoppedBy = by
      this.#stops.now++
      this.#failures.giveUp()
      this.#stopping.push(resolve)
      this.#post(how, null)
    })
  }

  /** SIGKILL to every program of the slot, in any state; the caller posts `halt` next. */
  killPrograms(deadlineMs: number): Promise<void> {
    return this.#programs.killAll(deadlineMs)
  }

  /** Another slot has changed: a handle that a program here waits for may be free. */
  reconsider(): void {
    if (this.#failures.isFree) this.begin()
  }

  /** No program runs or is about to, and no push has reserved the slot. */
  get isIdle(): boolean {
    return accepts(this.#state, 'start') && !this.#reserved && this.#upgrade === null
  }

  /** Starts the committed program, by order of `by`. Throws `in-progress` when a program runs or is about to. */
  start(by: string): Promise<void> {
    this.reserve()
    this.#reserved = false
    if (!this.isIdle) throw new Refusal('in-progress', `slot ${this.name} runs already`, 'medulla status')
    const refusal = this.#failures.refusal()
    if (refusal !== null) throw refusal
    // In the queue, so that a stop that comes during the write is handled after the start (HANDOVER 2.9).
    return new Promise((resolve, reject) =>
      this.#enqueue(async () => {
        const refused = await this.#env.setStopped(this.name, false).then(() => null, String)
        if (refused !== null) return reject(new Refusal('internal', `the start is not on disk: ${refused}`))
        resolve()
        this.#records.startedBy = by
        await this.#handle('start', null, null)
      }),
    )
  }

  /** The body ends: ends every program of the slot. Its record stays, so the next body starts the program again. */
  async close(): Promise<void> {
    clearInterval(this.#timer)
    this.#restarts.cancel()
    this.#deadline.disarm()
    this.#monitor.rest()
    this.#failures.rest()
    this.#post('close', null)
    await this.#queue
    for (const done of this.#stopping.splice(0)) done(null)
    await this.#programs.close()
    await this.params.close()
    this.log.close()
  }

  edge(message: { id: number; level: 0 | 1; ns: string; seqno: number }): void {
    this.#programs.current?.child.send({ t: 'edge', ...message })
    if (FACTS[this.#state].edgesToNext) this.#programs.next?.child.send({ t: 'edge', ...message })
  }

  status(): SlotStatus {
    return {
      slot: this.name,
      state: this.#state,
      fence: this.#programs.fence,
      restarts: this.#restarts.total,
      log: { lines: this.log.arrivals.length, dropped: this.log.dropped },
      lastGapMs: this.#lastGapMs,
      ...this.#failures.status(this.isIdle),
      handles: this.#env.owner.report(this.name),
      ...(this.#programs.current === null ? {} : runningStatus(this.#programs.current, this.#tickRate)),
    }
  }

  #post(event: Event | 'died' | 'failed', from: Running | null, said: Cause | null = null): void {
    if (event === 'died') this.#checkpoints.gone(from)
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
      return event === 'launch' ? this.#callOff({ code: 'in-progress', message }) : undefined
    }
    const { state, actions, reason, fault } = row
    const moved = state !== before || actions.length > 0
    if (reason !== null) {
      const deadlineMs = this.#deadline.lengthMs(before, this.#programs.stateBytes)
      const evidence = { ...this.#programs.evidence(kind, from, said), held: this.#upgrade?.held ?? null, deadlineMs }
      const cause = causeOf(reason, evidence, this.#env.timing)
      if (moved) this.#upgrade?.setCause(cause, fault)
      this.#failures.met(cause, moved, this.#upgrade !== null)
    }
    this.#state = state
    if (moved) this.#deadline.disarm()
    for (const action of actions) {
      try {
        const next = await this.#do(action)
        // The event of an action replaces the rest of this row.
        if (next !== undefined) return this.#handle(next.event, null, next.said ?? null)
      } catch (error) {
        const next = this.#programs.afterError(event, action, error as Error)
        if (next !== null) return this.#handle(next.event, null, next.said ?? null)
        this.#note('error', (error as Error).message)
      }
    }
    if (moved && this.#state === state) this.#armDeadline(state)
    const idle = this.#upgrade === null && accepts(state, 'launch')
    this.#env.onIdle(this.name, this.log, idle ? this.#programs.current : null)
  }

  #hear(running: Running, message: FromProgram): void {
    const upgrade = this.#upgrade
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
        if (this.#keepsCheckpoints(running)) void this.#checkpoints.take(running, message)
        return
      case 'log':
        return this.log.add('log', message.text, running.child.fence, message.level)
      case 'fatal':
        return this.log.add('log', message.stack ?? message.message, running.child.fence, 'error')
    }
  }

  #beat(running: Running, beat: Extract<FromProgram, { t: 'hb' }>): void {
    const cause = unwell(running, beat, this.#env.timing.lateMs)
    if (cause !== null) return this.#post('lost', running, cause)
    this.log.drop(beat.dropped ?? 0)
    this.#tickRate.beat(beat.ticks)
    this.#monitor.beat()
  }

  #armDeadline(state: State): void {
    this.#deadline.arm(state, this.#programs.stateBytes, () => {
      this.#post(this.#upgrade?.force === true ? 'forced-deadline' : 'deadline', null)
    })
  }

  /** Returns an event when the action leads to one. */
  async #do(action: Action): Promise<Consequence | undefined> {
    const phase = PHASE_OF[action]
    if (phase !== undefined) this.#upgrade?.timeline.begin(phase)
    if (action === 'spawn-next') return this.#spawnNext(this.#upgrade?.to ?? null)
    if (action === 'spawn-committed') return this.#spawnNext(null)
    if (action === 'commit') return this.#commit()
    await this.#perform(action)
    return undefined
  }

  async #perform(action: Exclude<Action, 'spawn-next' | 'spawn-committed' | 'commit'>): Promise<void> {
    const programs = this.#programs
    const upgrade = this.#upgrade
    const swap = upgrade?.swap ?? ''
    switch (action) {
      case 'copy':
        return programs.copy(swap)
      case 'preload':
        await this.#checkpoints.keepAhead(programs.replaced, programs.copied)
        return programs.preload(swap)
      case 'arm':
        return programs.arm(swap)
      case 'yield':
        return programs.yieldToNext(swap)
      case 'rest':
        return this.#monitor.rest()
      case 'start-next':
        return programs.startNext(this.#restarts.isRestartDue ? 'restart' : 'start')
      case 'promote':
        this.#tickRate = new TickRate()
        return programs.promote(false)
      case 'swap-roles':
        this.#tickRate = new TickRate()
        return programs.promote(true)
      case 'freeze-old':
        await programs.freezeOld()
        upgrade?.fenced()
        return upgrade?.countEdges(this.#edges)
      case 'begin-trial':
        return this.#monitor.beginTrial(this.#env.timing.trialMs)
      case 'hand-back':
        return programs.handBack(swap)
      case 'fill-inbox': {
        const problem = await programs.takeBack()
        if (problem !== null) this.#note('warn', `the new program's state cannot be used: ${problem}`)
        return
      }
      case 'kill-next': // dead before another one is started (HANDOVER 6.5)
        return programs.kill('next')
      case 'kill-current':
        this.#monitor.endTrial()
        this.#monitor.rest()
        return programs.kill('current')
      case 'end-current':
        this.#monitor.rest()
        return programs.end('current')
      case 'kill-old':
        return programs.kill('old')
      case 'resume-old':
        return this.#resumeOld()
      case 'resume-current':
        programs.resumeCurrent()
        return this.#monitor.watch()
      case 'safe-levels':
        for (const problem of await programs.safeLevels()) this.#note('error', problem)
        return
      case 'stop-current':
        this.#monitor.rest()
        return programs.current?.child.send({ t: 'stop' })
      case 'finish-commit':
        return this.#finishCommit()
      case 'bring-back':
        return this.#bringBack()
      case 'end-upgrade':
        return this.#endUpgrade()
      case 'stopped':
        return this.#stopped()
      case 'restart-later':
        await this.#failures.crashed()
        programs.current = null
        return this.#restarts.later(() => this.#post('cooled', null))
      case 'cancel-restart':
        return this.#restarts.cancel()
      case 'wait':
        this.#restarts.reset()
        return this.#failures.wait()
      case 'back':
        this.#monitor.watch()
        await this.#failures.back(this.#restarts.back())
        return this.#env.prepare()
    }
  }

  /** `pushed` null: starts the committed program. */
  async #spawnNext(pushed: Runnable | null): Promise<Consequence | undefined> {
    let runnable = pushed
    try {
      runnable ??= await this.#env.committed(this.name)
      if (runnable === null) return { event: 'nothing-stored' }
      const params = this.params.values(runnable)
      return await this.#programs.launchNext(runnable, { log: this.log, params }, this.#listener)
    } catch (error) {
      return this.#failures.refused(error, runnable, pushed === null)
    }
  }

  #resumeOld(): void {
    // The present parameters reach the old program before `resume` does (HANDOVER 11.5).
    this.params.tell(this.#programs.old)
    this.#upgrade?.goesBack(this.#programs.resumeOld())
    this.#tickRate = new TickRate()
    this.#monitor.watch()
  }

  async #commit(): Promise<Consequence> {
    const upgrade = this.#upgrade as Upgrade
    this.#restarts.reset()
    // `committed` is said only when the record is on disk (HANDOVER 2.6).
    try {
      await this.#checkpoints.keep(...this.#programs.lastOfReplaced)
      await this.#checkpoints.secure(this.#programs.current as Running, upgrade.from, this.#env.timing.heartbeatMs)
      await this.#env.commit(this.name, upgrade.to, upgrade.kind === 'push')
      return { event: 'committed' }
    } catch (error) {
      return { event: 'commit-failed', said: { code: 'internal', message: (error as Error).message } }
    }
  }

  async #finishCommit(): Promise<void> {
    const upgrade = this.#upgrade as Upgrade
    this.#env.owner.keep(Object.keys(upgrade.to.manifest.needs), this.name)
    this.#lastGapMs = upgrade.gapMs
    upgrade.notes = stateNotes(upgrade, this.#programs.own).concat(this.params.settle(upgrade.to))
    this.#failures.committed()
    await this.#finish('committed')
    this.#askCheckpoint()
  }

  /** Restarts the program that was forced out, or had crashed, before the candidate failed. */
  #bringBack(): void {
    if (this.#upgrade?.from != null) this.#restarts.expectRestart()
    else if (!this.#failures.isWaiting) return
    this.#post('start', null)
  }

  readonly #edges = (fromNs: number, toNs: number) => this.#env.edges(this.name, fromNs, toNs)

  async #endUpgrade(): Promise<void> {
    const upgrade = this.#upgrade
    if (upgrade === null) return
    this.#monitor.endTrial()
    if (upgrade.fault === 'candidate') await this.#records.undone(upgrade)
    if (this.#programs.current !== null) {
      this.#env.owner.keep(Object.keys(this.#programs.current.runnable.manifest.needs), this.name)
      this.#monitor.watch()
    }
    await this.#finish(outcomeOf(upgrade.cause?.code ?? 'internal'))
  }

  async #callOff(cause: Cause): Promise<void> {
    this.#upgrade?.setCause(cause, 'nobody')
    await this.#finish('called-off')
  }

  async #finish(outcome: Outcome): Promise<void> {
    const upgrade = this.#upgrade
    if (upgrade === null) return
    this.#upgrade = null
    this.#programs.copied = this.#programs.handedBack = null
    upgrade.countEdges(this.#edges)
    const running = this.#programs.current?.runnable ?? null
    const receipt = await this.#env.receipt(upgradeEntry(this.name, upgrade, outcome, this.#programs.fence))
    const { message, hint } = describeOutcome(upgrade, outcome, running && `${running.program} ${running.version}`)
    this.#note('info', message)
    upgrade.finish(outcome, message, receipt, hint)
    this.#env.prepare()
  }

  async #stopped(): Promise<void> {
    this.#programs.current = null
    const problem = await this.#records.stopped()
    this.#env.owner.keep([], this.name)
    this.#restarts.reset()
    this.#failures.stopped()
    await this.#records.life('stopped', this.#programs)
    for (const done of this.#stopping.splice(0)) done(problem)
  }

  #askCheckpoint(): void {
    const { current } = this.#programs
    if (current !== null && this.#upgrade === null && this.#keepsCheckpoints(current)) this.#checkpoints.ask(current)
  }

  #keepsCheckpoints(running: Running): boolean {
    return FACTS[this.#state].checkpoints === true && running === this.#programs.current
  }
}
