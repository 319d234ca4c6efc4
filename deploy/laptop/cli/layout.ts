/** Pads, crops and wraps text that may have colour sequences, which take no cells. Every other character counts as one cell. */

// biome-ignore lint/suspicious/noControlCharactersInRegex: the escape sequences of Term.paint()
const PAINT = /(\x1b\[\d*m)/

/** Width of a text in cells. */
export function cells(text: string): number {
  return text.split(PAINT).reduce((sum, part) => sum + (part.startsWith('\x1b[') ? 0 : [...part].length), 0)
}

export function padStart(text: string, width: number): string {
  return ' '.repeat(Math.max(0, width - cells(text))) + text
}

export function padEnd(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - cells(text)))
}

/** Cuts a text to `width` cells, with `…` at the cut; colours end there. */
export function crop(text: string, width: number): string {
  if (cells(text) <= width) return text
  if (width <= 0) return ''
  let kept = ''
  let room = width - 1
  for (const part of text.split(PAINT)) {
    if (part.startsWith('\x1b[')) {
      kept += part
      continue
    }
    const characters = [...part]
    kept += characters.slice(0, room).join('')
    room -= characters.length
    if (room < 0) break
  }
  return `${kept}…${kept.includes('\x1b[') ? '\x1b[0m' : ''}`
}

/**
 * Columns as wide as their widest cell. The last column is not padded; if a row is wider than `width`, its last cell goes
 * below it.
 */
export function tableLines(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  width = Number.POSITIVE_INFINITY,
): string[] {
  const all = [head, ...rows]
  const widths = head.map((_, column) => Math.max(...all.map((row) => cells(row[column] ?? ''))))
  const last = head.length - 1
  const below = ' '.repeat(Math.min(widths[0] ?? 0, 4) + 2)
  return all.flatMap((row) => {
    const line = row.map((cell, column) => (column === last ? cell : padEnd(cell, widths[column] ?? 0)))
    const whole = line.join('  ').trimEnd()
    if (cells(whole) <= width) return [whole]
    const under = wrap(row[last] ?? '', width - below.length, '')
    const first = wrap(line.slice(0, last).join('  ').trimEnd(), width, below)
    return [...first, ...under.map((text) => `${below}${text}`)]
  })
}

/**
 * Breaks text between words into lines of at most `width` cells. Lines after the first start with the same indentation and
 * `hang`.
 */
export function wrap(text: string, width: number, hang = '  '): string[] {
  return text.split('\n').flatMap((line) => {
    if (cells(line) <= width) return [line]
    const indent = /^ */.exec(line)?.[0] ?? ''
    const lines: string[] = []
    let current = ''
    for (const word of line.match(/\s*\S+/g) ?? []) {
      if (current.trim() === '' || cells(current) + cells(word) <= width) current += word
      else {
        lines.push(current)
        current = indent + hang + word.trimStart()
      }
    }
    return [...lines, current]
  })
}
