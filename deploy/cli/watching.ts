/**
 * Invariant: a save is told by one line, and one push is under way at a time; what is saved meanwhile is pushed after it.
 * Whatever goes wrong, the robot runs on what it ran.
 */
import { relative } from 'node:path'
import type { LogLine, Phase } from '../api.ts'
import type { RobotClient } from '../client.ts'
import { Refusal } from '../errors.ts'
import type { App } from './app.ts'
import { exitForOutcome } from './exit.ts'
import { logLine } from './loglines.ts'
import type { Built, Workshop } from './program.ts'
import type { Saves } from './saves.ts'
import { followSwap, type Result } from './swap.ts'
import { formatMs } from './term.ts'

export interface WatchParts {
  app: App
  client: RobotClient
  robot: string
  slot: string
  workshop: Workshop
  saves: Saves
}

interface Save {
  /** relative to where the command was given; none: the start */
  files: string[]
  buildMs: number
}

export class Watching {
  /** The push that is under way, if one is, and how far it is. */
  phase: Phase | null = null
  /** What the robot runs, as far as it is known here. */
  runs: string | null = null
  readonly #parts: WatchParts
  readonly #signal: AbortSignal
  #following: Promise<void> | null = null

  constructor(parts: WatchParts, signal: AbortSignal) {
    this.#parts = parts
    this.#signal = signal
  }

  /** Builds and pushes what is there, then again after each save, for ever. */
  async run(): Promise<never> {
    const { saves, workshop } = this.#parts
    let paths: string[] = []
    for (;;) {
      const told = await this.#save(paths)
      workshop.prepare()
      const next = await saves.next()
      paths = told ? next : [...new Set([...paths, ...next])]
    }
  }

  /** False when there was a newer save before anything was sent. */
  async #save(paths: readonly string[]): Promise<boolean> {
    const { app, workshop, saves } = this.#parts
    const files = paths.map((path) => relative(process.cwd(), path))
    const began = performance.now()
    const took = () => ({ files, buildMs: performance.now() - began })
    let built: Built
    try {
      built = await workshop.build()
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      saves.follow(workshop.inputs(), true)
      if (saves.pending) return false
      this.#refused(took(), error)
      return true
    }
    saves.follow(workshop.inputs())
    if (saves.pending) return false
    app.term.event({ event: 'built', ...built.built, bytes: built.bytes.length })
    await this.#push(took(), built)
    return true
  }

  async #push(save: Save, { bytes, built }: Built): Promise<void> {
    const { app, client, slot } = this.#parts
    const sent = performance.now()
    let pushMs: number | null = null
    this.phase = 'receive'
    try {
      const result = await followSwap(app, client.push(slot, bytes), (phase) => {
        this.phase = phase
        if (phase === 'spawn') this.#follow()
        // the new program has taken over
        if (phase === 'trial') pushMs = performance.now() - sent
      })
      if (result === undefined) throw new Error('a push that is waited for has a result')
      this.#ended(save, pushMs ?? performance.now() - sent, `${built.program} ${built.version}`, result)
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      this.#refused(save, error)
    } finally {
      this.phase = null
    }
  }

  #ended({ files, buildMs }: Save, pushMs: number, name: string, result: Result): void {
    const { term } = this.#parts.app
    const { outcome, code, hint, receipt } = result
    const message = outcome === 'refused' ? `${result.message}; ${this.#still()}` : result.message
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

  /** Nothing of it was executed. */
  #refused({ files, buildMs }: Save, refusal: Refusal): void {
    const { term } = this.#parts.app
    const { code, message } = refusal
    term.event({ event: 'save', files, buildMs, outcome: 'refused', code, message })
    const why = code === 'build-failed' ? 'not built' : code
    term.line(`${term.paint('bold', nameOf(files))}: ${term.paint('red', why)}; ${this.#still()}`)
    term.failure(refusal, true)
  }

  #still(): string {
    const { robot, slot } = this.#parts
    return this.runs === null ? `${robot}/${slot} runs what it ran` : `${this.runs} runs on`
  }

  /** Log and spare, from the first push on that the robot took: before it there may be no such slot. */
  #follow(): void {
    const ended = () => {
      this.#following = null
    }
    // when the session is lost, the next push tells it
    this.#following ??= Promise.all([this.#log(), this.#spare()]).then(ended, ended)
  }

  async #spare(): Promise<void> {
    const { app, client, slot } = this.#parts
    for await (const event of client.spare(slot, this.#signal)) app.term.event(event)
  }

  async #log(): Promise<void> {
    const { app, client, slot } = this.#parts
    for await (const line of client.logs(slot, { lines: 0, follow: true, signal: this.#signal })) {
      if (!isTold(line)) logLine(app.term, line)
    }
  }
}

/** What the runtime notes of a swap is what its result says. */
const isTold = (line: LogLine): boolean => line.stream === 'runtime' && line.level === 'info'

const nameOf = (files: readonly string[]): string => (files.length === 0 ? 'start' : files.join(', '))
