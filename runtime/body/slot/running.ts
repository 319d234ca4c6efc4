/** A program that can be started, an instance of it, and both together. */
import type { Manifest } from '../../../deploy/shared/bundle/manifest.ts'
import type { Release } from '../../../deploy/shared/bundle/release.ts'
import type { Entered, ToProgram } from '../../sdk/wire.ts'
import type { RunDir } from '../sandbox/rundir.ts'
import type { Cause } from './cause.ts'

/** A verified program that can be started. */
export interface Runnable {
  digest: string
  program: string
  version: string
  signer: string
  counter: number
  /** What it was built for. */
  platform: Pick<Release, 'arch' | 'node'>
  manifest: Manifest
  /** It is on disk. */
  readonly stored: Promise<unknown>
  /** Writes program.mjs into the folder of the instance that is there for it, verified again where it comes from disk. */
  extract(folder: string): Promise<void>
}

/** An instance of a program as its slot knows it: a process (child.ts), or one that is simulated. */
export interface ProgramInstance {
  readonly options: { readonly dir: RunDir }
  readonly pid: number
  readonly freezeMs: number
  /** Highest fencing number it may use. */
  fence: number
  /** What it said before it died, or what the body ended it for. */
  readonly fatal: Cause | null
  /** How far its first rehearsal has come. */
  readonly entered?: Entered | null
  /** How a process ended: `exit code 0`, `SIGKILL`. */
  readonly ending?: string | null
  send(message: ToProgram): void
  /** True when nothing of it can run, until `thaw`. */
  freeze(): Promise<boolean>
  thaw(): void
  /** To the priority of a program that holds the hardware (HANDOVER 4.10). */
  raise?(): void
  /** True when its end was seen in time. */
  kill(deadlineMs?: number): Promise<boolean>
  /** HANDLES 6.8: whether it is still in the cell it was started in. */
  contained(): boolean
}

/** An instance and what it runs. */
export interface Running {
  readonly child: ProgramInstance
  readonly runnable: Runnable
  /** performance.now() when it became the one that runs */
  startedAt: number
}
