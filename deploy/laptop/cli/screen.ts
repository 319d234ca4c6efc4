/**
 * Invariant: the terminal is as it was when a full-screen view ends, however it ends.
 *
 * Only lines that differ from those on the screen are written, in one piece (xterm's synchronized output, mode 2026, where
 * a terminal has it), so that nothing flickers and a slow line carries little.
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
/** The last is Ctrl-C, which raw mode hands over as a character. */
const QUIT = ['q', 'Q', '\x03']

/** Draws ten times a second until q, Ctrl-C, SIGTERM, or the end of `work`, whose failure is passed on. Other keys are `pressed`. */
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
  // also when something throws where nobody catches
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

/** What is on the screen, and the least that changes it. */
export class Painter {
  readonly #write: (text: string) => void
  #shown: readonly string[] = []
  #size: Size = { columns: 0, rows: 0 }

  constructor(write: (text: string) => void) {
    this.#write = write
  }

  /** Lines beyond the size are left out, and so is what goes beyond a line. */
  show(lines: readonly string[], { columns, rows }: Size): void {
    const fresh = this.#size.columns !== columns || this.#size.rows !== rows
    const next = lines.slice(0, rows).map((line) => crop(cleanRow(line), columns))
    let changes = fresh ? '\x1b[2J' : ''
    for (let at = 0; at < Math.max(next.length, fresh ? 0 : this.#shown.length); at++) {
      const line = next[at] ?? ''
      if (!fresh && line === this.#shown[at]) continue
      // a line that fills the row has no rest to be cleared
      changes += `\x1b[${at + 1};1H${line}${cells(line) < columns ? '\x1b[K' : ''}`
    }
    this.#shown = next
    this.#size = { columns, rows }
    if (changes !== '') this.#write(`\x1b[?2026h${changes}\x1b[?2026l`)
  }
}
