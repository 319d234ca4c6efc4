/**
 * Invariant: an emergency stop is carried out whatever slots, disk and network do, and a failure of one part stops none of the
 * others (HANDLES 6.7; test/e2e/estop.test.ts).
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { DEFAULT_SLOT, type PushEvent, type Receipt } from '../../../deploy/shared/api.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import type { Board } from '../../../drivers/board/types.ts'
import type { Logger } from '../../log.ts'
import type { Hardware } from '../hardware/hardware.ts'
import { plainEntry, type ReceiptEntry } from '../slot/entries.ts'
import type { Slot } from '../slot/slot.ts'
import type { StopLatch } from './stops.ts'

/** How long the emergency stop waits for slots to end their programs, in ms. */
const HALT_MS = 3000

export interface EmergencyParts {
  readonly board: Board
  readonly stops: StopLatch
  readonly hardware: Hardware
  readonly slots: ReadonlyMap<string, Slot>
  /** Called before anything else: from now on, orders that were prepared earlier are refused. */
  began(): void
  /** Null when the receipt is not on disk; `counted` when it was only counted (HANDOVER 8.18). */
  record(entry: ReceiptEntry): Promise<Receipt | 'counted' | null>
  readonly log: Logger
}

export class EmergencyStop {
  readonly #board: Board
  readonly #stops: StopLatch
  readonly #hardware: Hardware
  readonly #slots: ReadonlyMap<string, Slot>
  readonly #record: EmergencyParts['record']
  readonly #began: EmergencyParts['began']
  readonly #log: Logger
  /** The emergency stop that is being carried out. */
  #halting: Promise<PushEvent> | null = null
  /** Slots whose programs were ended since the last release. */
  readonly #ended = new Set<string>()

  constructor({ board, stops, hardware, slots, began, record, log }: EmergencyParts) {
    this.#board = board
    this.#stops = stops
    this.#hardware = hardware
    this.#slots = slots
    this.#record = record
    this.#log = log
    this.#began = began
  }

  /**
   * At the start, after programs were adopted: an emergency stop that the last body's guard latched, an input that is active
   * now, or programs that went on although a stop was latched while the runtime was replaced.
   */
  begin(): void {
    const { latch } = this.#hardware
    if (latch !== null) this.#stops.adopt(latch)
    const goesOn = this.#stops.estop !== null && this.#programsRun()
    if (latch !== null || goesOn || this.#isActive()) this.pressed()
  }

  /** An emergency stop is being carried out. */
  get isHalting(): boolean {
    return this.#halting !== null
  }

  edge(name: string, level: 0 | 1): void {
    const { estop } = this.#board
    if (name === estop?.input && level === estop.level) this.pressed()
  }

  /**
   * Freezes every program, drives every safe level, then ends every program (HANDLES 6.7). Never throws: the result says what
   * could not be done.
   */
  stop(reason: string, pusher?: string): Promise<PushEvent> {
    this.#began()
    const halted = this.#halt(reason, pusher).finally(() => {
      if (this.#halting === halted) this.#halting = null
    })
    this.#halting = halted
    return halted
  }

  async #halt(reason: string, pusher?: string): Promise<PushEvent> {
    const began = performance.now()
    const problems: string[] = []
    const onDisk = this.#stops.stopAll(reason)
    const byGuard = this.#hardware.stop(reason)
    const all = this.#hardware.sandboxes.cgroups?.all ?? null
    const slots = [...this.#slots.values()]
    for (const { name, goesBackTo } of slots) if (goesBackTo !== null) this.#ended.add(name)
    const { freezeMs } = this.#hardware.sandboxes
    // Not ended first: until a killed program has given back 64 MiB of memory takes 60 ms.
    if (all !== null) await all.freeze(freezeMs)
    else await Promise.all(slots.map((slot) => slot.freezePrograms()))
    this.#driveSafe()
    const halted = Promise.all(slots.map((slot) => slot.stop('halt', pusher ?? null)))
    // Not only through the slots: a slot may be waiting for the disk.
    if (all !== null) await all.kill(HALT_MS)
    else {
      await Promise.all(slots.map((slot) => slot.killPrograms(freezeMs)))
      this.#driveSafe()
    }
    const late = sleep(HALT_MS, 'late', { ref: false })
    if ((await Promise.race([halted, late])) === 'late') problems.push('a slot has not ended its program')
    problems.push(...this.#driveSafe())
    await byGuard
    all?.thaw()
    const refused = await onDisk
    if (refused !== null) {
      problems.push(`the stop is not on disk (${refused.message}): it is lost when the power fails`)
    }
    const why = `emergency stop: ${reason}`
    const about = { code: 'estopped', reason: why, wallMs: performance.now() - began } as const
    const receipt = await this.#record(
      plainEntry('all', 'estopped', 0, pusher === undefined ? about : { ...about, pusher }),
    )
    if (receipt === null) problems.push('its receipt is not on disk')
    for (const problem of problems) this.#log.error(`emergency stop: ${problem}`)
    const message = ['everything is stopped, outputs are at their safe levels', ...problems].join('; but ')
    return {
      ...{ event: 'result', outcome: 'estopped', message, hint: 'medulla estop --release' },
      ...(receipt === null || receipt === 'counted' ? {} : { receipt }),
    }
  }

