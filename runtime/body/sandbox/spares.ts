/**
 * A spare halves the time of a push: 197 ms from an open session to the first write, and 393 without one (p50 of 30 each, in
 * turn, on a busy machine; `npm run bench -- push --only warm-.*-100KB`). `medulla watch` asks for one, so each save has it.
 * It costs the 50 MB of a Node that waits.
 *
 * Invariant: a slot has at most one spare, and only while a program runs in it without an upgrade and a session asks for one. A
 * spare is a child without a program, a lease or a fencing number (HANDOVER 12; test/e2e/spare.test.ts).
 */
import { readFileSync } from 'node:fs'
import { freemem } from 'node:os'
import type { SpareEvent } from '../../../deploy/shared/api.ts'
import type { Manifest } from '../../../deploy/shared/bundle/manifest.ts'
import type { LaunchOrder } from '../slot/context.ts'
import type { SlotLog } from '../slot/log.ts'
import type { ProgramInstance, Running } from '../slot/running.ts'
import type { Child } from './child.ts'
import { type LaunchContext, startChild } from './launcher.ts'

type Needs = Manifest['needs']
type SpareListener = (event: SpareEvent) => void

/** Time between two checks of the memory and of the age of a spare. */
const CHECK_MS = 1000

/** The spares of all slots. */
export class Spares {
  readonly #context: LaunchContext
  readonly #slots = new Map<string, Spare>()

  constructor(context: LaunchContext) {
    this.#context = context
  }

  /** Asks for a spare until the returned function is called. `onSpareEvent` hears when there is one, and when it is gone. */
  hold(slot: string, onSpareEvent: SpareListener): () => void {
    const leave = this.#of(slot).hold(onSpareEvent)
    return () => {
      leave()
      this.forget(slot)
    }
  }

