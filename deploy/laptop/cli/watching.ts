/**
 * The loop of `medulla watch`: build, push, wait for a save. One push runs at a time, and each save prints one line. Saves during
 * a push, during a hold, or while the robot does not answer are pushed afterwards (test/deploy/laptop/cli/watch.test.ts).
 */
import { relative } from 'node:path'
import type { LogLine, Phase } from '../../shared/api.ts'
import { Refusal } from '../../shared/errors.ts'
import type { App } from './app.ts'
import type { Delegation } from './delegation.ts'
import { exitForOutcome } from './exit.ts'
import { followLogs } from './followlogs.ts'
import { isLost, type Link } from './link.ts'
import { logLine } from './loglines.ts'
import type { Built, Workshop } from './program.ts'
import type { Saves } from './saves.ts'
import { followSwap, type Result } from './swap.ts'
import { formatMs } from './term.ts'
import { TypeCheck, type Types } from './typecheck.ts'

export interface WatchParts {
  app: App
  link: Link
  slot: string
  /** Folder of the program. */
  folder: string
  types: Types
  workshop: Workshop
  saves: Saves
  /** Null: the user's key signs each release. */
  delegation: Delegation | null
}

interface Save {
  /** paths relative to the working directory; empty: the first push */
  files: string[]
  buildMs: number
}

/**
 * Codes of refusals that pass: the running program holds, or the slot is busy. The push is tried again, less and less
 * often.
 */
const PASSING: readonly (string | undefined)[] = ['yield-timeout', 'in-progress']
/** How long a type check may take; a newer save stops it earlier. */
const TYPES_MS = 60_000
const AGAIN_MS = { first: 500, most: 5000 }

export class Watching {
  /** Phase of the push that is under way; null between pushes. */
  phase: Phase | null = null
  /** Name and version of the last program that this command pushed successfully. */
  runs: string | null = null
  readonly #parts: WatchParts
  readonly #signal: AbortSignal
  #following: Promise<void> | null = null
  #checking: TypeCheck | null = null

  constructor(parts: WatchParts, signal: AbortSignal) {
    this.#parts = parts
    this.#signal = signal
  }

  stop(): void {
    this.#checking?.stop()
  }

  /** Builds and pushes the program, and again after each save, for ever. */
  async run(): Promise<never> {
    const { saves, workshop } = this.#parts
    let paths: string[] = []
    for (;;) {
      const reported = await this.#save(paths)
      workshop.prepare()
      const next = await saves.next()
      paths = reported ? next : [...new Set([...paths, ...next])]
    }
  }

  /** Builds and pushes. False when a newer save replaced this one: nothing was reported, and the next line names both. */
  async #save(paths: readonly string[]): Promise<boolean> {
    const { app, workshop, saves } = this.#parts
    const files = paths.map((path) => this.#nameOf(path))
    const began = performance.now()
    const took = () => ({ files, buildMs: performance.now() - began })
    let built: Built
    try {
      built = await workshop.build()
      saves.follow(workshop.inputs())
      if (saves.pending) return false
      await this.#checkTypes()
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      saves.follow(workshop.inputs(), true)
      if (saves.pending) return false
      this.#refused(took(), error)
      return true
    }
    app.term.event({ event: 'built', ...built.built, bytes: built.bytes.length })
    return this.#push(took(), built)
  }