  /** Drives every safe level; returns what could not be driven. */
  #driveSafe(): string[] {
    try {
      this.#hardware.owner.safeAll()
      return []
    } catch (error) {
      return [(error as Error).message]
    }
  }

  /** Throws `estopped` while the emergency stop's input is active, and when another emergency stop came meanwhile. */
  async release(pusher: string): Promise<PushEvent> {
    // A thaw before the stop has ended would let a program run that is about to be killed.
    await this.#halting
    if (this.#isActive() || !(await this.#hardware.release())) {
      throw new Refusal(
        'estopped',
        `the input "${this.#board.estop?.input}" of the emergency stop is still pressed`,
        'pull the button out, then: medulla estop --release',
      )
    }
    const refused = await this.#stops.release()
    if (refused !== null) {
      throw new Refusal('estopped', `the release cannot be written: ${refused.message}`, 'medulla estop --release')
    }
    if (this.#stops.estop !== null || this.#halting !== null) {
      throw new Refusal('estopped', 'another emergency stop came during the release', 'medulla estop --release')
    }
    // The guard may have frozen the programs again.
    this.#hardware.sandboxes.cgroups?.all.thaw()
    const receipt = await this.#record(plainEntry('all', 'released', 0, { pusher }))
    const message = 'the emergency stop is released; nothing was started'
    return {
      ...{ event: 'result', outcome: 'released', message, hint: this.#startAgain() },
      ...(receipt === null || receipt === 'counted' ? {} : { receipt }),
    }
  }

  /** The commands that start the programs that were ended. The runtime before this one may have ended them: main, then. */
  #startAgain(): string {
    const slots = this.#ended.size === 0 ? [DEFAULT_SLOT] : [...this.#ended]
    this.#ended.clear()
    return slots.map((slot) => `medulla start${slot === DEFAULT_SLOT ? '' : ` --slot ${slot}`}`).join(' && ')
  }

  /** The input of the emergency stop came to its level, as this process or the guard saw it. */
  pressed(): void {
    if (this.#halting !== null) return
    const { estop } = this.#stops
    // Already stopped, and nothing runs: only the guard's freeze has to be undone.
    if (estop !== null && !this.#programsRun()) return this.#hardware.sandboxes.cgroups?.all.thaw()
    void this.stop(estop?.reason ?? `the input ${this.#board.estop?.input}`)
  }

  #programsRun(): boolean {
    return [...this.#slots.values()].some((slot) => !slot.isIdle || slot.runs !== null)
  }

  /** Why nothing may be started or written now; null when it may. */
  refusal(): Refusal | null {
    const { estop } = this.#stops
    if (estop === null) return null
    return new Refusal('estopped', `stopped since ${estop.since} by ${estop.reason}`, 'medulla estop --release')
  }

  /** Whether the input is at its level now. An input that cannot be read counts as active. */
  #isActive(): boolean {
    const { estop } = this.#board
    if (estop === undefined) return false
    try {
      return [...this.#hardware.owner.all].find(({ name }) => name === estop.input)?.value() === estop.level
    } catch (error) {
      this.#log.error(`the input ${estop.input} cannot be read: ${(error as Error).message}`)
      return true
    }
  }
}
