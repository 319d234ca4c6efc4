/**
 * Invariant: a slot has at most one spare, and only while a program of it runs undisturbed and a session asks for one. A
 * spare is a child without a program, a lease or a fencing number (HANDOVER 12).
 */
import { readFileSync } from 'node:fs'
import { freemem } from 'node:os'
import type { SpareEvent } from '../../../deploy/shared/api.ts'
import type { Manifest } from '../../../deploy/shared/bundle/manifest.ts'
import type { Launch } from '../slot/env.ts'
import type { SlotLog } from '../slot/log.ts'
import type { ProgramInstance, Running } from '../slot/running.ts'
import type { Child } from './child.ts'
import { type LaunchContext, startChild } from './launcher.ts'

type Needs = Manifest['needs']
type SpareListener = (event: SpareEvent) => void

/** Between two looks at the memory, and at the age of a spare. */
const LOOK_MS = 1000

/** Of every slot. */
export class Spares {
  readonly #env: LaunchContext
  readonly #slots = new Map<string, Spare>()

  constructor(env: LaunchContext) {
    this.#env = env
  }

  /** Asks for a spare, until the answer is called; `told` whenever there is one, or none any more. */
  hold(slot: string, onSpareEvent: SpareListener): () => void {
    const leave = this.#of(slot).hold(onSpareEvent)
    return () => {
      leave()
      this.forget(slot)
    }
  }

  /** A slot without programs needs no account here. */
  forget(slot: string): void {
    if (this.#slots.get(slot)?.isUnused) this.#slots.delete(slot)
  }

  /** The slot has come to rest: `running` is what runs undisturbed, or null. */
  onIdle(slot: string, log: SlotLog, running: Running | null): void {
    this.#of(slot).onIdle(log, running)
  }

  /** The spare for this very launch; null when there is none that fits, and none left that does not. */
  take(about: Parameters<Launch>[0], needs: Needs): Promise<Child | null> {
    return this.#of(about.slot).take(about.predecessor, needs)
  }

  async close(): Promise<void> {
    await Promise.all([...this.#slots.values()].map((spare) => spare.take(null, {})))
  }

  #of(slot: string): Spare {
    const spare = this.#slots.get(slot) ?? new Spare(slot, this.#env)
    this.#slots.set(slot, spare)
    return spare
  }
}

class Spare {
  readonly #slot: string
  readonly #env: LaunchContext
  readonly #holders = new Set<SpareListener>()
  /** What runs undisturbed. */
  #runs: { log: SlotLog; running: Running } | null = null
  #made: { child: Child; after: Running; at: number } | null = null
  /** It had a spare, and gets no other one: it was not used, or there was no memory for it. */
  #served: Running | null = null
  #last: Promise<unknown> = Promise.resolve()
  #timer: NodeJS.Timeout | null = null

  constructor(slot: string, env: LaunchContext) {
    this.#slot = slot
    this.#env = env
  }

  get isUnused(): boolean {
    return this.#holders.size === 0 && this.#runs === null && this.#made === null
  }

  hold(onSpareEvent: SpareListener): () => void {
    this.#holders.add(onSpareEvent)
    if (this.#made !== null) onSpareEvent({ event: 'spare', ready: true })
    this.#renew()
    return () => {
      this.#holders.delete(onSpareEvent)
      this.#renew()
    }
  }

  onIdle(log: SlotLog, running: Running | null): void {
    this.#runs = running === null ? null : { log, running }
    this.#renew()
  }

  /** HANDOVER 12.4 */
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

  /** One change after the other, each towards what is wanted by then. */
  #renew(): void {
    this.#last = this.#last
      .then(() => this.#change())
      .catch((error: unknown) => {
        this.#served = this.#runs?.running ?? null
        this.#runs?.log.add('runtime', `no spare: ${String(error)}`, 0, 'warn')
      })
  }

  async #change(): Promise<void> {
    const runs = this.#wanted()
    // HANDOVER 12.5
    if (this.#made !== null && this.#made.after !== runs?.running) await this.#end('nobody needs it')
    if (runs === null || this.#made !== null || this.#served === runs.running) return
    if (availableMb() < this.#env.memoryReserveMb) return this.#serve(runs.running, 'too little memory')
    this.#env.sandboxes.cgroups?.warm()
    const dir = await this.#env.dirs.make()
    // that took a moment
    if (this.#wanted() !== runs) return dir.remove()
    const { log, running } = runs
    try {
      const about = { slot: this.#slot, log, predecessor: running.child }
      const child = startChild(this.#env, dir, about, Object.keys(running.runnable.manifest.needs))
      const made = { child, after: running, at: performance.now() }
      this.#made = made
      this.#timer = setInterval(() => this.#look(), LOOK_MS)
      this.#timer.unref()
      void child.waiting.then(() => this.#made === made && this.#tell({ event: 'spare', ready: true }))
      void child.exited.then(() => this.#made === made && this.#serve(running, 'it ended by itself'))
    } catch (error) {
      dir.remove()
      throw error
    }
  }

  #wanted(): { log: SlotLog; running: Running } | null {
    return this.#holders.size === 0 ? null : this.#runs
  }

  #look(): void {
    const made = this.#made
    if (made === null) return
    const unused = performance.now() - made.at > this.#env.timing.spareMs
    if (!unused && availableMb() >= this.#env.memoryReserveMb) return
    this.#served = made.after
    this.#last = this.#last.then(async () => {
      if (this.#made === made) await this.#end(unused ? 'not used' : 'too little memory')
    })
  }

  #serve(running: Running, reason: string): void {
    this.#served = running
    this.#forget()
    this.#tell({ event: 'spare', ready: false, reason })
  }

  async #end(reason: string): Promise<void> {
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
