/** Every command, and where it lives. Loaded one at a time: this file imports none of them. */
import type { CommandModule } from './app.ts'

interface Entry {
  summary: string
  load(): Promise<CommandModule>
}

export const COMMANDS: Readonly<Record<string, Entry>> = {
  new: { summary: 'make a folder with a first program', load: () => import('./commands/new.ts') },
  keygen: { summary: 'make the key that signs your programs', load: () => import('./commands/keygen.ts') },
  sim: { summary: 'start a simulated robot on this computer', load: () => import('./commands/sim.ts') },
  trust: { summary: 'let a laptop and a robot know each other', load: () => import('./commands/trust.ts') },
  operators: { summary: 'who may do what on a robot', load: () => import('./commands/operators.ts') },
  floor: { summary: 'which releases of a program are new to a robot', load: () => import('./commands/floor.ts') },
  build: { summary: 'build, sign and seal a program into a bundle', load: () => import('./commands/build.ts') },
  push: { summary: 'push a program and swap it in while the old one runs', load: () => import('./commands/push.ts') },
  run: { summary: 'push, follow the log, stop safely on Ctrl-C', load: () => import('./commands/run.ts') },
  watch: { summary: 'push on every save, over one open session', load: () => import('./commands/watch.ts') },
  status: { summary: 'what the robot runs', load: () => import('./commands/status.ts') },
  logs: { summary: 'what a program printed and logged', load: () => import('./commands/logs.ts') },
  get: { summary: 'values of the handles', load: () => import('./commands/get.ts') },
  set: { summary: 'write a handle that no program holds', load: () => import('./commands/set.ts') },
  param: { summary: 'change parameters of a program while it runs', load: () => import('./commands/param.ts') },
  rollback: {
    summary: 'go back to the program before, or to an earlier one',
    load: () => import('./commands/rollback.ts'),
  },
  stop: { summary: 'stop a program; its outputs go to their safe levels', load: () => import('./commands/stop.ts') },
  start: { summary: 'start what was stopped', load: () => import('./commands/start.ts') },
  estop: { summary: 'emergency stop: everything, until it is released', load: () => import('./commands/estop.ts') },
  receipts: { summary: 'what was done to the robot, signed by it', load: () => import('./commands/receipts.ts') },
  attack: {
    summary: 'try about 90 attacks on a simulated robot of yours',
    load: () => import('./commands/attack.ts'),
  },
  board: { summary: 'make and check the file that names the hardware', load: () => import('./commands/board.ts') },
  pinout: { summary: 'the 40-pin header with names and values', load: () => import('./commands/pinout.ts') },
  doctor: { summary: 'what is wrong with this robot, on the robot', load: () => import('./commands/doctor.ts') },
  runtime: { summary: 'run the robot side, on the robot', load: () => import('./commands/runtime.ts') },
}

export function isCommand(word: string | undefined): word is string {
  return word !== undefined && Object.hasOwn(COMMANDS, word)
}
