/**
 * Invariant: text from robots, programs and strangers moves no cursor, sets no title, hides nothing, and never begins a
 * new line of the output (test/deploy/laptop/cli/clean.test.ts). Only Term cleans text, where it writes to the terminal.
 *
 * Control codes: ECMA-48 (C0 and C1). Formatting that reorders or hides: Unicode's bidirectional controls (UAX 9), line
 * and paragraph separators, zero-width characters, and tags.
 */

/** What Term's own paint() writes: select graphic rendition, and no other sequence. */
const ESCAPE = '\x1b'
const PAINT = new RegExp(`(${ESCAPE}\\[(?:0|1|2|31|32|33|36)m)`)

/** First and last code points; tab and newline are in none of them. */
const C0: readonly Range[] = [
  [0x00, 0x08],
  [0x0b, 0x1f],
]
/** DEL and C1, and characters that reorder or hide text. */
const OTHERS: readonly Range[] = [
  [0x7f, 0x9f],
  [0x061c, 0x061c],
  [0x200b, 0x200f],
  [0x2028, 0x202e],
  [0x2060, 0x2069],
  [0xfeff, 0xfeff],
  [0xe0000, 0xe007f],
]
type Range = readonly [first: number, last: number]

/** Replaces every character of these ranges with what `as` returns for it. */
function replaced(text: string, ranges: readonly Range[], as: (character: string) => string): string {
  let result = ''
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0
    result += ranges.some(([first, last]) => code >= first && code <= last) ? as(character) : character
  }
  return result
}

/** The escape that shows a character: `\x1b`, `\u{202e}`. */
function shown(character: string): string {
  const code = character.codePointAt(0) ?? 0
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`
}

/**
 * Shows control characters as escapes. Lines after the first are indented, so that none looks like a line of the CLI
 * itself.
 */
export function clean(text: string): string {
  return text
    .split(PAINT)
    .map((part, index) => (index % 2 === 1 ? part : replaced(part, [...C0, ...OTHERS], shown).replaceAll('\n', '\n  ')))
    .join('')
}

/** The same for a row of a full-screen view, which must stay one line. */
export function cleanRow(text: string): string {
  return clean(text.replaceAll('\n', ' ').replaceAll('\t', ' '))
}

/** JSON.stringify escapes only C0: this escapes the other control characters, as JSON escapes. */
export function cleanJson(json: string): string {
  const unit = (code: number) => `\\u${code.toString(16).padStart(4, '0')}`
  return replaced(json, OTHERS, (character) =>
    Array.from({ length: character.length }, (_, i) => unit(character.charCodeAt(i))).join(''),
  )
}

/** A word of a command in a hint, quoted for a POSIX shell if necessary. */
export function shellWord(word: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}
