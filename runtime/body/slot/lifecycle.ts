/**
 * Invariant: a slot has one running program and at most one candidate, and every upgrade ends with the new program running,
 * the old one running, or the outputs at safe levels (HANDOVER 2.1, 2.2; test/runtime/body/slot/lifecycle.test.ts).
 *
 * The state machine of a slot as a table: a row for each state and event gives the next state, the actions, the reason and
 * the fault. slot.ts performs the actions, and decides nothing by a state's name. `current` is the program that holds (or
 * held) the lease, `next` the candidate, `old` the parked predecessor of a program in its trial.
 */
import type { Phase } from '../../../deploy/shared/api.ts'

export const STATES = [
  'idle',
  'starting',
  'restarting',
  'proving',
  'committing-alone',
  'running',
  'preparing',
  'copying',
  'preloading',
  'arming',
  'yielding',
  'taking-over',
  'orphaned',
  'trial',
  'committing',
  'undoing',
  'resuming',
  'forcing',
  'stopping',
  'cooling',
  'waiting',
  'closed',
] as const
export type State = (typeof STATES)[number]

export const EVENTS = [
  'launch',
  'start',
  'adopt',
  'spawn-failed',
  'refused',
  'nothing-stored',
  'ready',
  'started',
  'copied',
  'preloaded',
  'armed',
  'yielded',
  'took',
  'proved',
  'committed',
  'commit-failed',
  'resumed',
  'unhealthy',
  'lost',
  'current-failed',
  'next-failed',
  'bad-copy',
  'current-died',
  'next-died',
  'next-orphaned',
  'old-died',
  'deadline',
  'forced-deadline',
  'stop',
  'cooled',
  'halt',
  'unfenced',
  'close',
] as const
export type Event = (typeof EVENTS)[number]

export const ACTIONS = [
  'spawn-next',
  'spawn-committed',
  'copy',
  'preload',
  'arm',
  'yield',
  'rest',
  'start-next',
  'promote',
  'swap-roles',
  'freeze-old',
  'begin-trial',
  'commit',
  'finish-commit',
  'bring-back',
  'end-upgrade',
  'hand-back',
  'fill-inbox',
  'kill-next',
  'kill-current',
  'end-current',
  'kill-old',
  'resume-current',
  'resume-old',
  'safe-levels',
  'stop-current',
  'stopped',
  'stop-failed',
  'restart-later',
  'cancel-restart',
  'wait',
  'back',
  'go-on',
] as const
export type Action = (typeof ACTIONS)[number]

/** The phase of an upgrade that begins with an action. */
export const PHASE_OF: Readonly<Partial<Record<Action, Phase>>> = {
  'spawn-next': 'spawn',
  'spawn-committed': 'spawn',
  copy: 'copy',
  arm: 'arm',
  yield: 'yield',
  'begin-trial': 'trial',
  commit: 'commit',
  'hand-back': 'undo',
  'kill-next': 'undo',
  'kill-current': 'undo',
  'end-current': 'undo',
}

/** Why a program or an upgrade ended; verdict.ts has the code and the sentence of each. */
export type Reason =
  | 'never-ready'
  | 'no-copy'
  | 'not-loaded'
  | 'not-armed'
  | 'no-yield'
  | 'no-takeover'
  | 'no-state-back'
  | 'not-resumed'
  | 'not-stopped'
  | 'not-spawned'
  | 'not-written'
  | 'ended-at-start'
  | 'ended-in-takeover'
  | 'ended-in-trial'
  | 'old-ended'
  | 'crashed'
  | 'silent'
  | 'unfit'
  | 'interrupted'
  | 'estopped'
  | 'unfenced'

/** Who is to blame for a failed upgrade: a release at fault is refused with `tried-before` from then on (HANDOVER 7.7). */
export type Fault = 'candidate' | 'nobody'

export interface Transition {
  readonly state: State
  readonly actions: readonly Action[]
  readonly reason: Reason | null
  readonly fault: Fault
}

/** What the slot does while it is in a state. */
export interface StateFacts {
  /** The deadline after which the event `deadline` comes; deadlines.ts has the lengths. Null: the heartbeat is enough, or nothing is awaited. */
  readonly waits: 'ready' | 'yield' | 'takeover' | 'orphan' | 'stop' | null
  /** The state of the running program may be kept on disk (HANDOVER 9.1). */
  readonly checkpoints?: true
  /** The candidate gets the edges too, and delivers those that the old program had not seen when it parked (HANDOVER 6.6). */
  readonly edgesToNext?: true
}

