/**
 * The place at which a program hangs (HANDOVER 4.11): Node prints the stack of JavaScript to stderr at SIGINT, from a thread of
 * its own, and a thread of the body maps it to the author's files.
 *
 * Invariant: what a program prints or ships makes the body read at most 10 lines of 400 characters and a map of 2 MiB, the map
 * in a thread that is ended after 5 s or at 64 MB (test/runtime/body/sandbox/hangplace.test.ts).
 */
import { closeSync, constants, openSync } from 'node:fs'
import { join } from 'node:path'
import { runtimeUrl } from '../../places.ts'
import { BoundedWorker } from '../../plumbing/boundedworker.ts'
import { programOf, type RunDir } from './rundir.ts'

/** Printed by TraceSigintWatchdog::HandleInterrupt of Node's src/node_watchdog.cc; the calls and an empty line follow. */
const HEADER = 'KEYBOARD_INTERRUPT: Script execution was interrupted by `SIGINT`'
/** Node prints no more calls. */
const MAX_CALLS = 10
const MAX_CALL = 400
/** ms, before MEDULLA_TIME_SCALE */
const MAPPED_MS = 5000

export interface HangJob {
  readonly stack: string
  /** Of the source map; null: there is none. */
  readonly fd: number | null
}

export interface HangPlace {
  /** `it hangs at program.ts:14:7` */
  readonly text: string
  /** The text, and below it the calls. */
  readonly stack: string
}

/** Takes the stack that Node prints out of the lines of stderr. */
export class HangTrace {
  /** Resolves when the stack is complete. */
  readonly complete: Promise<void>
  #complete = () => {}
  #state: 'not asked' | 'asked' | 'printing' | 'complete' = 'not asked'
  readonly #calls: string[] = []

  constructor() {
    this.complete = new Promise((resolve) => {
      this.#complete = resolve
    })
  }

  get isAsked(): boolean {
    return this.#state !== 'not asked'
  }

  get isComplete(): boolean {
    return this.#state === 'complete'
  }

  /** The calls so far; empty when no JavaScript ran. */
  get stack(): string {
    return this.#calls.join('\n')
  }

  /** From now on the next stack in stderr is that of this trace. A program may print one of its own. */
  ask(): void {
    this.#state = 'asked'
  }

  /** True: the line belongs to the stack. */
  take(line: string): boolean {
    if (this.#state === 'asked' && line === HEADER) {
      this.#state = 'printing'
      return true
    }
    if (this.#state !== 'printing') return false
    if (line.startsWith('    at ') && this.#calls.length < MAX_CALLS) {
      this.#calls.push(line.slice(0, MAX_CALL))
      return true
    }
    this.#state = 'complete'
    this.#complete()
    return line === ''
  }
}

/** A descriptor of the source map of the program in this folder; null when there is none. */
export function openMap(dir: RunDir): number | null {
  try {
    // O_NONBLOCK: without confinement a program can put a FIFO in the place of the map.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
    return openSync(join(programOf(dir), 'program.mjs.map'), flags)
  } catch {
    return null
  }
}

/** Maps a stack in a thread of its own. Null: no call is in the author's files, or the thread did not answer in time. Closes `fd`. */
export async function hangPlace(
  { stack, fd }: HangJob,
  timeScale: number,
  script = runtimeUrl('body/sandbox/hangworker.js'),
): Promise<HangPlace | null> {
  const worker =
    stack === ''
      ? null
      : new BoundedWorker<{ text: unknown; stack?: unknown }>({
          script,
          name: 'place of a hang',
          limits: { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 16 },
          deadlineMs: MAPPED_MS * timeScale,
          failed: ({ why }) => new Error(`the stack was not mapped: ${why}`),
        })
  try {
    const job: HangJob = { stack, fd }
    const answer = await worker?.run(job, (message) => message)
    if (typeof answer?.text !== 'string' || typeof answer.stack !== 'string') return null
    return { text: answer.text, stack: answer.stack }
  } catch {
    // The program is ended without a place.
    return null
  } finally {
    await worker?.close()
    if (fd !== null) closeSync(fd)
  }
}
