/**
 * Full-screen views. Invariant: however a view ends, the terminal is then as it was before
 * (test/deploy/laptop/cli/screens.test.ts).
 *
 * A frame writes only the lines that changed, in one piece (xterm's synchronized output, mode 2026, if the terminal has it):
 * nothing flickers, and a slow connection has little to carry.
 */
import type { ReadStream } from 'node:tty'
import { cleanRow } from './clean.ts'
import { cells, crop } from './layout.ts'
import type { Term } from './term.ts'

export interface Size {
  columns: number
  rows: number
}

const FRAME_MS = 100
const ENTER = '\x1b[?1049h\x1b[?25l'
const LEAVE = '\x1b[?25h\x1b[?1049l'
/** \x03 is Ctrl-C: in raw mode it arrives as a character, not as a signal. */
const QUIT = ['q', 'Q', '\x03']

/**
 * Draws ten times a second until q, Ctrl-C, SIGTERM or the end of `work`. Throws what `work` throws. Other keys go to
 * `pressed`.
 */
export async function fullScreen(
  term: Term,
  draw: (size: Size) => readonly string[],
  work: (signal: AbortSignal) => Promise<void>,
  pressed: (key: string) => void = () => {},
): Promise<void> {
  const { stdin } = process
  const abort = new AbortController()
  const quit = (): void => abort.abort()
  const onKey = (keys: Buffer): void => {
    if (QUIT.some((key) => keys.includes(key))) return quit()
    for (const key of keys.toString()) pressed(key)
  }
  const painter = new Painter((text) => term.raw(text))
  const paint = (): void => painter.show(draw(term.size), term.size)
  let entered = true
  const leave = (): void => {
    if (!entered) return
    entered = false
    if (stdin.isTTY) stdin.setRawMode(false)
    stdin.removeListener('data', onKey).pause()
    term.raw(LEAVE)
  }
  // also after an uncaught exception
  process.once('exit', leave)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, quit)
  if (stdin.isTTY) (stdin as ReadStream).setRawMode(true)
  stdin.on('data', onKey)
  term.raw(ENTER)
  const timer = setInterval(paint, FRAME_MS)
  process.stdout.on('resize', paint)
  try {
    paint()
    await work(abort.signal)
  } finally {
    clearInterval(timer)
    process.stdout.removeListener('resize', paint)
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.removeListener(signal, quit)
    leave()
    process.removeListener('exit', leave)
  }
}

/** Remembers the lines on the screen, and writes only the changes. */
export class Painter {
  readonly #write: (text: string) => void
  #shown: readonly string[] = []
  #size: Size = { columns: 0, rows: 0 }

  constructor(write: (text: string) => void) {
    this.#write = write
  }

  /** Shows as many lines as fit, each cut to the width. */
  show(lines: readonly string[], { columns, rows }: Size): void {
    const fresh = this.#size.columns !== columns || this.#size.rows !== rows
    const next = lines.slice(0, rows).map((line) => crop(cleanRow(line), columns))
    let changes = fresh ? '\x1b[2J' : ''
    for (let at = 0; at < Math.max(next.length, fresh ? 0 : this.#shown.length); at++) {
      const line = next[at] ?? ''
      if (!fresh && line === this.#shown[at]) continue
      // after a line that fills the row, `clear to the end` would clear its last cell
      changes += `\x1b[${at + 1};1H${line}${cells(line) < columns ? '\x1b[K' : ''}`
    }
    this.#shown = next
    this.#size = { columns, rows }
    if (changes !== '') this.#write(`\x1b[?2026h${changes}\x1b[?2026l`)
  }
}
