/** Starts programs as processes: each in a folder of its own, with the handles that its signed manifest names. */
import { unfit } from '../../../deploy/shared/bundle/policy.ts'
import type { Refusal } from '../../../deploy/shared/errors.ts'
import { timeScale } from '../../../deploy/shared/timescale.ts'
import type { Timing } from '../../../drivers/board/types.ts'
import type { Grant } from '../../../drivers/program/handle.ts'
import { type FromProgram, WIRE } from '../../sdk/wire.ts'
import type { Builds } from '../../store/builds.ts'
import type { HardwareOwner } from '../hardware/owner.ts'
import type { Launcher, LaunchListener, LaunchOrder } from '../slot/context.ts'
import { farewells } from '../slot/deadlines.ts'
import type { SlotLog } from '../slot/log.ts'
import type { Runnable, Running } from '../slot/running.ts'
import type { SavedProgram } from '../slot/saved.ts'
import { Child } from './child.ts'
import { programOf, type RunDir, type RunDirs, runDirAt } from './rundir.ts'
import type { Sandboxes } from './sandboxes.ts'

/** At least three heartbeats in a trial, and three before the program counts as silent. */
export const heartbeatMs = ({ heartbeatMs, trialMs }: Timing): number =>
  Math.max(5, Math.min(heartbeatMs / 3, trialMs / 3))

/** What the launcher and the spares need of the body. */
export interface LaunchContext {
  readonly owner: HardwareOwner
  /** ms, already scaled */
  readonly timing: Timing
  readonly dirs: RunDirs
  readonly sandboxes: Sandboxes
  spawned(child: Child): void
  /** The config of this robot; `valuesOf` throws Refusal `missing-config`. */
  readonly config: { readonly names: ReadonlySet<string>; valuesOf(names: readonly string[]): Record<string, string> }
  /** With less memory available than this, in MB, no spare is kept. */
  readonly memoryReserveMb: number
  readonly builds: Pick<Builds, 'refusal'>
}

/** Starts a child that waits for its program: a spare, or an instance to be. Throws Refusal. */
export function startChild(
  context: LaunchContext,
  dir: RunDir,
  { slot, log, predecessor }: Pick<LaunchOrder, 'slot' | 'log' | 'predecessor'>,
  needs: readonly string[],
): Child {
  const handles = context.owner.take(needs, slot)
  const sandbox = (grants: readonly Grant[]) => context.sandboxes.make(slot, dir, grants)
  const child = Child.start({ dir, predecessor, handles, log }, sandbox)
  context.spawned(child)
  return child
}

/** The spares of all slots (spares.ts). */
interface Spares {
  /** Null when none fits this launch. */
  take(order: LaunchOrder, needs: Runnable['manifest']['needs']): Promise<Child | null>
  onIdle(slot: string, log: SlotLog, running: Running | null): void
}

interface Extractor {
  extract(digest: string, folder: string): Promise<unknown>
}

export interface ProcessLauncherOptions {
  readonly context: LaunchContext
  readonly spares: Spares
  /** Why no program may be started on this robot at present, or null. */
  refusal(): Refusal | null
  /** Something changed in the slot of this name: a handle for which another slot waits may be free. */
  changed(slot: string): void
}

export class ProcessLauncher implements Launcher {
  readonly #context: LaunchContext
  readonly #spares: Spares
  readonly #options: ProcessLauncherOptions

  constructor(options: ProcessLauncherOptions) {
    this.#options = options
    this.#context = options.context
    this.#spares = options.spares
  }

  admit(): void {
    const refusal = this.#options.refusal()
    if (refusal !== null) throw refusal
  }

  /** An installed program may not fit the present board, Node or runtime (HANDOVER 9.9). */
  unfit(slot: string, runnable: Runnable): Refusal | null {
    const { platform, manifest } = runnable
    const { owner, config, builds } = this.#context
    const here = { arch: process.arch, node: process.version, wire: WIRE }
    const facts = { ...here, handles: owner.kinds(), leased: owner.leasedByOthers(slot), slot, config: config.names }
    // The board file may ask for builders since the program was installed (BUNDLE 17.3).
    return this.#options.refusal() ?? unfit(platform, manifest, facts) ?? builds.refusal(runnable)
  }

  prepare(): void {
    this.#context.dirs.prepare()
  }

  onIdle(slot: string, log: SlotLog, running: Running | null): void {
    this.#spares.onIdle(slot, log, running)
    this.#options.changed(slot)
  }

  async launch(order: LaunchOrder, runnable: Runnable, on: LaunchListener): Promise<Running> {
    const refusal = this.unfit(order.slot, runnable)
    if (refusal !== null) throw refusal
    const { program, version, manifest } = runnable
    const { slot, generation, params } = order
    // Read once: a config value that is set from here on is used at the next start.
    const config = this.#context.config.valuesOf(manifest.config ?? [])
    const child = (await this.#spares.take(order, manifest.needs)) ?? (await this.#freshChild(order, manifest.needs))
    const { dir } = child.options
    const running: Running = { runnable, child, startedAt: performance.now() }
    try {
      // Node starts in parallel.
      await runnable.extract(programOf(dir))
    } catch (error) {
      await child.kill()
      throw error
    } finally {
      // extract() recreates the folder if the child died meanwhile.
      if (!child.alive) dir.remove()
    }
    const { timing } = this.#context
    child.begin(
      {
        ...{ slot, program, version, generation, params, config },
        heartbeatMs: heartbeatMs(timing),
        rehearsals: timing.rehearsals,
        brokerDeadlineMs: timing.heartbeatMs,
        ...farewells(timing, timeScale()),
      },
      { message: (message) => on.message(running, message), exit: () => on.exit(running) },
    )
    return running
  }

  /** Makes an instance of a process that the last runtime left running. */
  adopt({ child, runnable, ranMs }: SavedProgram, log: SlotLog, bundles: Extractor, on: LaunchListener): Running {
    const { owner, sandboxes } = this.#context
    const handles = Object.keys(runnable.manifest.needs).map((name) => owner.find(name))
    const options = { dir: runDirAt(child.folder), predecessor: null, handles, log }
    const listener = {
      message: (message: FromProgram) => on.message(running, message),
      exit: () => on.exit(running),
    }
    const { digest } = runnable
    const again = {
      stored: Promise.resolve(),
      extract: async (folder: string) => void (await bundles.extract(digest, folder)),
    }
    const adopted = Child.adopt(options, sandboxes.adopt(child.sandbox), child, listener)
    const running: Running = {
      runnable: { ...runnable, ...again },
      child: adopted,
      startedAt: performance.now() - ranMs,
    }
    this.#context.spawned(adopted)
    return running
  }

  async #freshChild(order: LaunchOrder, needs: Runnable['manifest']['needs']): Promise<Child> {
    this.#context.sandboxes.cgroups?.warm()
    const dir = await this.#context.dirs.make()
    try {
      return startChild(this.#context, dir, order, Object.keys(needs))
    } catch (error) {
      dir.remove()
      throw error
    }
  }
}
