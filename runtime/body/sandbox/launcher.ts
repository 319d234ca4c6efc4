/** Starts an instance of a program in a folder of its own, with the handles that its signed manifest names. */
import { timeScale } from '../../../deploy/shared/timescale.ts'
import type { Timing } from '../../../drivers/board/types.ts'
import type { Grant } from '../../../drivers/program/handle.ts'
import { farewells } from '../slot/deadlines.ts'
import type { Launch, SlotEnv } from '../slot/env.ts'
import type { Running } from '../slot/running.ts'
import { Child } from './child.ts'
import { programOf, type RunDir, type RunDirs } from './rundir.ts'
import type { Sandboxes } from './sandboxes.ts'

/** At least three heartbeats in a trial, and three before the program counts as silent. */
export const heartbeatMs = ({ heartbeatMs, trialMs }: Timing): number =>
  Math.max(5, Math.min(heartbeatMs / 3, trialMs / 3))

/** What the launcher and the spares need of the body. */
export interface LaunchContext extends Pick<SlotEnv, 'owner' | 'timing'> {
  readonly dirs: RunDirs
  readonly sandboxes: Sandboxes
  spawned(child: Child): void
  /** Config values by name. Throws Refusal `missing-config`. */
  config(names: readonly string[]): Record<string, string>
  /** With less memory available than this, in MB, no spare is kept. */
  readonly memoryReserveMb: number
}

/** Starts a child that waits for its program: a spare, or an instance to be. Throws Refusal. */
export function startChild(
  env: LaunchContext,
  dir: RunDir,
  { slot, log, predecessor }: Pick<Parameters<Launch>[0], 'slot' | 'log' | 'predecessor'>,
  needs: readonly string[],
): Child {
  const handles = env.owner.take(needs, slot)
  const cell = (grants: readonly Grant[]) => env.sandboxes.make(slot, dir, grants)
  const child = new Child({ dir, cell, predecessor, handles, log })
  env.spawned(child)
  return child
}

/** Gives out a spare for a launch; null when none fits. */
interface SpareSource {
  take(about: Parameters<Launch>[0], needs: Running['runnable']['manifest']['needs']): Promise<Child | null>
}

export async function launch(
  env: LaunchContext,
  spares: SpareSource,
  ...[about, runnable, on]: Parameters<Launch>
): Promise<Running> {
  const { program, version, manifest } = runnable
  const { slot, generation, params } = about
  // Read once: a config value that is set from here on is used at the next start.
  const config = env.config(manifest.config ?? [])
  const child =
    (await spares.take(about, manifest.needs)) ?? (await freshChild(env, about, Object.keys(manifest.needs)))
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
  const { timing } = env
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

async function freshChild(env: LaunchContext, about: Parameters<Launch>[0], needs: readonly string[]): Promise<Child> {
  env.sandboxes.cgroups?.warm()
  const dir = await env.dirs.make()
  try {
    return startChild(env, dir, about, needs)
  } catch (error) {
    dir.remove()
    throw error
  }
}
