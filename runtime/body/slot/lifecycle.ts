/**
 * Invariant: a slot has one running program and at most one candidate, and every upgrade ends in new-running,
 * old-running, or safe levels (HANDOVER 2.1, 2.2; test/runtime/lifecycle.test.ts).
 *
 * The whole state machine of a slot, as data: a row for each state and event gives the next state, what to do, why, and
 * whose fault it is. slot.ts does it, and decides nothing by the state's name. `current` is the program that holds (or
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
  'restart-later',
  'cancel-restart',
  'wait',
  'back',
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

/** Why something ended; verdict.ts has the code and the sentence of each. */
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

/** Whom a failed upgrade is held against: a candidate at fault is remembered as tried (HANDOVER 7.7). */
export type Fault = 'candidate' | 'nobody'

export interface Step {
  readonly state: State
  readonly actions: readonly Action[]
  readonly reason: Reason | null
  readonly fault: Fault
}

/** What the slot does while it is in a state, apart from waiting for events. */
export interface Facts {
  /** The deadline after which the event `deadline` comes; deadlines.ts has the lengths. Null: the heartbeat is watched, or nothing is awaited. */
  readonly waits: 'ready' | 'yield' | 'takeover' | 'orphan' | 'stop' | null
  /** The state of the running program may be kept on disk (HANDOVER 9.1). */
  readonly checkpoints?: true
  /** The candidate is sent edges too: what the old program has not seen when it parks is the candidate's (HANDOVER 6.6). */
  readonly edgesToNext?: true
}

