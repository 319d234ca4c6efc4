/**
 * The bad programs of test/programs/NAME.ts, with the expected outcome of each. undone.test.ts and
 * running.test.ts run these tables through the real CLI, and print how long the robot was without a good program.
 */

import { EXIT } from '../../deploy/laptop/cli/exit.ts'
import type { Outcome } from '../../deploy/shared/api.ts'
import type { RefusalCode } from '../../deploy/shared/errors.ts'

/** Pushed over the counter: executed, then undone, and the counter runs on. */
export interface Undone {
  name: string
  /** Clause of a specification that the row shows, for its title. */
  clause?: string
  does: string
  /** code in the receipt and in the message */
  code: RefusalCode
  /** part of the reason that the CLI shows */
  says?: string
  /** the program drove the hardware for a while, so the receipt has a gap */
  tookOver?: true
  /** the old program goes on with the state that the new one gave back, not with the one it parked with */
  givesBack?: true
  /** noticed only by its silence, so after `timing.heartbeatMs`, or `timing.takeoverMs`, which is as long here */
  silent?: true
}

export const UNDONE: readonly Undone[] = [
  { name: 'throws-at-import', does: 'throws while it loads', code: 'died-at-start', says: 'no such library' },
  { name: 'exits-at-import', does: 'exits 0 while it loads', code: 'died-at-start', says: 'before it was ready' },
  { name: 'throws-in-run', does: 'throws in run()', code: 'died-at-start', says: 'the gripper is not calibrated' },
  { name: 'throws-in-tick', does: 'throws in its first tick', code: 'died-at-start', says: 'division by zero' },
  {
    name: 'writes-params',
    does: 'writes its own parameters',
    code: 'died-at-start',
    says: 'cannot be written by the program',
  },
  { name: 'endless-line', clause: 'HANDOVER 3.2:', does: 'sends a line without an end', code: 'died-at-start' },
  { name: 'unserialisable', does: 'has a Map as state', code: 'bad-state', says: 'state.seen is a Map' },
  { name: 'state-too-large', does: 'has 64 MiB and 1 byte of state', code: 'bad-state', says: '67108865 bytes' },
  { name: 'dies-after-ready', does: 'dies after it said ready', code: 'takeover-failed' },
  { name: 'throws-in-migrate', does: 'throws in migrate.up', code: 'migrate-failed', says: 'n is in the wrong unit' },
  {
    name: 'no-way-up',
    clause: 'HANDOVER 5.6:',
    does: 'has no migrate.up',
    code: 'migrate-failed',
    says: 'no migrate.up',
  },
  { name: 'hangs-at-takeover', does: 'hangs as it takes over', code: 'takeover-failed', says: 'the old program yielded, and the new one did not take over within', silent: true }, // biome-ignore format: one row
  { name: 'dies-in-trial', does: 'throws in its trial', code: 'died-in-trial', says: 'lost count after the real state', tookOver: true }, // biome-ignore format: one row
  { name: 'exits-in-trial', does: 'exits 0 in its trial', code: 'died-in-trial', tookOver: true },
  { name: 'garbles-control', clause: 'HANDOVER 3.2:', does: 'sends rubbish to the body', code: 'died-in-trial', says: 'not in the protocol', tookOver: true }, // biome-ignore format: one row
  { name: 'unhealthy', does: 'finds itself unfit', code: 'unhealthy', says: 'the arm is too hot', tookOver: true, givesBack: true }, // biome-ignore format: one row
  { name: 'no-way-back', does: 'unfit, and throws in migrate.down', code: 'unhealthy', tookOver: true },
  {
    name: 'lies-when-undone',
    clause: 'HANDOVER 7.3:',
    does: 'unfit, and changes the state it gives back',
    code: 'unhealthy',
    tookOver: true,
  },
  { name: 'spins', does: 'blocks its event loop', code: 'heartbeat-lost', tookOver: true, silent: true },
  { name: 'spins-late', does: 'blocks it late in its trial', code: 'heartbeat-lost', tookOver: true, silent: true },
]

/** Like {@link UNDONE}, but undone only after `timing.readyMs`. */
export const NEVER_READY: readonly Undone[] = [
  { name: 'blocks-at-import', does: 'never ends loading', code: 'never-ready', says: 'not ready within' },
  { name: 'blocks-in-run', does: 'never returns from run()', code: 'never-ready', says: 'not ready within' },
]

/** What the test does to a program that runs and misbehaves. */
export type Step =
  /** the counter is pushed over it */
  | 'push'
  /** `medulla stop` */
  | 'stop'
  /** nothing: the program ends by itself, the outputs go to their safe levels, and it restarts */
  | 'wait'