  /** Starts the type check beside the push. With `--types error`, waits for the check and throws its Refusal. */
  async #checkTypes(): Promise<void> {
    const { app, folder, types } = this.#parts
    this.#checking?.stop()
    this.#checking = types === 'off' ? null : TypeCheck.start(folder)
    if (types === 'error') await this.#checking?.refuse()
    else void this.#checking?.warn(app, TYPES_MS)
  }

  /** Pushes until the robot takes or refuses the program. False when a newer save came while it could not do either. */
  async #push(save: Save, built: Built): Promise<boolean> {
    const { saves } = this.#parts
    let printed = ''
    for (let pauseMs = AGAIN_MS.first; ; pauseMs = Math.min(AGAIN_MS.most, pauseMs * 2)) {
      const obstacle = await this.#attempt(save, built)
      if (obstacle === null) return true
      if (obstacle !== printed) this.#waits(save, obstacle)
      printed = obstacle
      if (await saves.within(pauseMs)) return false
    }
  }

  /** Null when the push has ended and its result was printed; otherwise the reason to try it again. */
  async #attempt(save: Save, { bytes, built }: Built): Promise<string | null> {
    const { app, link, slot } = this.#parts
    const sent = performance.now()
    let pushMs: number | null = null
    this.phase = 'receive'
    try {
      const result = await followSwap(app, link.client.push(slot, bytes), (phase) => {
        this.phase = phase
        if (phase === 'spawn') this.#follow()
        // the new program has taken over
        if (phase === 'trial') pushMs = performance.now() - sent
      })
      if (result === undefined) throw new Error('a push that is waited for has a result')
      if (PASSING.includes(result.code)) return result.message
      this.#ended(save, pushMs ?? performance.now() - sent, `${built.program} ${built.version}`, result)
      return null
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      if (PASSING.includes(error.code)) return error.message
      if (isLost(error)) {
        await link.back(error, this.#signal)
        return 'the robot answers again'
      }
      this.#refused(save, error)
      return null
    } finally {
      this.phase = null
    }
  }

  #waits({ files }: Save, reason: string): void {
    const { term } = this.#parts.app
    term.event({ event: 'waiting', files, reason })
    term.note(`${term.paintNote('bold', nameOf(files))}: waits, then pushes again: ${reason}`)
  }

  #ended({ files, buildMs }: Save, pushMs: number, name: string, result: Result): void {
    const { term } = this.#parts.app
    const { outcome, code, hint, receipt } = result
    const message = outcome === 'refused' ? `${result.message}; ${this.#stillRunning()}` : result.message
    const gapMs = receipt?.gapMs ?? null
    const good = exitForOutcome(outcome, code) === 0
    if (good) this.runs = name
    term.event({ event: 'save', files, buildMs, pushMs, gapMs, outcome, ...(code && { code }), message })
    const gap = gapMs === null ? '' : `, gap ${formatMs(gapMs)}`
    const what = term.paint('bold', nameOf(files))
    const times = `build ${formatMs(buildMs)}, push ${formatMs(pushMs)}${gap}`
    term.line(`${what}: ${times}, ${term.paint(good ? 'green' : 'red', outcome)}: ${message}`)
    if (!good && hint !== undefined) term.hint(hint)
  }

  /** Prints that the build or the robot refused the save: nothing of it was executed. */
  #refused({ files, buildMs }: Save, refusal: Refusal): void {
    const { term } = this.#parts.app
    const { code, message } = refusal
    // The next save delegates again: a robot that was started again knows no delegation.
    if (code === 'unknown-operator') this.#parts.delegation?.forget()
    term.event({ event: 'save', files, buildMs, outcome: 'refused', code, message })
    const why = code === 'build-failed' ? 'not built' : code
    term.line(`${term.paint('bold', nameOf(files))}: ${term.paint('red', why)}; ${this.#stillRunning()}`)
    term.failure(refusal, true)
  }

  /** The path relative to the working directory; for a program outside of it, relative to the program's folder. */
  #nameOf(path: string): string {
    const here = relative(process.cwd(), path)
    return here.startsWith('..') ? relative(this.#parts.folder, path) : here
  }

  #stillRunning(): string {
    const { link, slot } = this.#parts
    return this.runs === null ? `${link.robot.name}/${slot} is unchanged` : `${this.runs} keeps running`
  }

  /**
   * Follows the log and keeps a spare child. Starts with the first push that the robot takes: before, the slot may not
   * exist.
   */
  #follow(): void {
    const ended = () => {
      this.#following = null
    }
    this.#following ??= Promise.all([this.#log(), this.#spare()]).then(ended, ended)
  }

  async #spare(): Promise<void> {
    const { app, link, slot } = this.#parts
    while (!this.#signal.aborted) {
      try {
        for await (const event of link.client.spare(slot, this.#signal)) app.term.event(event)
        return
      } catch (error) {
        if (!isLost(error)) throw error
        await link.back(error, this.#signal)
      }
    }
  }

  async #log(): Promise<void> {
    const { app, link, slot } = this.#parts
    for await (const line of followLogs(link, slot, { lines: 0 }, this.#signal)) {
      if (!isRepeated(line)) logLine(app.term, line)
    }
  }
}

/** Lines of the runtime about a swap repeat its result, or the reason for waiting, which were printed already. */
const isRepeated = (line: LogLine): boolean =>
  line.stream === 'runtime' && (line.level === 'info' || PASSING.some((code) => line.text.startsWith(`${code}:`)))

const nameOf = (files: readonly string[]): string => (files.length === 0 ? 'start' : files.join(', '))