export const FACTS: Readonly<Record<State, StateFacts>> = {
  idle: { waits: null },
  starting: { waits: 'ready' },
  restarting: { waits: 'ready' },
  proving: { waits: null },
  'committing-alone': { waits: null, checkpoints: true },
  running: { waits: null, checkpoints: true },
  preparing: { waits: 'ready' },
  copying: { waits: 'yield' },
  preloading: { waits: 'ready' },
  arming: { waits: 'ready' },
  yielding: { waits: 'yield', edgesToNext: true },
  'taking-over': { waits: 'takeover', edgesToNext: true },
  orphaned: { waits: 'orphan', edgesToNext: true },
  trial: { waits: null },
  committing: { waits: null, checkpoints: true },
  undoing: { waits: 'yield' },
  resuming: { waits: 'ready' },
  forcing: { waits: null },
  stopping: { waits: 'stop' },
  cooling: { waits: null },
  waiting: { waits: null },
  closed: { waits: null },
}

const to = (state: State, ...actions: Action[]): Transition => ({ state, actions, reason: null, fault: 'nobody' })
/** The same step, with a reason for which the candidate is to blame. */
const blame = (reason: Reason, step: Transition): Transition => ({ ...step, reason, fault: 'candidate' })
/** The same step, with a reason for which the candidate is not to blame. */
const noBlame = (reason: Reason, step: Transition): Transition => ({ ...step, reason, fault: 'nobody' })

const callOff = to('running', 'kill-next', 'end-upgrade')
/** The running program may have parked already: `resume` is right in both cases, once the candidate is dead. */
const resumeAndCallOff = to('running', 'kill-next', 'resume-current', 'end-upgrade')
/** The running program died while a candidate was being prepared. */
const bothGone = to('cooling', 'safe-levels', 'kill-current', 'kill-next', 'end-upgrade', 'restart-later')
/** Safe levels, then a restart from the checkpoint (HANDOVER 9.2). */
const crashed = to('cooling', 'safe-levels', 'kill-current', 'restart-later')
/** Nothing runs in the slot: `bring-back` restarts the program that ran before it was forced out or crashed. */
const startFailed = to('idle', 'safe-levels', 'kill-next', 'kill-current', 'bring-back', 'end-upgrade')
/** A stop while the candidate starts: the old program is dead, or dies here, so the result names no program as running. */
const stopStart = noBlame(
  'interrupted',
  to('idle', 'safe-levels', 'kill-next', 'kill-current', 'end-upgrade', 'stopped'),
)
const restartFailed = to('cooling', 'safe-levels', 'kill-next', 'restart-later')
/** A program that is ended by force is never resumed: it restarts from its checkpoint (HANDOVER 7.6). */
const force = to('forcing', 'end-current')
/** The parked program goes on from where it parked. */
const back = to('resuming', 'kill-current', 'resume-old')
const lostBoth = to('cooling', 'safe-levels', 'kill-old', 'kill-current', 'kill-next', 'end-upgrade', 'restart-later')

/** From any state (HANDLES 10.5, 6.7). `safe-levels` stops the programs before it drives an output. */
const allGone = ['safe-levels', 'kill-next', 'kill-current', 'kill-old', 'cancel-restart', 'end-upgrade'] as const
const inAnyState: Readonly<Partial<Record<Event, Transition>>> = {
  halt: noBlame('estopped', to('idle', ...allGone, 'stopped')),
  // Who waits for a stop is told: a program may still run.
  unfenced: noBlame('unfenced', to('idle', ...allGone, 'stop-failed')),
  close: to('closed'),
}

/** Shared by the states in which `current` runs and `next` is being prepared. An unfit program can be replaced (HANDOVER 7.10). */
const upgrading = (state: State, candidateEnded: Reason) => ({
  'next-failed': blame(candidateEnded, callOff),
  'next-died': blame(candidateEnded, callOff),
  'bad-copy': noBlame(candidateEnded, callOff),
  'current-failed': noBlame('old-ended', callOff),
  'current-died': noBlame('old-ended', bothGone),
  lost: noBlame('silent', bothGone),
  unhealthy: noBlame('unfit', to(state)),
  stop: noBlame('interrupted', to('stopping', 'kill-next', 'end-upgrade', 'stop-current')),
})

