/** Invariant: text that is painted takes the cells of the text that is seen. Every character here is one cell wide. */

// biome-ignore lint/suspicious/noControlCharactersInRegex: what Term paints with
const PAINT = /(\x1b\[\d*m)/

/** Cells that a text takes. */
export function cells(text: string): number {
  return text.split(PAINT).reduce((sum, part) => sum + (part.startsWith('\x1b[') ? 0 : [...part].length), 0)
}

export function padStart(text: string, width: number): string {
  return ' '.repeat(Math.max(0, width - cells(text))) + text
}

export function padEnd(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - cells(text)))
}

/** At most `width` cells, with `…` where something is left out; painting ends with it. */
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

/** Columns as wide as their widest cell; the last one is not padded. */
export function tableLines(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const all = [head, ...rows]
  const widths = head.map((_, column) => Math.max(...all.map((row) => cells(row[column] ?? ''))))
  return all.map((row) =>
    row
      .map((cell, column) => (column === head.length - 1 ? cell : padEnd(cell, widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  )
}
