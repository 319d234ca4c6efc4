/** The last screen of a recorded terminal as a picture. It knows the control sequences that the command line writes, and no others. */
import { box, element, escaped, line, picture, text } from './svg.ts'

interface Cell {
  character: string
  style: string
}

const COLUMNS = 80
const CELL = { width: 8.4, height: 18 }
const INSET = { left: 18, top: 54, bottom: 18 }
const STYLES: Readonly<Record<string, string>> = { 1: 'b', 2: 'd', 31: 'r', 32: 'g', 33: 'y', 36: 'c' }
const STYLE = `text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",monospace;fill:#e6edf3;white-space:pre}
.b{font-weight:700;fill:#fff}.d{fill:#9198a1}.r{fill:#ff7b72}.g{fill:#56d364}.y{fill:#e3b341}.c{fill:#56d4dd}.name{fill:#9198a1;text-anchor:middle}`

/** Blocks of a bar, by how many eighths of a cell they fill. */
const EIGHTHS = ' ▏▎▍▌▋▊▉█'

export function drawTerminal(bytes: string, name: string): string {
  const rows = screen(bytes)
  const width = Math.ceil(COLUMNS * CELL.width + 2 * INSET.left)
  const height = INSET.top + rows.length * CELL.height + INSET.bottom
  const desc = `A terminal of ${COLUMNS} columns: ${rows.map((row) => plain(row)).join('\n')}`
  return picture({ width, height }, { title: name, desc, style: STYLE }, [
    box(0.5, 0.5, width - 1, height - 1, { rx: 8, fill: '#0d1117', stroke: '#3d444d' }),
    line(0, 34.5, width, 34.5, { stroke: '#3d444d' }),
    ...['#ff5f57', '#febc2e', '#28c840'].map((fill, i) => element('circle', { cx: 20 + i * 20, cy: 17.5, r: 6, fill })),
    text(width / 2, 22, { class: 'name' }, name),
    ...rows.flatMap((row, i) => drawRow(row, INSET.top + i * CELL.height)),
  ])
}

function screen(bytes: string): Cell[][] {
  const rows: Cell[][] = [[]]
  let [column, style] = [0, '']
  const [begin = '', ...sequences] = bytes.split('\x1b[')
  for (const [i, sequence] of [`m${begin}`, ...sequences].entries()) {
    const [, code = '', letter, rest = ''] = /^([\d;?]*)([a-zA-Z])(.*)$/s.exec(sequence) ?? []
    if (letter === 'm') style = STYLES[code] ?? ''
    else if (letter === 'K' && code === '2') rows.at(-1)?.splice(0)
    else throw new Error(`control sequence ${i} of the terminal is not known: ${JSON.stringify(sequence)}`)
    for (const character of rest) {
      const row = rows.at(-1) ?? []
      if (character === '\n') rows.push([])
      if (character === '\n' || character === '\r') column = 0
      else {
        if (column >= COLUMNS) throw new Error(`a line of more than ${COLUMNS} columns: ${plain(row)}`)
        while (row.length < column) row.push({ character: ' ', style: '' })
        row[column++] = { character, style }
      }
    }
  }
  while (rows.length > 0 && plain(rows.at(-1) ?? []).trim() === '') rows.pop()
  return rows
}

const plain = (row: readonly Cell[]): string => row.map(({ character }) => character).join('')

/** Words have a place of their own, so that columns are straight in any font; bars are drawn. */
function drawRow(row: readonly Cell[], top: number): string[] {
  const parts: { column: number; style: string; words: string }[] = []
  let bar: { column: number; eighths: number } | null = null
  row.forEach(({ character, style }, column) => {
    const eighths = EIGHTHS.indexOf(character)
    if (eighths > 0) {
      bar ??= { column, eighths: 0 }
      bar.eighths += eighths
      return
    }
    const last = parts.at(-1)
    const follows = last !== undefined && last.column + last.words.length === column && last.style === style
    if (follows && !last.words.endsWith('  ')) last.words += character
    else if (follows && character === ' ') last.words += character
    else parts.push({ column, style, words: character })
  })
  const x = (column: number) => INSET.left + column * CELL.width
  const spans = parts
    .filter(({ words }) => words.trim() !== '')
    .map(({ column, style, words }) => {
      const skipped = words.length - words.trimStart().length
      const at = { x: x(column + skipped), ...(style === '' ? {} : { class: style }) }
      return element('tspan', at, escaped(words.trim()))
    })
  const { column, eighths } = (bar ?? { column: 0, eighths: 0 }) as { column: number; eighths: number }
  return [
    ...(spans.length === 0 ? [] : [element('text', { y: top + 13 }, ...spans)]),
    ...(eighths === 0 ? [] : [box(x(column), top + 3, (eighths / 8) * CELL.width, 11, { fill: '#e6edf3', rx: 1 })]),
  ]
}
