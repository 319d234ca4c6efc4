/** What a bench prints: rows on stdout (NDJSON, or one table at the end), everything else on stderr. */
import type { Row } from './stats.ts'

export class Report {
  readonly #json: boolean
  readonly #rows: Row[] = []
  readonly #interactive = process.stderr.isTTY === true
  #last = -Infinity

  constructor(json: boolean) {
    this.#json = json
  }

  /** One line that is written over on a terminal, and a line every five seconds elsewhere. */
  progress(text: string): void {
    const now = performance.now()
    if (now - this.#last < (this.#interactive ? 100 : 5_000)) return
    this.#last = now
    process.stderr.write(this.#interactive ? `\r\x1b[K${text}` : `${text}\n`)
  }

  say(text: string): void {
    process.stderr.write(`${this.#interactive ? '\r\x1b[K' : ''}${text}\n`)
  }

  row(row: Row): void {
    this.#rows.push(row)
    if (this.#json) process.stdout.write(`${JSON.stringify(row)}\n`)
  }

  end(): void {
    if (!this.#json) process.stdout.write(`${table(this.#rows)}\n`)
    for (const { bench, variant, goal, met, p50, p99, unit } of this.#rows) {
      if (met === undefined) continue
      const limits = goal === undefined ? [] : Object.entries(goal).map(([key, limit]) => `${key} <= ${limit} ${unit}`)
      const wanted = limits.length === 0 ? '' : ` (${limits.join(', ')})`
      this.say(`${met ? 'met   ' : 'missed'} ${bench} ${variant}: p50 ${p50}, p99 ${p99} ${unit}${wanted}`)
    }
  }
}

const HEAD = ['bench', 'variant', 'n', 'p50', 'p99', 'max', 'unit', '']

export function table(rows: readonly Row[]): string {
  const cells = rows.map((row) => {
    const remarks = [row.met === undefined ? '' : row.met ? 'met' : 'missed', row.note ?? '']
    if (row.failed !== undefined) remarks.unshift(`${row.failed} FAILED`)
    const numbers = [row.n, row.p50, row.p99, row.max].map(String)
    return [row.bench, row.variant, ...numbers, row.unit, remarks.filter(Boolean).join('; ')]
  })
  const widths = HEAD.map((title, i) => Math.max(title.length, ...cells.map((line) => (line[i] ?? '').length)))
  const pad = (cell: string, i: number) =>
    i >= 2 && i <= 5 ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)
  return [HEAD, ...cells].map((line) => line.map(pad).join('  ').trimEnd()).join('\n')
}
