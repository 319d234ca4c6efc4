/** Draws a code frame: the line with a mistake, its neighbours, and a mark under the mistake. */

const AROUND = 2

/** `line` and `column` count from 1. The mark does not reach beyond the end of the line. */
export function codeFrame(
  text: string,
  { line, column, length }: { line: number; column: number; length: number },
): string[] {
  const lines = text.split(/\r?\n/)
  const first = Math.max(1, line - AROUND)
  const last = Math.min(lines.length, line + AROUND)
  const gutter = String(last).length
  const shown: string[] = []
  for (let at = first; at <= last; at++) {
    const code = (lines[at - 1] ?? '').replaceAll('\t', ' ')
    shown.push(`${at === line ? '>' : ' '} ${String(at).padStart(gutter)} | ${code}`.trimEnd())
    if (at !== line) continue
    const marks = Math.max(1, Math.min(length, code.length - column + 1))
    shown.push(`  ${' '.repeat(gutter)} | ${' '.repeat(column - 1)}${'^'.repeat(marks)}`)
  }
  return shown
}
