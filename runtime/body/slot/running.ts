/** The types of a program that can be started, of an instance of it, and of both together. */
import type { Manifest } from '../../../deploy/shared/bundle/manifest.ts'
import type { Release } from '../../../deploy/shared/bundle/release.ts'
import type { RefusalCode } from '../../../deploy/shared/errors.ts'
import type { Entered, ToProgram } from '../../sdk/wire.ts'
import type { RunDir } from '../sandbox/rundir.ts'
import type { SavedChild } from '../sandbox/savedchild.ts'
import type { Cause } from './cause.ts'

/** A verified program that can be started. */
export interface Runnable {
  digest: string
  program: string
  version: string
  signer: string
  counter: number
  /** The processor and the Node version it was built for. */
  platform: Pick<Release, 'arch' | 'node'>
  /** The tree hash of its files. */
  h1: string
  manifest: Manifest
  /** Of a release from disk: what its checks have taken so far, in ms. */
  readonly check?: { ms: number }
  /** The release that was to be started instead, and was changed on disk. */
  readonly instead?: { readonly digest: string; readonly code: RefusalCode; readonly reason: string }
  /** Resolves when the release is on disk. */
  readonly stored: Promise<unknown>
  /** Writes program.mjs and its assets into the instance's folder; a release from disk is verified again. */
  extract(folder: string): Promise<void>
}

/** An instance of a program: a process (child.ts), or a simulated one (testkit). */
export interface ProgramInstance {
  readonly options: { readonly dir: RunDir }
  readonly pid: number
  readonly freezeMs: number
  /** The highest fencing number that it may use. */
  fence: number
  /** What the program said before it died, or why the body ended it. */
  readonly fatal: Cause | null
  /** How far the first rehearsal has come. */
  readonly entered?: Entered | null
  /** How a process ended: `exit code 0`, `SIGKILL`. */
  readonly ending?: string | null
  send(message: ToProgram): void
  /** A new connection for a message channel, as a descriptor. Throws Refusal. Absent: a simulated program. */
  connect?(): number
  /** True when it was seen that nothing of the instance can run; valid until `thaw`. */
  freeze(): Promise<boolean>
  thaw(): void
  /**
   * To be called before the kill. With `mayRun`, an instance whose writes are all checked by the body may run for at most
   * 250 ms to print its stack.
   */
  captureHang?(mayRun: boolean): Promise<void>
  /** After `captureHang`: where it hangs; null: unknown. */
  hangPlace?(): Promise<{ readonly text: string; readonly stack: string } | null>
  /** Gives the instance the priority of a program that drives the hardware (HANDOVER 4.10). */
  raisePriority(): void
  /** SIGKILL; true when the end was seen in time. */
  kill(deadlineMs?: number): Promise<boolean>
  /** For the runtime that goes on with it; null while something that was sent to it is not written. Absent: not possible. */
  save?(): SavedChild | null
  /** Whether the process is still in the control group in which it was started (HANDLES 6.8). */
  contained(): boolean
}

/** An instance with its program. */
export interface Running {
  readonly child: ProgramInstance
  readonly runnable: Runnable
  /** performance.now() when it became the running program. */
  startedAt: number
}
