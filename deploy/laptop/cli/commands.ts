/** The table of commands. Only the command that was given is loaded: this file must import none statically. */
import type { CommandEntry } from './app.ts'

/** Headings of `medulla --help`, in this order. */
export const GROUPS = {
  begin: 'Begin:',
  run: 'Put a program on a robot:',
  look: 'See what it does:',
  hand: 'Change it by hand:',
  stop: 'Stop and go back:',
  robots: 'Robots and people:',
  board: 'Hardware:',
  other: 'More:',
} as const

interface Entry extends CommandEntry {
  group: keyof typeof GROUPS
}

const entry = (group: Entry['group'], summary: string, load: Entry['load']): Entry => ({ group, summary, load })

export const COMMANDS: Readonly<Record<string, Entry>> = {
  sim: entry('begin', 'start a simulated robot on this computer', () => import('./commands/sim.ts')),
  new: entry('begin', 'make a folder with a program, its test and a board', () => import('./commands/new.ts')),
  keygen: entry('begin', 'make the key that signs your programs', () => import('./commands/keygen.ts')),

  run: entry('run', 'push, follow the log, stop safely on Ctrl-C', () => import('./commands/run.ts')),
  watch: entry('run', 'push on every save', () => import('./commands/watch.ts')),
  push: entry('run', 'push a program; it replaces the running one', () => import('./commands/push.ts')),
  build: entry('run', 'make a signed, sealed bundle file of a program', () => import('./commands/build.ts')),
  seal: entry('run', 'seal a bundle file to other keys of its robots', () => import('./commands/seal.ts')),

  status: entry('look', 'which programs run, and which handles they hold', () => import('./commands/status.ts')),
  logs: entry('look', 'what a program printed and logged', () => import('./commands/logs.ts')),
  pinout: entry('look', 'the 40-pin header with names and values', () => import('./commands/pinout.ts')),
  receipts: entry('look', 'what was done to the robot: its signed log', () => import('./commands/receipts.ts')),
  inspect: entry('look', 'what a bundle was built from', () => import('./commands/inspect.ts')),
  verify: entry('look', 'check that no module, bundle or robot was modified', () => import('./commands/verify.ts')),
  rebuild: entry('look', 'prove from which source a bundle was built', () => import('./commands/rebuild.ts')),

  get: entry('hand', 'read pins, duties and angles', () => import('./commands/get.ts')),
  set: entry('hand', 'write a handle that no program holds', () => import('./commands/set.ts')),
  poke: entry('hand', 'press inputs and poke chips of a simulated robot', () => import('./commands/poke.ts')),
  config: entry(
    'hand',
    'texts that a robot keeps for its programs, secret ones too',
    () => import('./commands/config.ts'),
  ),
  param: entry('hand', 'change parameters of a program while it runs', () => import('./commands/param.ts')),
  channel: entry('hand', 'talk with a program while it runs, line by line', () => import('./commands/channel.ts')),

  stop: entry('stop', 'stop a program; its outputs go to their safe levels', () => import('./commands/stop.ts')),
  start: entry('stop', 'start what was stopped', () => import('./commands/start.ts')),
  estop: entry('stop', 'emergency stop: everything, until it is released', () => import('./commands/estop.ts')),
  rollback: entry('stop', 'go back to an earlier release', () => import('./commands/rollback.ts')),
  floor: entry('stop', 'which releases of a program a robot takes as newer', () => import('./commands/floor.ts')),

  robots: entry('robots', 'the robots that this laptop knows', () => import('./commands/robots.ts')),
  use: entry('robots', 'choose the robot for commands without -d', () => import('./commands/use.ts')),
  pair: entry('robots', 'let a laptop and a robot know each other by a code', () => import('./commands/pair.ts')),
  trust: entry('robots', 'the same by files, and for further laptops', () => import('./commands/trust.ts')),
  forget: entry('robots', 'remove a robot from the list of this laptop', () => import('./commands/forget.ts')),
  psk: entry('robots', 'a secret that sessions with a robot need besides the keys', () => import('./commands/psk.ts')),
  operators: entry('robots', 'who may do what on a robot', () => import('./commands/operators.ts')),
  recover: entry(
    'robots',
    'become owner with the recovery key, after all keys were lost',
    () => import('./commands/recover.ts'),
  ),
  keys: entry('robots', 'the keys of a robot; give it new ones', () => import('./commands/keys.ts')),

  board: entry('board', 'make and check the file that names the hardware', () => import('./commands/board.ts')),
  doctor: entry('board', 'on the robot: what is wrong with it', () => import('./commands/doctor.ts')),
  install: entry('board', 'on the robot: make this computer a robot', () => import('./commands/install.ts')),
  uninstall: entry('board', 'on the robot: take that back', () => import('./commands/uninstall.ts')),
  image: entry('board', 'write who owns a robot and its Wi-Fi into a card image', () => import('./commands/image.ts')),
  runtime: entry('board', 'which runtime a robot runs; push another one', () => import('./commands/runtime.ts')),

  attack: entry('other', 'try about 120 attacks on a simulated robot of yours', () => import('./commands/attack.ts')),
  completion: entry('other', 'completion of commands for your shell', () => import('./commands/completion.ts')),
}

export function isCommand(word: string | undefined): word is string {
  return word !== undefined && Object.hasOwn(COMMANDS, word)
}
