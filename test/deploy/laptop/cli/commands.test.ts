/** Every command of the built command line is run, and so is every option that its help, or that of a subcommand, names. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { COMMANDS } from '../../../../deploy/laptop/cli/commands.ts'
import { EXIT } from '../../../../deploy/laptop/cli/exit.ts'
import { SCALE } from '../../../e2e/eventually.ts'
import { Laptop } from './medulla.ts'

const SLOW = { tags: ['slow'], timeout: 600_000 * SCALE }
const UNKNOWN = '--no-such-option'

let laptop: Laptop
beforeAll(() => {
  laptop = new Laptop()
})
afterAll(() => laptop.close())

type Row = readonly [words: string, exit: number, says: RegExp]
const NO_ROBOT = /^medulla: error: this laptop knows no robot yet\nmedulla: hint: medulla robots finds /
const NO_FILE = /^medulla: error: no such file or folder: nowhere\nmedulla: hint: medulla \w+ --help$/m

/** What each command does on a laptop that knows no robot and has no key. A new command gets its row here. */
const FIRST: Readonly<Record<string, Row>> = {
  sim: ['sim nowhere.ts --expect x', EXIT.build, /there is no \S+\/nowhere\.ts$/m],
  new: ['new Bad', EXIT.usage, /^medulla: error: expected a program name like .* got "Bad"\nmedulla: hint: /],
  keygen: ['keygen', EXIT.ok, /^made \S+\/config\/id_ed25519$/m],
  run: ['run nowhere', EXIT.usage, NO_FILE],
  watch: ['watch nowhere', EXIT.usage, NO_FILE],
  push: ['push nowhere', EXIT.usage, NO_FILE],
  build: ['build nowhere', EXIT.refused, /knows no robot to seal the bundle to\nmedulla: hint: medulla sim, or /],
  status: ['status', EXIT.refused, NO_ROBOT],
  logs: ['logs', EXIT.refused, NO_ROBOT],
  pinout: ['pinout', EXIT.ok, /^the header of a pi4\n/],
  receipts: ['receipts', EXIT.refused, NO_ROBOT],
  inspect: ['inspect nowhere', EXIT.usage, /^medulla: error: cannot read nowhere: ENOENT.*\nmedulla: hint: /],
  verify: ['verify nowhere', EXIT.usage, NO_FILE],
  rebuild: ['rebuild nowhere', EXIT.usage, /^medulla: error: required option '--source <dir\|git>' not specified\n/],
  get: ['get', EXIT.refused, NO_ROBOT],
  set: ['set led 1', EXIT.refused, NO_ROBOT],
  poke: ['poke button 1', EXIT.refused, NO_ROBOT],
  config: ['config', EXIT.refused, NO_ROBOT],
  param: ['param', EXIT.refused, NO_ROBOT],
  channel: ['channel tune', EXIT.refused, NO_ROBOT],
  stop: ['stop', EXIT.refused, NO_ROBOT],
  start: ['start', EXIT.refused, NO_ROBOT],
  estop: ['estop', EXIT.refused, NO_ROBOT],
  rollback: ['rollback', EXIT.refused, NO_ROBOT],
  floor: ['floor blink', EXIT.refused, NO_ROBOT],
  robots: ['robots', EXIT.ok, /^This laptop knows no robot yet\.\n/],
  use: [
    'use arm',
    EXIT.refused,
    /^medulla: error: no robot is called "arm"; known: none\nmedulla: hint: medulla robots$/m,
  ],
  trust: ['trust arm', EXIT.usage, /^medulla: error: .*\nmedulla: hint: /],
  forget: ['forget arm', EXIT.refused, /^medulla: error: no robot is called "arm"; known: none\n/],
  psk: ['psk', EXIT.refused, NO_ROBOT],
  operators: ['operators', EXIT.refused, NO_ROBOT],
  keys: ['keys', EXIT.refused, NO_ROBOT],
  recover: ['recover', EXIT.refused, NO_ROBOT],
  pair: ['pair', EXIT.usage, /^medulla: error: expected the address of the robot\nmedulla: hint: /],
  seal: ['seal nowhere', EXIT.usage, /^medulla: error: required option '--to <robots>' not specified\n/],
  image: [
    'image',
    EXIT.usage,
    /^medulla: error: expected the image to write into\nmedulla: hint: medulla image --help$/m,
  ],
  board: ['board check nowhere', EXIT.refused, /cannot read \S+\/nowhere: ENOENT\nmedulla: hint: medulla board new$/m],
  doctor: ['doctor --home home --board nowhere', EXIT.ok, /^\S+ {2}.* on \w+$/m],
  install: ['install --root absent', EXIT.refused, /^medulla: error: there is no folder \S+\/absent\nmedulla: hint: /],
  uninstall: ['uninstall --root absent', EXIT.refused, /^medulla: error: there is no folder \S+\/absent\n/],
  runtime: ['runtime', EXIT.refused, NO_ROBOT],
  attack: ['attack', EXIT.refused, NO_ROBOT],
  completion: ['completion csh', EXIT.usage, /^medulla: error: expected bash, zsh, fish, got "csh"\nmedulla: hint: /],
}

