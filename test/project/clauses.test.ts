import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ROOT, sources, text } from './tree.ts'

const SPECS = {
  BUNDLE: 'deploy/shared/BUNDLE.md',
  CHANNEL: 'deploy/shared/CHANNEL.md',
  HANDLES: 'drivers/HANDLES.md',
  HANDOVER: 'runtime/HANDOVER.md',
} as const
type Spec = keyof typeof SPECS

interface Clause {
  number: string
  must: boolean
}

/** A clause begins its line with its number (`4.3 A bundle MUST …`) and ends at the next one or at a heading. */
function clauses(spec: Spec): Clause[] {
  const found: { number: string; body: string }[] = []
  let inside = false
  for (const line of text(SPECS[spec]).split('\n')) {
    const start = /^\s*(?:[-*] )?\**(\d+\.\d+)\**[.:]?\**\s+(.*)$/.exec(line)
    if (start !== null) found.push({ number: start[1] ?? '', body: start[2] ?? '' })
    const last = found.at(-1)
    if (start !== null) inside = true
    else if (line.startsWith('#')) inside = false
    else if (inside && last !== undefined) last.body += `\n${line}`
  }
  return found.map(({ number, body }) => ({ number, must: /\bMUST\b/.test(body) }))
}

/** `BUNDLE 4.3`, `BUNDLE 1.1 to 1.4`, `BUNDLE 2.1, 2.3 and 3`: a number without a dot cites the section. */
function citations(spec: Spec): { path: string; number: string }[] {
  const pattern = new RegExp(`\\b${spec}(?:\\.md)? (\\d+(?:\\.\\d+)?(?:(?:, | and | to )\\d+(?:\\.\\d+)?)*)`, 'g')
  return sources()
    .filter((path) => path !== 'test/project/clauses.test.ts')
    .flatMap((path) =>
      [...text(path).matchAll(pattern)].flatMap(([, list = '']) => expand(list).map((number) => ({ path, number }))),
    )
}

function expand(list: string): string[] {
  const numbers: string[] = []
  for (const part of list.split(/, | and /)) {
    const [from = '', to] = part.split(' to ')
    numbers.push(from)
    const [section, first] = from.split('.').map(Number)
    const last = Number(to?.split('.')[1] ?? first)
    for (let clause = (first ?? 0) + 1; clause <= last; clause++) numbers.push(`${section}.${clause}`)
  }
  return numbers
}

test.each(Object.keys(SPECS) as Spec[])('%s.md is there, its clauses numbered in order, each once', (spec) => {
  expect(existsSync(join(ROOT, SPECS[spec]))).toBe(true)
  const numbers = clauses(spec).map(({ number }) => number)
  expect(numbers.length).toBeGreaterThan(5)
  const order = (number: string): number => Number(number.split('.')[0]) * 1000 + Number(number.split('.')[1])
  expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => order(a) - order(b)))
})

test.each(Object.keys(SPECS) as Spec[])('every clause of %s.md that is cited exists', (spec) => {
  const known = new Set(clauses(spec).flatMap(({ number }) => [number, number.split('.')[0] ?? '']))
  const wrong = citations(spec).filter(({ number }) => !known.has(number))
  expect(wrong.map(({ path, number }) => `${path} cites ${spec} ${number}`)).toEqual([])
})

test.each(Object.keys(SPECS) as Spec[])('every MUST of %s.md is cited where it is kept or tested', (spec) => {
  const cited = new Set(citations(spec).map(({ number }) => number))
  const missing = clauses(spec).filter(({ number, must }) => must && !cited.has(number))
  expect(missing.map(({ number }) => number)).toEqual([])
})

/**
 * MUST clauses that no title of a test names yet. A clause leaves the list with its test, and no clause joins it: what is
 * shown by a test elsewhere, or by a comment alone, does not count.
 */
const UNTITLED: Record<Spec, string> = {
  // the manifest has no place but the payload (7.1)
  BUNDLE: '4.2',
  CHANNEL: '',
  HANDLES: '10.6 10.8 11.4',
  HANDOVER: '',
}

/** Titles, or rows that become titles: `'HANDOVER 6.4: …'`, `'… (HANDLES 13.3)'`. A bare citation beside a value is none. */
function titled(spec: Spec): Set<string> {
  const files = sources(['test', 'robots']).filter((path) => /\.(test|rig|soak|fuzz)\.ts$|\/outcomes\.ts$/.test(path))
  const list = String.raw`(\d+(?:\.\d+)?(?:(?:, | and | to )\d+(?:\.\d+)?)*)`
  const others = String.raw`(?:, [A-Z]+ [\d., ]+)*[:)]`
  const pattern = new RegExp(`\\b${spec} ${list}${others}`, 'g')
  const literals = files.flatMap(
    (path) =>
      text(path)
        .replace(/^\s*(\/\/|\*|\/\*).*$/gm, '')
        .match(/'[^'\n]*'|"[^"\n]*"|`[^`\n]*`/g) ?? [],
  )
  return new Set(
    literals.flatMap((literal) => [...literal.matchAll(pattern)].flatMap(([, found = '']) => expand(found))),
  )
}

test.each(Object.keys(SPECS) as Spec[])('every MUST of %s.md has a test whose title names it', (spec) => {
  const shown = titled(spec)
  const missing = clauses(spec).filter(({ number, must }) => must && !shown.has(number))
  expect(missing.map(({ number }) => number).join(' ')).toBe(UNTITLED[spec])
})

test('a list of citations is read as it is meant', () => {
  expect(expand('1.1 to 1.4')).toEqual(['1.1', '1.2', '1.3', '1.4'])
  expect(expand('2.1, 2.3 and 3')).toEqual(['2.1', '2.3', '3'])
})
