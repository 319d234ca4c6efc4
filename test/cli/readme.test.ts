/**
 * The README's "A day with a robot" is a transcript: every command of it is run, in a folder of its own, and must print what
 * stands there. Numbers, digests and bars may differ; `…` stands for the rest of a line, or alone for any lines.
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { CLI } from '../e2e/programs.ts'
import { ROOT, text } from '../project/tree.ts'

interface Step {
  command: string
  expected: string[]
}

const folder = mkdtempSync(join(tmpdir(), 'medulla-day-'))
const home = join(folder, 'home')
let robot: number | undefined

afterAll(() => {
  if (robot !== undefined) process.kill(robot, 'SIGTERM')
  rmSync(folder, { recursive: true, force: true, maxRetries: 20 })
})

/** Blocks marked `console` of one section; a command begins with `$ `, what it prints follows. */
function steps(section: string): Step[] {
  const part =
    text('README.md')
      .split(/^## /m)
      .find((each) => each.startsWith(`${section}\n`)) ?? ''
  const blocks = [...part.matchAll(/^```console\n(.*?)^```$/gms)].map(([, body = '']) => body)
  const found: Step[] = []
  for (const line of blocks.flatMap((body) => body.trimEnd().split('\n'))) {
    if (line.startsWith('$ ')) found.push({ command: line.slice(2), expected: [] })
    else if (line !== '') found.at(-1)?.expected.push(line)
  }
  return found
}

/** What differs from day to day, and what is there for the eye. */
function plain(line: string): string {
  return line
    .replaceAll(home, '~')
    .replace(/(SHA256:)[\w+/]{43}|\b[0-9a-f]{12,64}\b/g, '$1#')
    .replace(/[▏▎▍▌▋▊▉█▁▔]+/gu, '')
    .replace(/\d+(?:[.:-]\d+)*(?:T[\d:.]+Z)?/g, '#')
    .replace(/ +/g, ' ')
    .trim()
}

const matches = (wanted: string, got: string): boolean => {
  const [begin = '', ...rest] = plain(wanted).split('…')
  if (rest.length === 0) return begin === got
  return got.startsWith(begin.trimEnd()) && rest.every((part) => got.includes(part.trim()))
}

/** The first line that is not what was expected; null when all are. */
function differs(expected: readonly string[], got: readonly string[]): string | null {
  let at = 0
  for (let i = 0; i < expected.length; i++) {
    const wanted = expected[i] ?? ''
    if (wanted.trim() === '…') {
      const next = expected[i + 1]
      if (next === undefined) return null
      while (at < got.length && !matches(next, got[at] ?? '')) at++
    } else if (at >= got.length || !matches(wanted, got[at++] ?? '')) return `expected ${JSON.stringify(wanted)}`
  }
  return at < got.length ? `not expected: ${JSON.stringify(got[at])}` : null
}

const day = steps('A day with a robot')

test('the day has commands, and what they print', () => {
  expect(day.length).toBeGreaterThan(10)
  expect(differs(['a 1 …', '…', 'z'], ['a # b', 'c', 'z'])).toBe(null)
  expect(differs(['a'], ['a', 'b'])).toBe('not expected: "b"')
  expect(differs(['a', 'b'], ['a'])).toBe('expected "b"')
})

test('a day with a robot goes as the README says', { tags: ['slow'] }, () => {
  const bin = join(folder, 'bin')
  mkdirSync(bin)
  mkdirSync(home)
  cpSync(join(ROOT, 'robots'), join(home, 'robots'), { recursive: true })
  writeFileSync(join(bin, 'medulla'), `#!/bin/sh\nexec '${process.execPath}' '${CLI}' "$@"\n`)
  chmodSync(join(bin, 'medulla'), 0o755)
  // the machine may have other things to do than the day
  const env = { PATH: `${bin}:${process.env.PATH}`, HOME: home, NO_COLOR: '1', MEDULLA_TIME_SCALE: '4' }
  for (const { command, expected } of day) {
    const { stdout } = spawnSync('sh', ['-c', `${command} 2>&1`], { cwd: home, env, encoding: 'utf8', timeout: 60_000 })
    robot ??= Number(/kill (\d+) ends it/.exec(stdout)?.[1]) || undefined
    const got = stdout
      .split('\n')
      .map(plain)
      .filter((line) => line !== '')
    expect(differs(expected, got), `$ ${command}\n${stdout}`).toBe(null)
  }
})
