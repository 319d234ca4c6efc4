/**
 * Lines of the firmware's config.txt and words of cmdline.txt, on a Raspberry Pi. Pure. Invariant: every line that was there
 * stays where it was, and `withoutOurs` takes away what `withLines` added, but for the end of a last
 * line that had none (test/install/bootfiles.test.ts).
 */
import type { Board, BoardHandle } from '../../drivers/board/types.ts'

export interface BootLine {
  /** As the doctor's findings name it. */
  readonly about: string
  readonly line: string
}

const BEGIN = '# medulla install: begin'
const END = '# medulla install: end'

/** What the handles of a board need of the firmware. Source: the firmware's overlays/README. */
export function linesFor(board: Board | null): BootLine[] {
  if (board === null || board.model === 'sim' || board.model === 'linux') return []
  const all: readonly BoardHandle[] = Object.values(board.handles)
  const lines: BootLine[] = []
  const add = (about: string, line: string) => lines.push({ about, line })
  if (all.some((entry) => (entry.kind === 'i2c' || entry.kind === 'analog') && entry.bus === 1)) {
    add('i2c', 'dtparam=i2c_arm=on')
  }
  if (all.some((entry) => entry.kind === 'spi' && entry.bus === 0)) add('spi', 'dtparam=spi=on')
  const pulses = all.filter((entry) => (entry.kind === 'pwm' || entry.kind === 'servo') && entry.driver === 'kernel')
  if (pulses.length > 0) {
    add('pwm', overlayOf(pulses.flatMap((entry) => ('line' in entry ? [entry.line] : []))))
    // On these the analogue audio output uses both channels.
    if (board.model === 'pi3' || board.model === 'pi4') add('pwm', 'dtparam=audio=off')
  }
  if (all.some(({ kind }) => kind === 'temperature')) add('temperature', 'dtoverlay=w1-gpio')
  return lines
}

/** The firmware's number for alternative function 0 is 4, for 5 (3 on an RP1) it is 2. */
export function overlayOf(used: readonly string[]): string {
  const outer = used.some((line) => line === 'GPIO12' || line === 'GPIO13')
  return outer ? 'dtoverlay=pwm-2chan,pin=12,func=4,pin2=13,func2=4' : 'dtoverlay=pwm-2chan'
}

/** config.txt with these lines in force; the same text when they are. The last line for a setting wins, so ours come last. */
export function withLines(text: string, lines: readonly string[]): string {
  const [rest, ours] = split(text)
  const inForce = linesForAll(rest)
  const missing = [...new Set([...ours, ...lines])].filter((line) => !isInForce(inForce, line))
  if (missing.length === 0) return ours.length === 0 ? text : rest
  const newline = rest === '' || rest.endsWith('\n') ? '' : '\n'
  return `${rest}${newline}${[BEGIN, '[all]', ...missing, END].join('\n')}\n`
}

export function withoutOurs(text: string): string {
  return split(text)[0]
}

/** The text without our block, and the lines in the block. */
function split(text: string): [rest: string, ours: string[]] {
  const at = text.indexOf(`${BEGIN}\n`)
  const end = text.indexOf(`${END}\n`, at)
  if (at < 0 || end < 0) return [text, []]
  const ours = text.slice(at + BEGIN.length + 1, end).split('\n')
  const rest = text.slice(0, at) + text.slice(end + END.length + 1)
  return [rest, ours.filter((line) => line !== '' && line !== '[all]')]
}

/** The settings outside of sections that hold for some models only. */
function linesForAll(text: string): string[] {
  let section = '[all]'
  const found: string[] = []
  for (const raw of text.split('\n')) {
    const line = raw.trim()
    if (line.startsWith('[')) section = line
    else if (section === '[all]' && line !== '' && !line.startsWith('#')) found.push(line)
  }
  return found
}

/** `dtparam=NAME=on` is undone by a later `dtparam=NAME=off`. */
function isInForce(lines: readonly string[], line: string): boolean {
  const [, setting] = /^(dtparam=[\w-]+=)/.exec(line) ?? []
  if (setting === undefined) return lines.includes(line)
  return lines.findLast((other) => other.startsWith(setting)) === line
}

/** cmdline.txt is one line of words; the firmware reads only the first. */
export function withWords(text: string, words: readonly string[]): string {
  const { first, rest } = firstLine(text)
  const missing = words.filter((word) => !first.split(/\s+/).includes(word))
  return missing.length === 0 ? text : [first.trimEnd(), ...missing].join(' ').trimStart() + rest
}

export function withoutWords(text: string, words: readonly string[]): string {
  const { first, rest } = firstLine(text)
  const kept = words.reduce((line, word) => line.replace(new RegExp(`(^|\\s)${escaped(word)}(?=\\s|$)`), ''), first)
  return kept + rest
}

function firstLine(text: string): { first: string; rest: string } {
  const end = text.indexOf('\n')
  return end < 0 ? { first: text, rest: '' } : { first: text.slice(0, end), rest: text.slice(end) }
}

const escaped = (word: string): string => word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
