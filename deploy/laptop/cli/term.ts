/**
 * The terminal. Invariant: no other file of deploy/ prints; data goes to stdout and everything else to stderr; with `--json`
 * stdout is only NDJSON (test/deploy/laptop/cli/term.test.ts).
 */
import { DEFAULT_SLOT, type PhaseTime } from '../../shared/api.ts'
import { Refusal } from '../../shared/errors.ts'
import { aimed } from './aim.ts'
import { clean, cleanJson, cleanRow } from './clean.ts'
import { tableLines, wrap } from './layout.ts'

export interface Sink {
  write(text: string): unknown
  readonly isTTY?: boolean
  readonly columns?: number
  readonly rows?: number
}

export interface TermOptions {
  json: boolean
  stdout: Sink
  stderr: Sink
  env: Readonly<Record<string, string | undefined>>
}

/** Width if the terminal does not report one, and for output that is not a terminal. */
const WIDTH = 80

const STYLES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const
export type Style = keyof typeof STYLES
export type Paint = (style: Style, text: string) => string

export class Term {
  readonly json: boolean
  readonly #stdout: Sink
  readonly #stderr: Sink
  readonly #paintOut: Paint
  readonly #paintErr: Paint
  readonly #env: TermOptions['env']
  #pending = false
  /** The robot that hints must name, since a command without -d would not reach it. */
  #robot: string | null = null
  #slot: string | null = null

  constructor(options: TermOptions) {
    this.json = options.json
    this.#stdout = options.stdout
    this.#stderr = options.stderr
    this.#env = options.env
    this.#paintOut = painter(options.stdout, options.env)
    this.#paintErr = painter(options.stderr, options.env)
  }