export const FACTS: Readonly<Record<State, Facts>> = {
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

const to = (state: State, ...actions: Action[]): Step => ({ state, actions, reason: null, fault: 'nobody' })
/** The same step, held against the candidate. */
const blame = (reason: Reason, step: Step): Step => ({ ...step, reason, fault: 'candidate' })
/** The same step, with a reason that says nothing against the candidate. */
const because = (reason: Reason, step: Step): Step => ({ ...step, reason, fault: 'nobody' })

const callOff = to('running', 'kill-next', 'end-upgrade')
/** The running program may have parked already: resuming is right either way, once the candidate is dead. */
const resumeAndCallOff = to('running', 'kill-next', 'resume-current', 'end-upgrade')
/** The running program died while a candidate was being prepared. */
const bothGone = to('cooling', 'safe-levels', 'kill-current', 'kill-next', 'end-upgrade', 'restart-later')
/** HANDOVER 9.2 */
const crashed = to('cooling', 'safe-levels', 'kill-current', 'restart-later')
/** Nothing of the slot runs: what ran before it was forced out, or crashed, is started again. */
const startFailed = to('idle', 'safe-levels', 'kill-next', 'kill-current', 'bring-back', 'end-upgrade')
const restartFailed = to('cooling', 'safe-levels', 'kill-next', 'restart-later')
/** HANDOVER 7.6: what was ended by force is never resumed. */
const force = to('forcing', 'end-current')
/** Back to the parked program, from where it parked. */
const back = to('resuming', 'kill-current', 'resume-old')
const lostBoth = to('cooling', 'safe-levels', 'kill-old', 'kill-current', 'kill-next', 'end-upgrade', 'restart-later')

/** Whatever was going on (HANDLES 10.5, 6.7). `safe-levels` stops what runs before it drives anything. */
const allGone = ['safe-levels', 'kill-next', 'kill-current', 'kill-old', 'cancel-restart', 'end-upgrade'] as const
const everywhere: Readonly<Partial<Record<Event, Step>>> = {
  halt: because('estopped', to('idle', ...allGone, 'stopped')),
  unfenced: because('unfenced', to('idle', ...allGone)),
  close: to('closed'),
}

/** Shared by the states in which `current` runs and `next` is on its way. HANDOVER 7.10: an unfit one can be replaced. */
const upgrading = (state: State, candidateEnded: Reason) => ({
  'next-failed': blame(candidateEnded, callOff),
  'next-died': blame(candidateEnded, callOff),
  'spawn-failed': because('not-spawned', callOff),
  'bad-copy': because(candidateEnded, callOff),
  'current-failed': because('old-ended', callOff),
  'current-died': because('old-ended', bothGone),
  lost: because('silent', bothGone),
  unhealthy: because('unfit', to(state)),
  stop: because('interrupted', to('stopping', 'kill-next', 'end-upgrade', 'stop-current')),
})

/** The candidate is alone with the record, or with nothing; safe levels come soon unless it takes over. */
const orphaned = {
  took: to('proving', 'promote', 'begin-trial'),
  'next-failed': because('old-ended', bothGone),
  'next-died': because('old-ended', bothGone),
  'bad-copy': because('old-ended', bothGone),
  'next-orphaned': because('old-ended', bothGone),
  deadline: because('old-ended', bothGone),
  stop: because('interrupted', to('idle', 'safe-levels', 'kill-next', 'end-upgrade', 'stopped')),
}

/** A missing cell means: the event is stale there, nothing happens (HANDOVER 2.3). */
export const TABLE: Readonly<Record<State, Partial<Readonly<Record<Event, Step>>>>> = {
  idle: {
    launch: to('starting', 'spawn-next'),
    start: to('restarting', 'spawn-committed'),
    stop: to('idle', 'stopped'),
  },
  starting: {
    ready: to('starting', 'start-next'),
    started: to('proving', 'promote', 'begin-trial'),
    'spawn-failed': because('not-spawned', startFailed),
    'next-failed': blame('ended-at-start', startFailed),
    'next-died': blame('ended-at-start', startFailed),
    'bad-copy': blame('ended-at-start', startFailed),
    deadline: blame('never-ready', startFailed),
    stop: because('interrupted', to('idle', 'safe-levels', 'kill-next', 'end-upgrade', 'stopped')),
  },
  restarting: {
    ready: to('restarting', 'start-next'),
    started: to('running', 'promote', 'back'),
    'nothing-stored': to('idle'),
    'spawn-failed': because('not-spawned', restartFailed),
    // HANDOVER 9.9: no time makes it succeed
    refused: because('not-spawned', to('waiting', 'safe-levels', 'kill-next', 'wait')),
    'next-failed': because('ended-at-start', restartFailed),
    'next-died': because('ended-at-start', restartFailed),
    'bad-copy': because('ended-at-start', restartFailed),
    deadline: because('never-ready', restartFailed),
    stop: to('idle', 'safe-levels', 'kill-next', 'stopped'),
  },
  proving: {
    proved: to('committing-alone', 'commit'),
    unhealthy: blame('unfit', startFailed),
    lost: blame('silent', startFailed),
    'current-failed': blame('ended-in-trial', startFailed),
    'current-died': blame('ended-in-trial', startFailed),
    stop: because('interrupted', to('stopping', 'end-upgrade', 'stop-current')),
  },
  'committing-alone': {
    committed: to('running', 'finish-commit'),
    'commit-failed': because('not-written', startFailed),
  },
  running: {
    launch: to('preparing', 'spawn-next'),
    lost: because('silent', crashed),
    'current-died': because('crashed', crashed),
    'current-failed': because('crashed', crashed),
    unhealthy: because('unfit', to('running')),
    stop: to('stopping', 'stop-current'),
  },
  preparing: {
    ...upgrading('preparing', 'ended-at-start'),
    'bad-copy': blame('ended-at-start', callOff),
    ready: to('copying', 'copy'),
    deadline: blame('never-ready', callOff),
  },
  copying: {
    ...upgrading('copying', 'ended-in-takeover'),
    copied: to('preloading', 'preload'),
    deadline: because('no-copy', callOff),
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
    // the candidate's message may be read first
    took: to('trial', 'rest', 'swap-roles', 'begin-trial', 'freeze-old'),
    'next-failed': blame('ended-in-takeover', resumeAndCallOff),
    'next-died': blame('ended-in-takeover', resumeAndCallOff),
    'bad-copy': because('ended-in-takeover', resumeAndCallOff),
    deadline: because('no-yield', resumeAndCallOff),
    'forced-deadline': force,
    'current-failed': because('old-ended', callOff),
    'current-died': to('orphaned'),
    'next-orphaned': because('old-ended', bothGone),
    unhealthy: because('unfit', to('yielding')),
    stop: because('interrupted', to('stopping', 'kill-next', 'resume-current', 'end-upgrade', 'stop-current')),
  },
  // The old program has parked: the candidate alone is waited for, and force has nobody to be used against.
  'taking-over': {
    took: to('trial', 'swap-roles', 'begin-trial', 'freeze-old'),
    'next-failed': blame('ended-in-takeover', resumeAndCallOff),
    'next-died': blame('ended-in-takeover', resumeAndCallOff),
    'bad-copy': because('ended-in-takeover', resumeAndCallOff),
    deadline: blame('no-takeover', resumeAndCallOff),
    'current-failed': because('old-ended', resumeAndCallOff),
    'current-died': to('orphaned'),
    'next-orphaned': because('old-ended', bothGone),
    stop: because('interrupted', to('stopping', 'kill-next', 'resume-current', 'end-upgrade', 'stop-current')),
  },
  orphaned,
  trial: {
    // HANDOVER 7.5: the old program stays parked until the commit is on disk
    proved: to('committing', 'commit'),
    unhealthy: blame('unfit', to('undoing', 'hand-back')),
    lost: blame('silent', back),
    'current-failed': blame('ended-in-trial', back),
    'current-died': blame('ended-in-trial', back),
    'old-died': to('proving'),
    stop: because('interrupted', to('stopping', 'kill-old', 'end-upgrade', 'stop-current')),
  },
  committing: {
    committed: to('running', 'finish-commit', 'kill-old'),
    'commit-failed': because('not-written', back),
  },
  undoing: {
    yielded: to('resuming', 'fill-inbox', 'kill-current', 'resume-old'),
    lost: blame('silent', back),
    deadline: blame('no-state-back', back),
    'current-failed': blame('ended-in-trial', back),
    'current-died': blame('ended-in-trial', back),
    'old-died': because('old-ended', lostBoth),
    stop: because('interrupted', to('stopping', 'kill-old', 'end-upgrade', 'stop-current')),
  },
  resuming: {
    resumed: to('running', 'end-upgrade'),
    'current-failed': because('old-ended', lostBoth),
    'current-died': because('old-ended', lostBoth),
    deadline: because('not-resumed', lostBoth),
    stop: because('interrupted', to('stopping', 'end-upgrade', 'stop-current')),
  },
  forcing: {
    'current-died': to('starting', 'safe-levels', 'start-next'),
    'next-failed': blame('ended-at-start', bothGone),
    'next-died': blame('ended-at-start', bothGone),
    stop: because('interrupted', to('idle', 'safe-levels', 'kill-current', 'kill-next', 'end-upgrade', 'stopped')),
  },
  stopping: {
    'current-died': to('idle', 'safe-levels', 'stopped'),
    deadline: because('not-stopped', to('stopping', 'end-current')),
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

/** Null: the event is late, nothing happens. A deadline under `--force` is a plain one where force has no row. */
export function step(state: State, event: Event): Step | null {
  if (state === 'closed') return null
  const row = TABLE[state]
  return everywhere[event] ?? row[event] ?? (event === 'forced-deadline' ? (row.deadline ?? null) : null)
}
