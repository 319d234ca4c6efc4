/** Draws the 40-pin header as text lines. A pure function of the board, the values and the width. */
import type { BoardEntry, BoardReport, HeaderPin } from '../../shared/board.ts'
import { cells, crop, padEnd, padStart, tableLines } from './layout.ts'
import { valueText } from './statusview.ts'
import type { Paint, Style } from './term.ts'

/** Cells of `11 ● ● 12` with a space on either side. */
const MIDDLE = 11
const LABEL = 6
const FUNCTION = 9
/** Widths of the columns of one side when all are shown. */
const FULL = { name: 22, detail: 18, functions: 24 }
/** If the column of names would be narrower than this, functions are left out. */
const LEAST_NAME = 8

export interface HeaderScene {
  board: BoardReport
  /** Present values by name; empty without a robot. */
  values: (name: string) => number | undefined
}

interface Columns {
  name: number
  /** 0: not shown */
  functions: number
  detail: number
}

/**
 * The header, and a table of the handles that are not on one GPIO line; a single line instead of the table if `rows` are
 * too few.
 */
export function headerLines(
  { board, values }: HeaderScene,
  width: number,
  paint: Paint,
  rows = Number.POSITIVE_INFINITY,
): string[] {
  const columns = columnsFor(Math.floor((width - MIDDLE) / 2))
  const at = new Map<number, BoardEntry[]>()
  for (const entry of board.handles) {
    for (const pin of entry.pins) at.set(pin, [...(at.get(pin) ?? []), entry])
  }
  const lines: string[] = []
  for (let index = 0; index < board.header.length; index += 2) {
    const [left, right] = [board.header[index], board.header[index + 1]]
    if (left === undefined || right === undefined) break
    const side = (pin: HeaderPin): string[] => sideOf(pin, at.get(pin.pin) ?? [], values, columns, paint)
    const dots = `${padStart(String(left.pin), 2)} ${dot(left, at, paint)} ${dot(right, at, paint)} ${padEnd(String(right.pin), 2)}`
    const [outer, inner] = [side(left).toReversed().join('  '), side(right).join('  ')]
    lines.push(`${padStart(outer, sideWidth(columns))} ${dots} ${inner}`.trimEnd())
  }
  const others = board.handles.filter(({ place, pins }) => !(place.startsWith('GPIO') && pins.length === 1))
  const table = otherHandles(others, board, values)
  if (lines.length + table.length <= rows) return [...lines, ...table]
  return [...lines, crop(`also: ${others.map(({ name, place }) => `${name} ${place}`).join(', ')}`, width)]
}

function columnsFor(side: number): Columns {
  const bare = side - LABEL - 2
  if (bare - FUNCTION - 2 < LEAST_NAME) return { name: Math.max(0, bare), functions: 0, detail: 0 }
  const narrow = { name: bare - FUNCTION - 2, functions: FUNCTION, detail: 0 }
  if (narrow.name < FULL.name + 2 + FULL.detail) return { ...narrow, name: Math.min(narrow.name, FULL.name) }
  const functions = Math.min(FULL.functions, bare - FULL.name - FULL.detail - 6)
  return { name: FULL.name, functions: Math.max(FUNCTION, functions), detail: FULL.detail }
}

function sideWidth({ name, functions, detail }: Columns): number {
  return LABEL + [name, functions, detail].reduce((sum, width) => sum + (width > 0 ? width + 2 : 0), 0)
}

/** The cells of one pin, from the middle outwards: label, functions, handle with its value, kind with its safe level. */
function sideOf(
  pin: HeaderPin,
  entries: readonly BoardEntry[],
  values: HeaderScene['values'],
  columns: Columns,
  paint: Paint,
): string[] {
  const odd = pin.pin % 2 === 1
  const pad = odd ? padStart : padEnd
  const roles = columns.functions > FUNCTION ? pin.functions.join(' ') : (pin.functions[0] ?? '')
  const [entry] = entries
  const value = entries.length === 1 && entry !== undefined ? valueText(values(entry.name)) : ''
  const room = columns.name - (value === '' ? 0 : value.length + 1)
  const names = crop(entries.map(({ name }) => name).join(', '), room)
  const shown =
    names === '' ? '' : [paint('bold', names), paint('cyan', value)].filter((part) => cells(part) > 0).join(' ')
  const safe = entry?.safe === undefined ? '' : `, safe ${valueTextOf(entry.safe)}`
  return [
    pad(paint(colorOf(pin, entries), pin.label), LABEL),
    ...(columns.functions > 0 ? [pad(paint('dim', crop(roles, columns.functions)), columns.functions)] : []),
    ...(columns.name > 0 ? [pad(shown, columns.name)] : []),
    ...(columns.detail > 0 ? [pad(entry === undefined ? '' : `${entry.kind}${safe}`, columns.detail)] : []),
  ]
}

function valueTextOf(safe: number | string): string {
  return typeof safe === 'number' ? valueText(safe) : safe
}

function colorOf({ label }: HeaderPin, entries: readonly BoardEntry[]): Style {
  if (label === '5V') return 'red'
  if (label === '3V3') return 'yellow'
  if (label === 'GND') return 'dim'
  return entries.length > 0 ? 'green' : 'bold'
}

/** Power, ground, a line in use, a free line: four signs, so that they differ without colours, too. */
function dot(pin: HeaderPin, at: ReadonlyMap<number, readonly BoardEntry[]>, paint: Paint): string {
  const entries = at.get(pin.pin) ?? []
  const color = colorOf(pin, entries)
  if (pin.label === '5V' || pin.label === '3V3') return paint(color, '+')
  if (pin.label === 'GND') return paint(color, '-')
  return entries.length > 0 ? paint(color, '●') : '○'
}

/** A table of devices on buses, and of lines that are not on the header. */
function otherHandles(others: readonly BoardEntry[], { header }: BoardReport, values: HeaderScene['values']): string[] {
  const rows = others.map(({ name, kind, place, pins, safe }) => [
    name,
    kind,
    place,
    header.length === 0 ? 'not known' : pins.join(', ') || 'none',
    safe === undefined ? '' : valueTextOf(safe),
    valueText(values(name)),
  ])
  return rows.length === 0 ? [] : ['', ...tableLines(['handle', 'kind', 'place', 'pins', 'safe', 'value'], rows)]
}