/** The old program died during the handover. Unless the candidate takes over, the safe levels are driven. */
const orphaned = {
  took: to('proving', 'promote', 'begin-trial'),
  'next-failed': noBlame('old-ended', bothGone),
  'next-died': noBlame('old-ended', bothGone),
  'bad-copy': noBlame('old-ended', bothGone),
  'next-orphaned': noBlame('old-ended', bothGone),
  deadline: noBlame('old-ended', bothGone),
  stop: stopStart,
}

/** An event without a row in the state is late and changes nothing (HANDOVER 2.3). */
export const TABLE: Readonly<Record<State, Partial<Readonly<Record<Event, Transition>>>>> = {
  idle: {
    launch: to('starting', 'spawn-next'),
    start: to('restarting', 'spawn-committed'),
    // The last runtime left the program running (HANDOVER 18.1).
    adopt: to('running', 'go-on'),
    stop: to('idle', 'stopped'),
  },
  starting: {
    ready: to('starting', 'start-next'),
    started: to('proving', 'promote', 'begin-trial'),
    'spawn-failed': noBlame('not-spawned', startFailed),
    'next-failed': blame('ended-at-start', startFailed),
    'next-died': blame('ended-at-start', startFailed),
    'bad-copy': blame('ended-at-start', startFailed),
    deadline: blame('never-ready', startFailed),
    stop: stopStart,
  },
  restarting: {
    ready: to('restarting', 'start-next'),
    started: to('running', 'promote', 'back'),
    'nothing-stored': to('idle'),
    'spawn-failed': noBlame('not-spawned', restartFailed),
    // The program cannot run until something changes, so time is no reason to try again (HANDOVER 9.9).
    refused: noBlame('not-spawned', to('waiting', 'safe-levels', 'kill-next', 'wait')),
    'next-failed': noBlame('ended-at-start', restartFailed),
    'next-died': noBlame('ended-at-start', restartFailed),
    'bad-copy': noBlame('ended-at-start', restartFailed),
    deadline: noBlame('never-ready', restartFailed),
    stop: to('idle', 'safe-levels', 'kill-next', 'stopped'),
  },
  proving: {
    proved: to('committing-alone', 'commit'),
    unhealthy: blame('unfit', startFailed),
    lost: blame('silent', startFailed),
    'current-failed': blame('ended-in-trial', startFailed),
    'current-died': blame('ended-in-trial', startFailed),
    stop: noBlame('interrupted', to('stopping', 'end-upgrade', 'stop-current')),
  },
  'committing-alone': {
    committed: to('running', 'finish-commit'),
    'commit-failed': noBlame('not-written', startFailed),
  },
  running: {
    launch: to('preparing', 'spawn-next'),
    lost: noBlame('silent', crashed),
    'current-died': noBlame('crashed', crashed),
    'current-failed': noBlame('crashed', crashed),
    unhealthy: noBlame('unfit', to('running')),
    stop: to('stopping', 'stop-current'),
  },
  preparing: {
    ...upgrading('preparing', 'ended-at-start'),
    'bad-copy': blame('ended-at-start', callOff),
    'spawn-failed': noBlame('not-spawned', callOff),
    ready: to('copying', 'copy'),
    deadline: blame('never-ready', callOff),
  },
  copying: {
    ...upgrading('copying', 'ended-in-takeover'),
    copied: to('preloading', 'preload'),
    deadline: noBlame('no-copy', callOff),
    'forced-deadline': force,
  },
  preloading: {
    ...upgrading('preloading', 'ended-in-takeover'),
    preloaded: to('arming', 'arm'),
    deadline: blame('not-loaded', callOff),
  },
  arming: {
    ...upgrading('arming', 'ended-in-takeover'),
    armed: to('yielding', 'yield'),
    deadline: blame('not-armed', callOff),
  },
  yielding: {
    yielded: to('taking-over', 'rest'),
    // The body may read the candidate's `took` before the old program's `yielded`.
    took: to('trial', 'rest', 'swap-roles', 'begin-trial', 'freeze-old'),
    'next-failed': blame('ended-in-takeover', resumeAndCallOff),
    'next-died': blame('ended-in-takeover', resumeAndCallOff),
    'bad-copy': noBlame('ended-in-takeover', resumeAndCallOff),
    deadline: noBlame('no-yield', resumeAndCallOff),
    'forced-deadline': force,
    'current-failed': noBlame('old-ended', callOff),
    'current-died': to('orphaned'),
    'next-orphaned': noBlame('old-ended', bothGone),
    unhealthy: noBlame('unfit', to('yielding')),
    stop: noBlame('interrupted', to('stopping', 'kill-next', 'resume-current', 'end-upgrade', 'stop-current')),
  },
  // The old program has parked, so only the candidate is awaited, and there is nobody to force out.
  'taking-over': {
    took: to('trial', 'swap-roles', 'begin-trial', 'freeze-old'),
    'next-failed': blame('ended-in-takeover', resumeAndCallOff),
    'next-died': blame('ended-in-takeover', resumeAndCallOff),
    'bad-copy': noBlame('ended-in-takeover', resumeAndCallOff),
    deadline: blame('no-takeover', resumeAndCallOff),
    'current-failed': noBlame('old-ended', resumeAndCallOff),
    'current-died': to('orphaned'),
    'next-orphaned': noBlame('old-ended', bothGone),
    stop: noBlame('interrupted', to('stopping', 'kill-next', 'resume-current', 'end-upgrade', 'stop-current')),
  },
  orphaned,
  trial: {
    // The old program stays parked until the commit is on disk (HANDOVER 7.5).
    proved: to('committing', 'commit'),
    unhealthy: blame('unfit', to('undoing', 'hand-back')),
    lost: blame('silent', back),
    'current-failed': blame('ended-in-trial', back),
    'current-died': blame('ended-in-trial', back),
    'old-died': to('proving'),
    stop: noBlame('interrupted', to('stopping', 'kill-old', 'end-upgrade', 'stop-current')),
  },
  committing: {
    committed: to('running', 'finish-commit', 'kill-old'),
    'commit-failed': noBlame('not-written', back),
  },
  undoing: {
    yielded: to('resuming', 'fill-inbox', 'kill-current', 'resume-old'),
    lost: blame('silent', back),
    deadline: blame('no-state-back', back),
    'current-failed': blame('ended-in-trial', back),
    'current-died': blame('ended-in-trial', back),
    'old-died': noBlame('old-ended', lostBoth),
    stop: noBlame('interrupted', to('stopping', 'kill-old', 'end-upgrade', 'stop-current')),
  },
  resuming: {
    resumed: to('running', 'end-upgrade'),
    'current-failed': noBlame('old-ended', lostBoth),
    'current-died': noBlame('old-ended', lostBoth),
    deadline: noBlame('not-resumed', lostBoth),
    stop: noBlame('interrupted', to('stopping', 'end-upgrade', 'stop-current')),
  },
  forcing: {
    'current-died': to('starting', 'safe-levels', 'start-next'),
    'next-failed': blame('ended-at-start', bothGone),
    'next-died': blame('ended-at-start', bothGone),
    stop: stopStart,
  },
  stopping: {
    'current-died': to('idle', 'safe-levels', 'stopped'),
    deadline: noBlame('not-stopped', to('stopping', 'end-current')),
  },
  cooling: {
    launch: to('starting', 'cancel-restart', 'spawn-next'),
    cooled: to('restarting', 'spawn-committed'),
    stop: to('idle', 'cancel-restart', 'stopped'),
  },
  waiting: {
    launch: to('starting', 'spawn-next'),
    start: to('restarting', 'spawn-committed'),
    stop: to('idle', 'stopped'),
  },
  closed: {},
}

/** Whether the event does anything in this state. */
export function accepts(state: State, event: Event): boolean {
  return TABLE[state][event] !== undefined
}

/** Null: the event is late and changes nothing. `forced-deadline` counts as `deadline` in a state without a row for it. */
export function step(state: State, event: Event): Transition | null {
  if (state === 'closed') return null
  const row = TABLE[state]
  return inAnyState[event] ?? row[event] ?? (event === 'forced-deadline' ? (row.deadline ?? null) : null)
}