  get width(): number {
    return Math.max(40, Math.min(this.#stdout.columns ?? 80, 100))
  }

  /** Whether a full-screen view can be drawn. */
  get hasScreen(): boolean {
    return !this.json && this.#stdout.isTTY === true && this.#env.TERM !== 'dumb'
  }

  /** Whether a person reads stderr. */
  get isRead(): boolean {
    return !this.json && this.#stderr.isTTY === true
  }

  /** Present size of the terminal. */
  get size(): { columns: number; rows: number } {
    const { columns, rows } = this.#stdout
    return { columns: columns || 80, rows: rows || 24 }
  }

  /** One line for people on stdout; silent with --json. */
  line(text = ''): void {
    if (this.json) return
    this.#clear()
    this.#stdout.write(`${wrapped(clean(text), this.#stdout)}\n`)
  }

  /** From now on, commands in hints name this robot; null: they name none. */
  aim(robot: string | null): void {
    this.#robot = robot
  }

  /** From now on, commands in hints name this slot, unless it is main, the default. */
  aimSlot(slot: string | undefined): void {
    this.#slot = named(slot)
  }

  /** Adds -d and --slot to the commands in a text where they are needed. */
  aimed(text: string, slot?: string): string {
    return aimed(text, this.#robot, slot === undefined ? this.#slot : named(slot))
  }

  /** Suggests next commands to a person at a terminal; prints nothing for scripts. */
  next(...commands: readonly string[]): void {
    if (this.json || this.#stdout.isTTY !== true || this.#stderr.isTTY !== true) return
    this.#clear()
    const [first = '', ...rest] = commands.map((command) => this.aimed(command))
    const lines = [`next: ${first}`, ...rest.map((command) => `      ${command}`)]
    for (const line of lines) this.#stderr.write(`${this.#paintErr('dim', wrapped(clean(line), this.#stderr))}\n`)
  }

  /** One object of NDJSON on stdout; silent without --json. */
  event(value: object): void {
    if (this.json) this.#stdout.write(`${cleanJson(JSON.stringify(value))}\n`)
  }

  /**
   * Writes text unchanged, also with --json: a card, a script, help, a screen. Not for text from robots or programs, which
   * may hold escapes.
   */
  raw(text: string): void {
    this.#clear()
    this.#stdout.write(text)
  }

  /** One line of information on stderr. */
  note(text: string): void {
    this.#clear()
    this.#stderr.write(`${wrapped(clean(text), this.#stderr)}\n`)
  }

  /** Prints a question on stderr; the returned function ends its line. */
  ask(question: string): () => void {
    this.#clear()
    this.#stderr.write(clean(question))
    return () => this.#stderr.write('\n')
  }

  /** The present step, on a line that the next output replaces; only on a terminal. */
  progress(text: string): void {
    if (this.#stderr.isTTY !== true || this.json) return
    this.#stderr.write(`\r\x1b[2K${this.#paintErr('dim', cleanRow(text))}`)
    this.#pending = true
  }

  /** Prints an error and its hint. `hasEvent`: with --json, an event for it was printed already. */
  failure(error: unknown, hasEvent = false): void {
    const { code, message, ...more } = describeFailure(error)
    const hint = more.hint === undefined ? undefined : this.aimed(more.hint)
    this.#clear()
    this.#stderr.write(`${wrapped(`${this.#paintErr('red', 'medulla: error:')} ${clean(message)}`, this.#stderr)}\n`)
    if (hint !== undefined) this.#hint(hint)
    if (!hasEvent) this.event({ event: 'error', error: { code, message, ...(hint === undefined ? {} : { hint }) } })
  }

  hint(text: string): void {
    this.#clear()
    this.#hint(this.aimed(text))
  }

  #hint(text: string): void {
    const line = `${this.#paintErr('cyan', 'medulla: hint:')} ${clean(text)}`
    this.#stderr.write(`${wrapped(line, this.#stderr)}\n`)
  }

  paint(style: Style, text: string): string {
    return this.#paintOut(style, text)
  }

  /** As paint(), for text on stderr. */
  paintNote(style: Style, text: string): string {
    return this.#paintErr(style, text)
  }

  table(head: readonly string[], rows: readonly (readonly string[])[]): void {
    if (this.json) return
    const { isTTY, columns } = this.#stdout
    const [first = '', ...rest] = tableLines(head, rows, isTTY === true ? columns || WIDTH : WIDTH)
    this.line(this.paint('dim', first))
    for (const line of rest) this.line(line)
  }

  /** Prints the phases of a swap and, last, the gap. `none` is the text for the gap when `gapMs` is null. */
  timeline(phases: readonly PhaseTime[], gapMs: number | null, none?: string): void {
    for (const line of timelineLines(phases, gapMs, this.width, none)) this.line(line)
  }

  #clear(): void {
    if (!this.#pending) return
    this.#pending = false
    this.#stderr.write('\r\x1b[2K')
  }
}

/** Wraps lines on a terminal only: other programs get whole lines. */
function wrapped(text: string, { isTTY, columns }: Sink): string {
  return isTTY === true ? wrap(text, columns || WIDTH).join('\n') : text
}

function painter(sink: Sink, env: TermOptions['env']): Paint {
  // no-color.org: set and not empty
  const plain = sink.isTTY !== true || (env.NO_COLOR ?? '') !== '' || env.TERM === 'dumb'
  return (style, text) => (plain ? text : `\x1b[${STYLES[style]}m${text}\x1b[0m`)
}

export function describeFailure(error: unknown): { code: string; message: string; hint?: string } {
  if (error instanceof Refusal) {
    return { code: error.code, message: error.message, ...(error.hint === undefined ? {} : { hint: error.hint }) }
  }
  const message = error instanceof Error ? error.message : String(error)
  return { code: 'internal', message, hint: 'run the command again with MEDULLA_DEBUG=1 to see where this comes from' }
}

const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'] as const

/** A bar of `cells` character cells, in steps of an eighth; the shortest bar is one eighth. */
function bar(cells: number): string {
  const eighths = cells > 0 ? Math.max(1, Math.round(cells * 8)) : 0
  return '█'.repeat(Math.floor(eighths / 8)) + (EIGHTHS[eighths % 8] ?? '')
}

export function formatMs(ms: number): string {
  const digits = ms < 1 ? 3 : ms < 10 ? 2 : ms < 100 ? 1 : 0
  return `${ms.toFixed(digits)} ms`
}

/** The slot, if a command has to name it; null for main, the default. */
const named = (slot: string | undefined): string | null =>
  slot === undefined || slot === DEFAULT_SLOT || slot === 'all' ? null : slot

/** Bars have one scale: together they are as long as the whole swap. */
export function timelineLines(
  phases: readonly PhaseTime[],
  gapMs: number | null,
  width: number,
  none = 'none: nothing was switched',
): string[] {
  const total = phases.reduce((sum, phase) => sum + phase.ms, 0)
  const room = Math.max(10, width - 24)
  const lines = phases.map(({ phase, ms }) => {
    const cells = total > 0 ? (ms / total) * room : 0
    return `  ${phase.padEnd(9)} ${formatMs(ms).padStart(9)}  ${bar(cells)}`.trimEnd()
  })
  lines.push(`  ${'total'.padEnd(9)} ${formatMs(total).padStart(9)}`)
  const gap = gapMs === null ? none : `${formatMs(gapMs)} in which no program could write`
  lines.push(`  ${'gap'.padEnd(9)} ${gapMs === null ? gap : gap.padStart(gap.length + 9 - formatMs(gapMs).length)}`)
  return lines
}

/** Ends the process once all output is written, also when sockets or timers are still open. */
export function finish(exit: number): void {
  process.stdout.write('', () => process.stderr.write('', () => process.exit(exit)))
}

/** A reader that has seen enough (`| head`) is not an error. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))