test('every command has a row', () => {
  expect(Object.keys(FIRST).sort()).toEqual(Object.keys(COMMANDS).sort())
})

test.each(Object.values(FIRST))('medulla %s exits %i', SLOW, async (words, exit, says) => {
  const { status, stdout, stderr } = await laptop.run(...words.split(' '))
  expect(status, stdout + stderr).toBe(exit)
  expect(stdout + stderr).toMatch(says)
})

interface Help {
  flags: string[]
  /** Options that need a value. */
  valued: string[]
  subcommands: string[]
}

/** What the help of a command names, without the options of all commands. */
async function helpOf(words: readonly string[]): Promise<Help> {
  const { status, stdout, stderr } = await laptop.run(...words, '--help')
  expect(stdout, 'no default is shown as JSON').not.toMatch(/\(default:\s+["[{]/)
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  const section = (title: string) => new RegExp(`^${title}:\\n((?: {2}.*\\n)+)`, 'm').exec(stdout)?.[1] ?? ''
  const options = [...section('Options').matchAll(/^ {2}(?:-\w, )?(--[\w-]+)(?: (<))?/gm)]
  const named = options.map(([, flag = '', value]) => ({ flag, valued: value !== undefined }))
  return {
    flags: named.filter(({ flag, valued }) => !valued && flag !== '--help').map(({ flag }) => flag),
    valued: named.filter(({ valued }) => valued).map(({ flag }) => flag),
    subcommands: [...section('Commands').matchAll(/^ {2}([\w-]+)/gm)].map(([, name = '']) => name),
  }
}

/** Options without which a command does not look at the others. */
const REQUIRED: Readonly<Record<string, readonly string[]>> = {
  rebuild: ['--source', '.'],
  seal: ['--to', 'arm'],
  'board new': ['--model', 'sim'],
}

/** Each option is known to the command: what it complains of is something else. */
async function understands(words: readonly string[]): Promise<void> {
  const { flags, valued, subcommands } = await helpOf(words)
  const about = words.join(' ')
  const required = REQUIRED[about] ?? []
  const odd = await laptop.run(...words, ...required, ...flags, UNKNOWN)
  expect(odd, about).toMatchObject({ status: EXIT.usage, stdout: '' })
  expect(odd.stderr, about).toMatch(new RegExp(`^medulla: error: unknown option '${UNKNOWN}'\\nmedulla: hint: `))
  await Promise.all(
    valued.map(async (option) => {
      const { status, stderr } = await laptop.run(...words, option)
      expect(status, `${about} ${option}`).toBe(EXIT.usage)
      expect(stderr).toMatch(new RegExp(`^medulla: error: option '(?:-\\w, )?${option} <.+>' argument missing\\n`))
    }),
  )
  for (const name of subcommands.filter((each) => each !== 'help')) await understands([...words, name])
}

test.each(Object.keys(COMMANDS))(
  'medulla %s understands every option of its help, which shows defaults as plain text',
  SLOW,
  async (name) => {
    await understands([name])
  },
)
