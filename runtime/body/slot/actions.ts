/**
 * Performs the actions of a slot's state machine (lifecycle.ts). Which action is due, and when, is decided by the table and its
 * driver (slot.ts): nothing here knows a state.
 */
import type { Outcome } from '../../../deploy/shared/api.ts'
import type { Cause, Consequence } from './cause.ts'
import { Checkpoints } from './checkpoints.ts'
import type { LaunchListener, SlotContext } from './context.ts'
import { upgradeEntry } from './entries.ts'
import { Failures } from './failures.ts'
import { Hang } from './hang.ts'
import { type Action, type Event, PHASE_OF } from './lifecycle.ts'
import { Monitor, TickRate } from './monitor.ts'
import { SlotParams } from './params.ts'
import { Programs } from './programs.ts'
import { SlotRecords } from './records.ts'
import { Restarts } from './restarts.ts'
import type { Runnable, Running } from './running.ts'
import { stateNotes } from './stateowner.ts'
import type { Upgrade } from './upgrade.ts'
import { describeOutcome, outcomeOf } from './verdict.ts'

/** What the actions need of the driver of the table. */
export interface SlotDriver {
  post(event: Event): void
  readonly listener: LaunchListener
  /** Whether the state of this program may be kept on disk now. */
  keepsCheckpoints(running: Running): boolean
}

export class SlotActions {
  readonly programs: Programs
  readonly params: SlotParams
  readonly monitor: Monitor
  readonly restarts: Restarts
  readonly checkpoints: Checkpoints
  readonly records: SlotRecords
  readonly failures: Failures
  readonly hang: Hang
  upgrade: Upgrade | null = null
  tickRate = new TickRate()
  lastGapMs: number | null = null
  /** Those who wait for the end of a stop: null, or why it is not on disk. */
  stopping: ((problem: string | null) => void)[] = []
  readonly #name: string
  readonly #context: SlotContext
  readonly #driver: SlotDriver

  /** The actions that are being performed end with a restart of the program that ran before. */
  willRestart = false

  constructor(name: string, context: SlotContext, driver: SlotDriver) {
    this.#name = name
    this.#context = context
    this.#driver = driver
    const { store, timing } = context
    const note = (level: string, text: string) => this.#note(level, text)
    this.programs = new Programs(name, context, note)
    this.params = new SlotParams(name, store, this.programs, note)
    this.restarts = new Restarts(timing.restartMostMs)
    this.checkpoints = new Checkpoints(store, (running) => driver.keepsCheckpoints(running), note)
    this.records = new SlotRecords(name, context, note)
    this.failures = new Failures(name, context, this.programs, this.records, note)
    this.hang = new Hang(context.log, context.timeScale)
    this.monitor = new Monitor(
      timing.heartbeatMs,
      () => driver.post('lost'),
      () => driver.post('proved'),
    )
  }

  /** Returns an event when the action leads to one. */
  async do(action: Action): Promise<Consequence | undefined> {
    const phase = PHASE_OF[action]
    if (phase !== undefined) this.upgrade?.timeline.begin(phase)
    if (action === 'spawn-next') return this.#spawnNext(this.upgrade?.to ?? null)
    if (action === 'spawn-committed') return this.#spawnNext(null)
    if (action === 'commit') return this.#commit()
    await this.#perform(action)
    return undefined
  }

