/** Draws a code frame: the line with a mistake, its neighbours, and a mark under the mistake. */

const AROUND = 2

/** Characters before the mark, where the beginning of the lines has no room. */
const BEFORE = 12

/**
 * `line` and `column` count from 1. The mark does not reach beyond the end of the line. Lines longer than `width` are shown
 * around the mark, since a line that is wrapped would stand between the mark and what it marks.
 */
export function codeFrame(
  text: string,
  { line, column, length }: { line: number; column: number; length: number },
  width = Number.POSITIVE_INFINITY,
): string[] {
  const lines = text.split(/\r?\n/)
  const first = Math.max(1, line - AROUND)
  const last = Math.min(lines.length, line + AROUND)
  const gutter = String(last).length
  const room = Math.max(2 * BEFORE, width - gutter - 5)
  const from = column - 1 + Math.min(length, BEFORE) < room ? 0 : column - 1 - BEFORE
  const part = (code: string): string => {
    const rest = from > 0 && code.length > from ? `…${code.slice(from + 1)}` : code.slice(from)
    return rest.length <= room ? rest : `${rest.slice(0, room - 1)}…`
  }
  const shown: string[] = []
  for (let at = first; at <= last; at++) {
    const code = (lines[at - 1] ?? '').replaceAll('\t', ' ')
    shown.push(`${at === line ? '>' : ' '} ${String(at).padStart(gutter)} | ${part(code)}`.trimEnd())
    if (at !== line) continue
    const marks = Math.max(1, Math.min(length, code.length - column + 1, room - (column - 1 - from)))
    shown.push(`  ${' '.repeat(gutter)} | ${' '.repeat(column - 1 - from)}${'^'.repeat(marks)}`)
  }
  return shown
}