/** Committed, then misbehaves while it runs. */
export interface Misbehaves {
  name: string
  clause?: string
  version?: string
  does: string
  step: Step
  /** outcome and code of the last receipt */
  outcome: Outcome
  /** absent: a program with a nearly full heap may be ended for its silence, or end by itself */
  code?: RefusalCode
  exit: number
  /** part of the CLI's output: of the push, of the stop, or of `medulla status` after the program's end */
  says: string
  /** noticed only by its silence, or does not react to stop */
  silent?: true
  slow?: true
}

const swaps = { step: 'push', outcome: 'committed', exit: EXIT.ok, says: 'committed: counter 1.0.0 runs' } as const
const refused = { step: 'push', outcome: 'rolled-back', exit: EXIT.undone } as const
const ends = { step: 'wait', outcome: 'crashed', exit: EXIT.ok } as const

const DESCRIPTORS = [
  ['4', 'the broker'],
  ['5', 'its outbox'],
  ['6', 'its inbox'],
  ['7', 'its handover FIFO'],
  ['8', "its predecessor's FIFO"],
  ['9', "its predecessor's outbox"],
  ['10', 'the scratch file'],
  ['11', 'a granted handle'],
] as const

export const MISBEHAVES: readonly Misbehaves[] = [
  { name: 'holds', does: 'ignores yield', step: 'push', outcome: 'called-off', code: 'yield-timeout', exit: EXIT.undone, says: 'the arm is moving' }, // biome-ignore format: one row
  { name: 'slow-yield', does: 'yields at the last moment', ...swaps },
  { name: 'sickens', clause: 'HANDOVER 7.10:', does: 'finds itself unfit after its trial', ...swaps },
  {
    name: 'liar',
    clause: 'HANDOVER 4.4:',
    does: 'changes its state after it was hashed',
    ...refused,
    code: 'bad-state',
    says: 'do not match',
  },
  { name: 'turns-bad', does: 'gets a bigint into its state', ...refused, code: 'bad-state', says: 'state.odd is a bigint' }, // biome-ignore format: one row
  { name: 'turns-lossy', does: 'gets NaN into its state', ...refused, code: 'bad-state', says: 'state.mean is NaN' },
  { name: 'floods-output', does: 'floods stdout, stderr and its log', ...swaps },
  { name: 'late-writer', does: 'writes from timers of its own', ...swaps },
  { name: 'rogue-writer', does: 'writes past the SDK, from a thread', ...swaps },
  { name: 'serves', does: 'starts a server in run', ...swaps },
  { name: 'awaits-forever', does: 'awaits in run what never comes', ...swaps },
  { name: 'thousand-timers', does: 'starts 1,000 timers in run', ...swaps },
  { name: 'odd-lines', does: 'logs what is no text, at no level', ...swaps },
  { name: 'forks', does: 'forks, and leaves a daemon behind', ...swaps },
  ...DESCRIPTORS.map(([fd, what]) => ({
    name: 'garbles',
    version: `1.${fd}.0`,
    does: `sends rubbish to ${what}`,
    ...swaps,
  })),
  { name: 'ignores-stop', does: 'ignores stop and SIGTERM', step: 'stop', outcome: 'stopped', exit: EXIT.ok, says: 'stopped: ', silent: true, slow: true }, // biome-ignore format: one row
  {
    name: 'throws-later',
    does: 'throws',
    ...ends,
    code: 'crashed',
    says: 'the program said: "the arm is stuck',
  },
  { name: 'exits-later', does: 'exits 0', ...ends, code: 'crashed', says: '(exit code 0)' },
  { name: 'closes-handles', does: 'closes its handles', ...ends, code: 'crashed', says: 'bad file descriptor' },
  {
    name: 'closes-control',
    does: 'closes the descriptor of the body',
    ...ends,
    code: 'crashed',
    says: 'last error: crashed after ',
  },
  { name: 'leaks-heap', does: 'leaks objects', ...ends, says: 'last error: ', silent: true, slow: true },
  { name: 'leaks-buffers', does: 'leaks memory outside the heap', ...ends, code: 'crashed', says: 'crashed', slow: true }, // biome-ignore format: one row
  {
    name: 'leaks-descriptors',
    clause: 'HANDLES 10.9:',
    does: 'leaks descriptors',
    ...ends,
    code: 'crashed',
    says: 'EMFILE',
    slow: true,
  },
  { name: 'hangs-later', does: 'blocks its event loop', ...ends, code: 'heartbeat-lost', says: 'no heartbeat for', silent: true, slow: true }, // biome-ignore format: one row
]

export const titleOf = ({ clause, name }: Pick<Undone, 'clause' | 'name'>): string =>
  clause === undefined ? name : `${clause} ${name}`
