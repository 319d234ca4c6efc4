/** Starts an instance of a program in a folder of its own, with the handles that its signed manifest names. */
import type { Timing } from '../../drivers/board.ts'
import type { Cells } from './cells.ts'
import { Child } from './child.ts'
import type { Launch, SlotEnv } from './env.ts'
import type { RunDirs } from './rundir.ts'
import type { Running } from './upgrade.ts'

/** At least three in a trial, and three before silence is too long. */
export const heartbeatMs = ({ heartbeatMs, trialMs }: Timing): number =>
  Math.max(5, Math.min(heartbeatMs / 3, trialMs / 3))

/** What an instance is started with. */
export interface Ground extends Pick<SlotEnv, 'owner' | 'timing'> {
  readonly dirs: RunDirs
  readonly cells: Cells
  spawned(child: Child): void
}

export async function launch(env: Ground, ...[about, runnable, on]: Parameters<Launch>): Promise<Running> {
  env.cells.cgroups?.warm()
  const dir = await env.dirs.make()
  try {
    await runnable.extract(`${dir.path}/program`)
    const handles = env.owner.take(Object.keys(runnable.manifest.needs), about.slot)
    const child = new Child({
      ...about,
      program: runnable.program,
      version: runnable.version,
      dir,
      cell: (grants) => env.cells.make(about.slot, dir, grants),
      handles,
      heartbeatMs: heartbeatMs(env.timing),
      rehearsals: env.timing.rehearsals,
      brokerDeadlineMs: env.timing.heartbeatMs,
      onMessage: (message) => on.message(running, message),
      onExit: () => {
        dir.remove()
        on.exit(running)
      },
    })
    env.spawned(child)
    const running: Running = { runnable, child, startedAt: performance.now() }
    return running
  } catch (error) {
    dir.remove()
    throw error
  }
}
