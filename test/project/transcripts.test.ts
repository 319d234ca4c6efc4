import { expect, test } from 'vitest'
import { COMMANDS } from '../../deploy/laptop/cli/commands.ts'
import { sources, text } from './tree.ts'

/** What runs the built command line; the commands are words of its calls. */
const TRANSCRIPTS = [
  ...sources(['test/cli']),
  'test/e2e/cli.test.ts',
  'test/e2e/clock.test.ts',
  'test/e2e/owners.test.ts',
  'test/bundle/byhand.test.ts',
]
  .map(text)
  .join('\n')

/** `run('push', …)`, `start(['sim', …])`, `refused(3, /…/, 'logs')`; `--help` alone is no transcript. */
function calls(name: string): boolean {
  return new RegExp(`\\w\\(\\[?(?:[^'"()\\n]*, )?'${name}'(?!, '--help')`).test(TRANSCRIPTS)
}

test('every command has a transcript: a test that runs it as it is built', () => {
  expect(Object.keys(COMMANDS).filter((name) => !calls(name))).toEqual([])
})

test('every option of a command is in a transcript', () => {
  const missing = Object.keys(COMMANDS).flatMap((name) => {
    const options = text(`deploy/laptop/cli/commands/${name}.ts`).matchAll(/\.(?:requiredO|o)ption\(\s*'([^'<[]+)/g)
    return [...options].flatMap(([, flags = '']) => {
      const used = flags
        .trim()
        .split(', ')
        .some((flag) => TRANSCRIPTS.includes(`'${flag}'`))
      return used ? [] : [`${name} ${flags.trim()}`]
    })
  })
  expect(missing).toEqual([])
})