  async #perform(action: Exclude<Action, 'spawn-next' | 'spawn-committed' | 'commit'>): Promise<void> {
    const programs = this.programs
    const upgrade = this.upgrade
    const swap = upgrade?.swap ?? ''
    switch (action) {
      case 'copy':
        return programs.copy(swap)
      case 'preload':
        await this.checkpoints.keepAhead(programs.replaced, programs.copied)
        return programs.preload(swap)
      case 'arm':
        return programs.arm(swap)
      case 'yield':
        return programs.yieldToNext(swap)
      case 'rest':
        return this.monitor.rest()
      case 'start-next':
        return programs.startNext(this.restarts.isRestartDue ? 'restart' : 'start')
      case 'promote':
      case 'swap-roles':
        this.tickRate = new TickRate()
        return programs.promote(action === 'swap-roles')
      case 'freeze-old':
        await programs.freezeOld()
        upgrade?.fenced()
        programs.endChannelsOfOld()
        return upgrade?.countEdges(this.#edges)
      case 'begin-trial':
        return this.monitor.beginTrial(this.#context.timing.trialMs)
      case 'hand-back':
        return programs.handBack(swap)
      case 'fill-inbox': {
        const problem = await programs.takeBack()
        if (problem !== null) this.#note('warn', `the new program's state cannot be used: ${problem}`)
        return
      }
      case 'kill-next': // dead before another one is started (HANDOVER 6.5)
        await this.hang.capture(programs.next)
        return programs.kill('next')
      case 'kill-current':
        this.monitor.endTrial()
        this.monitor.rest()
        await this.hang.capture(programs.current)
        return programs.kill('current')
      case 'end-current':
        this.monitor.rest()
        return programs.end('current')
      case 'kill-old':
        return programs.kill('old')
      case 'resume-old':
        return this.#resumeOld()
      case 'resume-current':
        programs.resumeCurrent()
        return this.monitor.watch()
      case 'safe-levels':
        for (const problem of await programs.safeLevels()) this.#note('error', problem)
        return
      case 'stop-current':
        this.monitor.rest()
        return programs.current?.child.send({ t: 'stop' })
      case 'finish-commit':
        return this.#finishCommit()
      case 'bring-back':
        return this.#bringBack()
      case 'end-upgrade':
        return this.#endUpgrade()
      case 'stopped':
        return this.#stopped()
      case 'stop-failed':
        for (const done of this.stopping.splice(0)) done('a program could be neither stopped nor ended')
        return
      case 'restart-later':
        await this.hang.found
        await this.failures.crashed()
        programs.current = null
        return this.restarts.later(() => this.#driver.post('cooled'))
      case 'cancel-restart':
        return this.restarts.cancel()
      case 'wait':
        this.restarts.reset()
        return this.failures.wait()
      case 'back':
        this.monitor.watch()
        await this.failures.back(this.restarts.back((programs.current as Running).runnable.digest))
        return this.#context.launcher.prepare()
      case 'go-on':
        this.failures.goOn()
        return this.monitor.watch()
    }
  }

  /** `pushed` null: starts the committed program. */
  async #spawnNext(pushed: Runnable | null): Promise<Consequence | undefined> {
    let runnable = pushed
    try {
      runnable ??= await this.#context.store.committed()
      if (runnable === null) return { event: 'nothing-stored' }
      const params = this.params.values(runnable)
      return await this.programs.launchNext(runnable, { log: this.#context.log, params }, this.#driver.listener)
    } catch (error) {
      return this.failures.refused(error, runnable, pushed === null)
    }
  }

  #resumeOld(): void {
    // The present parameters reach the old program before `resume` does (HANDOVER 11.5).
    this.params.tell(this.programs.old)
    this.upgrade?.goesBack(this.programs.resumeOld())
    this.tickRate = new TickRate()
    this.monitor.watch()
  }

  async #commit(): Promise<Consequence> {
    const upgrade = this.upgrade as Upgrade
    this.restarts.reset()
    // `committed` is said only when the record is on disk (HANDOVER 2.6).
    try {
      await this.checkpoints.keep(...this.programs.lastOfReplaced)
      await this.checkpoints.secure(this.programs.current as Running, upgrade.from, this.#context.timing.heartbeatMs)
      await this.#context.store.commit(upgrade.to, upgrade.kind === 'push')
      return { event: 'committed' }
    } catch (error) {
      return { event: 'commit-failed', said: { code: 'internal', message: (error as Error).message } }
    }
  }

  async #finishCommit(): Promise<void> {
    const upgrade = this.upgrade as Upgrade
    this.#context.owner.keep(Object.keys(upgrade.to.manifest.needs), this.#name)
    this.lastGapMs = upgrade.gapMs
    this.restarts.count(upgrade.to.digest)
    upgrade.notes = stateNotes(upgrade, this.programs.own).concat(this.params.settle(upgrade.to))
    this.failures.committed()
    // A silence during the commit was not dealt with: the program is watched from now on.
    this.monitor.watch()
    await this.#finish('committed')
    this.askCheckpoint()
  }

  /** Restarts the program that was forced out, or had crashed, before the candidate failed. */
  #bringBack(): void {
    if (this.upgrade?.from != null) this.restarts.expectRestart()
    else if (!this.failures.isWaiting) return
    this.#driver.post('start')
  }

  readonly #edges = (fromNs: number, toNs: number) => this.#context.owner.countEdges(this.#name, fromNs, toNs)

  async #endUpgrade(): Promise<void> {
    const upgrade = this.upgrade
    if (upgrade === null) return
    this.monitor.endTrial()
    await this.hang.found
    if (upgrade.fault === 'candidate') await this.records.undone(upgrade)
    if (this.programs.current !== null) {
      this.#context.owner.keep(Object.keys(this.programs.current.runnable.manifest.needs), this.#name)
      this.monitor.watch()
    }
    await this.#finish(outcomeOf(upgrade.cause?.code ?? 'internal'))
  }

  async callOff(cause: Cause): Promise<void> {
    this.upgrade?.setCause(cause, 'nobody')
    await this.#finish('called-off')
  }

  async #finish(outcome: Outcome): Promise<void> {
    const upgrade = this.upgrade
    if (upgrade === null) return
    this.upgrade = null
    this.programs.copied = this.programs.handedBack = null
    upgrade.countEdges(this.#edges)
    const running = this.programs.current?.runnable ?? null
    const receipt = await this.#context.ledger.receipt(upgradeEntry(this.#name, upgrade, outcome, this.programs.fence))
    const name = running && `${running.program} ${running.version}`
    const { message, hint } = describeOutcome(upgrade, outcome, name, this.willRestart || this.restarts.isRestartDue)
    this.#note('info', message)
    upgrade.finish(outcome, message, receipt, hint)
    this.#context.launcher.prepare()
  }

  async #stopped(): Promise<void> {
    this.programs.current = null
    const problem = await this.records.stopped()
    this.#context.owner.keep([], this.#name)
    this.restarts.reset()
    this.failures.stopped()
    await this.records.life('stopped', this.programs)
    for (const done of this.stopping.splice(0)) done(problem)
  }

  askCheckpoint(): void {
    const { current } = this.programs
    if (current !== null && this.upgrade === null && this.#driver.keepsCheckpoints(current))
      this.checkpoints.ask(current)
  }

  #note(level: string, text: string): void {
    this.#context.log.add('runtime', text, this.programs.fence, level)
  }
}
