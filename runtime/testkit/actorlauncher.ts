/** Starts programs as actors in simulated time, instead of processes; each has a folder of its own for its state. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Timing } from '../../drivers/board/types.ts'
import type { HardwareOwner } from '../body/hardware/owner.ts'
import { heartbeatMs } from '../body/sandbox/launcher.ts'
import type { RunDir } from '../body/sandbox/rundir.ts'
import type { Launcher, LaunchListener, LaunchOrder } from '../body/slot/context.ts'
import { farewells } from '../body/slot/deadlines.ts'
import type { Runnable, Running } from '../body/slot/running.ts'
import { Actor } from './actor.ts'
import type { Laptops } from './channels.ts'
import type { Loaded } from './load.ts'
import type { Time } from './time.ts'

/** A program as installed on the robot. */
export interface Installed extends Runnable {
  readonly loaded: Loaded
}

export interface ActorLauncherOptions {
  readonly time: Time
  readonly owner: HardwareOwner
  readonly laptops: Laptops
  readonly timing: Timing
  readonly rehearsals: number
  /** Config values of the robot, by name. */
  readonly config: Readonly<Record<string, string>>
}

export class ActorLauncher implements Launcher {
  /** The last uncaught error of a program. */
  thrown: unknown = null
  /** Number of folders made so far. */
  #made = 0
  readonly #options: ActorLauncherOptions
  readonly #actors = new Set<Actor>()
  readonly #folder = mkdtempSync(join(tmpdir(), 'medulla-simulate-'))

  constructor(options: ActorLauncherOptions) {
    this.#options = options
    leftovers.add(this.#folder)
  }

  /** Counts the launches. */
  get generation(): number {
    return this.#made
  }

  /** The newest program that is alive. */
  get newest(): Actor | null {
    return [...this.#actors].findLast((actor) => actor.alive) ?? null
  }

  /** The actor whose tick is due first. */
  get next(): Actor | null {
    let next: Actor | null = null
    let least = Number.POSITIVE_INFINITY
    for (const actor of this.#actors) {
      const { dueNs } = actor
      if (dueNs >= least) continue
      least = dueNs
      next = actor
    }
    return next
  }

  async launch(order: LaunchOrder, runnable: Runnable, on: LaunchListener): Promise<Running> {
    const { time, owner, laptops, timing, rehearsals, config } = this.#options
    const { program, version, loaded } = runnable as Installed
    const { slot, generation, predecessor, params } = order
    const actor = new Actor({
      time,
      dir: this.#runDir(),
      handles: owner.take(Object.keys(runnable.manifest.needs), slot),
      predecessor: predecessor as Actor | null,
      laptops,
      init: {
        slot,
        program,
        version,
        dataDir: this.#dataDir(),
        generation,
        heartbeatMs: heartbeatMs(timing),
        rehearsals,
        brokerDeadlineMs: timing.heartbeatMs,
        ...farewells(timing, 1),
        params,
        config,
      },
      onMessage: (message) => on.message(running, message),
      onExit: () => {
        this.#actors.delete(actor)
        on.exit(running)
      },
      onThrown: (error) => {
        this.thrown = error
      },
    })
    const running: Running = { runnable, child: actor, startedAt: performance.now() }
    this.#actors.add(actor)
    queueMicrotask(() => actor.start(loaded.declared))
    return running
  }

  // A simulated robot may always start what install() has accepted, and makes no folder ahead.
  admit(): void {}
  unfit(): null {
    return null
  }
  prepare(): void {}
  onIdle(): void {}

  endAll(): void {
    for (const actor of this.#actors) actor.end()
  }

  close(): void {
    rmSync(this.#folder, { recursive: true, force: true })
    leftovers.delete(this.#folder)
  }

  /** One data folder for the whole simulation. */
  #dataDir(): string {
    const path = join(this.#folder, 'data')
    mkdirSync(path, { recursive: true })
    return path
  }

  #runDir(): RunDir {
    const path = join(this.#folder, String(++this.#made))
    mkdirSync(path, { mode: 0o700 })
    const [outbox, inbox, fifo, scratch] = ['outbox', 'inbox', 'handover', 'scratch'].map((name) => {
      const file = join(path, name)
      writeFileSync(file, '', { mode: 0o600 })
      return file
    }) as [string, string, string, string]
    return { path, outbox, inbox, fifo, scratch, remove: () => rmSync(path, { recursive: true, force: true }) }
  }
}

/** Folders of simulations that were not stopped; removed when this process exits. */
const leftovers = new Set<string>()
process.on('exit', () => {
  for (const folder of leftovers) rmSync(folder, { recursive: true, force: true })
})