  /** Drops the account of a slot that has no program and no spare. */
  forget(slot: string): void {
    if (this.#slots.get(slot)?.isUnused) this.#slots.delete(slot)
  }

  /** `running`: the program that runs without an upgrade under way, or null. */
  onIdle(slot: string, log: SlotLog, running: Running | null): void {
    this.#of(slot).onIdle(log, running)
  }

  /** The spare, if it fits this launch. Null: there is none, and one that did not fit has ended. */
  take(order: LaunchOrder, needs: Needs): Promise<Child | null> {
    return this.#of(order.slot).take(order.predecessor, needs)
  }

  async close(): Promise<void> {
    await Promise.all([...this.#slots.values()].map((spare) => spare.take(null, {})))
  }

  #of(slot: string): Spare {
    const spare = this.#slots.get(slot) ?? new Spare(slot, this.#context)
    this.#slots.set(slot, spare)
    return spare
  }
}

class Spare {
  readonly #slot: string
  readonly #context: LaunchContext
  readonly #holders = new Set<SpareListener>()
  /** The program that runs without an upgrade under way. */
  #runs: { log: SlotLog; running: Running } | null = null
  /** The spare, and the program it was made for. */
  #made: { child: Child; after: Running; at: number } | null = null
  /** The program that gets no other spare: its spare was not used or ended, or there was too little memory. */
  #noMoreFor: Running | null = null
  #last: Promise<unknown> = Promise.resolve()
  #timer: NodeJS.Timeout | null = null

  constructor(slot: string, context: LaunchContext) {
    this.#slot = slot
    this.#context = context
  }

  get isUnused(): boolean {
    return this.#holders.size === 0 && this.#runs === null && this.#made === null
  }

  hold(onSpareEvent: SpareListener): () => void {
    this.#holders.add(onSpareEvent)
    if (this.#made !== null) onSpareEvent({ event: 'spare', ready: true })
    this.#update()
    return () => {
      this.#holders.delete(onSpareEvent)
      this.#update()
    }
  }

  onIdle(log: SlotLog, running: Running | null): void {
    this.#runs = running === null ? null : { log, running }
    this.#update()
  }

  /** A spare fits a launch when it was made for the running program, and the needs are the same; otherwise it is ended (HANDOVER 12.4). */
  async take(predecessor: ProgramInstance | null, needs: Needs): Promise<Child | null> {
    this.#runs = null
    await this.#last
    const made = this.#made
    this.#forget()
    if (made === null) return null
    const fits = made.after.child === predecessor && sameNeeds(made.after.runnable.manifest.needs, needs)
    if (fits && made.child.alive) return made.child
    if (await made.child.kill()) return null
    throw new Error(`the spare ${made.child.pid} was killed, and has not ended`)
  }

  /** Queues an update; it makes or ends a spare according to the state at that time. */
  #update(): void {
    this.#last = this.#last
      .then(() => this.#makeOrEnd())
      .catch((error: unknown) => {
        this.#noMoreFor = this.#runs?.running ?? null
        this.#runs?.log.add('runtime', `no spare: ${String(error)}`, 0, 'warn')
      })
  }

  async #makeOrEnd(): Promise<void> {
    const runs = this.#wanted()
    // A spare ends when no session asks for it, and with the program it was made for (HANDOVER 12.5).
    if (this.#made !== null && this.#made.after !== runs?.running) {
      await this.#discard(
        this.#holders.size === 0 ? 'no session asks for it' : 'its program has ended or is being replaced',
      )
    }
    if (runs === null || this.#made !== null || this.#noMoreFor === runs.running) return
    if (availableMb() < this.#context.memoryReserveMb) return this.#giveUp(runs.running, 'too little memory')
    this.#context.sandboxes.cgroups?.warm()
    const dir = await this.#context.dirs.make()
    // The slot may have changed while the folder was made.
    if (this.#wanted() !== runs) return dir.remove()
    const { log, running } = runs
    try {
      const about = { slot: this.#slot, log, predecessor: running.child }
      const child = startChild(this.#context, dir, about, Object.keys(running.runnable.manifest.needs))
      const made = { child, after: running, at: performance.now() }
      this.#made = made
      this.#timer = setInterval(() => this.#check(), CHECK_MS)
      this.#timer.unref()
      void child.waiting.then(() => this.#made === made && this.#tell({ event: 'spare', ready: true }))
      void child.exited.then(() => this.#made === made && this.#giveUp(running, 'it ended by itself'))
    } catch (error) {
      dir.remove()
      throw error
    }
  }

  #wanted(): { log: SlotLog; running: Running } | null {
    return this.#holders.size === 0 ? null : this.#runs
  }

  #check(): void {
    const made = this.#made
    if (made === null) return
    const unused = performance.now() - made.at > this.#context.timing.spareMs
    if (!unused && availableMb() >= this.#context.memoryReserveMb) return
    this.#noMoreFor = made.after
    this.#last = this.#last.then(async () => {
      if (this.#made === made) await this.#discard(unused ? 'not used' : 'too little memory')
    })
  }

  #giveUp(running: Running, reason: string): void {
    this.#noMoreFor = running
    this.#forget()
    this.#tell({ event: 'spare', ready: false, reason })
  }

  async #discard(reason: string): Promise<void> {
    const made = this.#made
    this.#forget()
    this.#tell({ event: 'spare', ready: false, reason })
    await made?.child.kill()
  }

  #forget(): void {
    this.#made = null
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }

  #tell(event: SpareEvent): void {
    for (const onSpareEvent of this.#holders) onSpareEvent(event)
  }
}

function sameNeeds(some: Needs, others: Needs): boolean {
  const list = (needs: Needs) => JSON.stringify(Object.entries(needs).sort())
  return list(some) === list(others)
}

/** proc_meminfo(5) */
function availableMb(): number {
  if (process.platform !== 'linux') return freemem() / 2 ** 20
  return Number(/^MemAvailable:\s*(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? 0) / 1024
}
