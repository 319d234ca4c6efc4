/**
 * "A day with a robot" of robots/README.md is a transcript: every command is run, in a new folder, and must print what
 * the README shows. Numbers, digests and bars may differ. `…` stands for the rest of a line, or alone for any lines.
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { SCALE } from '../../../e2e/eventually.ts'
import { CLI } from '../../../e2e/programs.ts'
import { ROOT } from '../../../project/tree.ts'
import { differs, plain, steps } from './console.ts'

const folder = mkdtempSync(join(tmpdir(), 'medulla-day-'))
const home = join(folder, 'home')
let robot: number | undefined

afterAll(() => {
  if (robot !== undefined) process.kill(robot, 'SIGTERM')
  rmSync(folder, { recursive: true, force: true, maxRetries: 20 })
})

const day = steps('A day with a robot')

test('the README has commands with their output', () => {
  expect(day.length).toBeGreaterThan(10)
  expect(differs(['a 1 …', '…', 'z'], ['a # b', 'c', 'z'])).toBe(null)
  expect(differs(['a'], ['a', 'b'])).toBe('not expected: "b"')
  expect(differs(['a', 'b'], ['a'])).toBe('expected "b"')
})

test('the commands of "A day with a robot" print what the README shows', { tags: ['slow'] }, () => {
  const bin = join(folder, 'bin')
  mkdirSync(bin)
  mkdirSync(home)
  cpSync(join(ROOT, 'robots'), join(home, 'robots'), { recursive: true })
  writeFileSync(join(bin, 'medulla'), `#!/bin/sh\nexec '${process.execPath}' '${CLI}' "$@"\n`)
  chmodSync(join(bin, 'medulla'), 0o755)
  // long, as the machine may be busy
  const env = {
    PATH: `${bin}:${process.env.PATH}`,
    HOME: home,
    NO_COLOR: '1',
    MEDULLA_TIME_SCALE: String(4 * SCALE),
    MEDULLA_DISCOVERY: 'off',
  }
  for (const { command, expected } of day) {
    const { stdout } = spawnSync('sh', ['-c', `${command} 2>&1`], {
      cwd: home,
      env,
      encoding: 'utf8',
      timeout: 300_000 * SCALE,
    })
    robot ??= Number(/kill (\d+) ends it/.exec(stdout)?.[1]) || undefined
    const got = stdout
      .split('\n')
      .map((line) => plain(line, home))
      .filter((line) => line !== '')
    expect(differs(expected, got), `$ ${command}\n${stdout}`).toBe(null)
  }
})
