/**
 * Invariant: a slot has one running program and at most one candidate, and every upgrade ends in new-running,
 * old-running, or safe levels (design invariant "Slot", HANDOVER 2.1, 2.2).
 *
 * A pure table: (state, event) gives the next state and what to do. slot.ts does it. `current` is the program that
 * holds (or held) the lease, `next` the candidate, `old` the parked predecessor of a program in its trial.
 */

export const STATES = [
  'idle',
  'starting',
  'restarting',
  'proving',
  'running',
  'preparing',
  'copying',
  'preloading',
  'arming',
  'yielding',
  'orphaned',
  'trial',
  'undoing',
  'resuming',
  'forcing',
  'stopping',
  'cooling',
] as const
export type State = (typeof STATES)[number]

export const EVENTS = [
  'launch',
  'ready',
  'started',
  'copied',
  'preloaded',
  'armed',
  'took',
  'proved',
  'handed-back',
  'resumed',
  'unhealthy',
  'lost',
  'current-failed',
  'next-failed',
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
] as const
export type Event = (typeof EVENTS)[number]

export const ACTIONS = [
  'spawn-next',
  'copy',
  'preload',
  'arm',
  'yield',
  'start-next',
  'promote',
  'swap-roles',
  'freeze-old',
  'begin-trial',
  'commit',
  'call-off',
  'undone',
  'failed',
  'hand-back',
  'fill-inbox',
  'kill-next',
  'kill-current',
  'kill-old',
  'resume-current',
  'resume-old',
  'safe-levels',
  'stop-current',
  'stopped',
  'restart-later',
  'cancel-restart',
  'back',
  'note',
] as const
export type Action = (typeof ACTIONS)[number]

export interface Step {
  state: State
  actions: readonly Action[]
}

const to = (state: State, ...actions: Action[]): Step => ({ state, actions })

const callOff = to('running', 'kill-next', 'call-off')
/** the running program died while a candidate was being prepared */
const bothGone = to('cooling', 'safe-levels', 'kill-current', 'kill-next', 'call-off', 'restart-later')
/** HANDOVER 9.2 */
const crashed = to('cooling', 'safe-levels', 'kill-current', 'restart-later')
const startFailed = to('idle', 'safe-levels', 'kill-next', 'kill-current', 'failed')
const restartFailed = to('cooling', 'safe-levels', 'kill-next', 'restart-later')
/** HANDOVER 7.6: what was ended by force is never resumed */
const force = to('forcing', 'kill-current')
/** back to the parked program, from where it parked */
const back = to('resuming', 'kill-current', 'resume-old')
const lostBoth = to('cooling', 'safe-levels', 'kill-old', 'kill-current', 'kill-next', 'undone', 'restart-later')
const stopBusy = to('stopping', 'kill-next', 'call-off', 'stop-current')

/** HANDLES 10.4, 6.7: whatever was going on. `safe-levels` stops what runs before it drives anything. */
const everywhere = {
  halt: to('idle', 'safe-levels', 'kill-next', 'kill-current', 'kill-old', 'cancel-restart', 'failed', 'stopped'),
  unfenced: to('idle', 'safe-levels', 'kill-next', 'kill-current', 'kill-old', 'cancel-restart', 'failed'),
} as const

/** Shared by the states in which `current` runs and `next` is on its way. HANDOVER 7.10: an unfit one can be replaced. */
const upgrading = (state: State) => ({
  'next-failed': callOff,
  'next-died': callOff,
  'current-failed': callOff,
  'current-died': bothGone,
  lost: bothGone,
  unhealthy: to(state, 'note'),
  deadline: callOff,
  stop: stopBusy,
})

/** A missing cell means: the event is stale there, nothing happens (HANDOVER 2.3). */
export const TABLE: Readonly<Record<State, Partial<Readonly<Record<Event, Step>>>>> = {
  idle: {
    launch: to('starting', 'spawn-next'),
    cooled: to('restarting', 'spawn-next'),
    stop: to('idle', 'stopped'),
  },
  starting: {
    ready: to('starting', 'start-next'),
    started: to('proving', 'promote', 'begin-trial'),
    'next-failed': startFailed,
    'next-died': startFailed,
    deadline: startFailed,
    stop: to('idle', 'safe-levels', 'kill-next', 'failed', 'stopped'),
  },
  restarting: {
    ready: to('restarting', 'start-next'),
    started: to('running', 'promote', 'back'),
    'next-failed': restartFailed,
    'next-died': restartFailed,
    deadline: restartFailed,
    stop: to('idle', 'safe-levels', 'kill-next', 'stopped'),
  },
  proving: {
    proved: to('running', 'commit'),
    unhealthy: startFailed,
    lost: startFailed,
    'current-failed': startFailed,
    'current-died': startFailed,
    stop: to('stopping', 'failed', 'stop-current'),
  },
  running: {
    launch: to('preparing', 'spawn-next'),
    lost: crashed,
    'current-died': crashed,
    'current-failed': crashed,
    unhealthy: to('running', 'note'),
    stop: to('stopping', 'stop-current'),
  },
  preparing: { ...upgrading('preparing'), ready: to('copying', 'copy') },
  copying: { ...upgrading('copying'), copied: to('preloading', 'preload'), 'forced-deadline': force },
  preloading: { ...upgrading('preloading'), preloaded: to('arming', 'arm') },
  arming: { ...upgrading('arming'), armed: to('yielding', 'yield') },
  yielding: {
    took: to('trial', 'swap-roles', 'begin-trial', 'freeze-old'),
    // the current one may have parked already: resuming is right either way, once the candidate is dead
    'next-failed': to('running', 'kill-next', 'resume-current', 'call-off'),
    'next-died': to('running', 'kill-next', 'resume-current', 'call-off'),
    deadline: to('running', 'kill-next', 'resume-current', 'call-off'),
    'forced-deadline': force,
    'current-failed': to('running', 'kill-next', 'call-off'),
    'current-died': to('orphaned'),
    'next-orphaned': bothGone,
    unhealthy: to('yielding', 'note'),
    stop: to('stopping', 'kill-next', 'resume-current', 'call-off', 'stop-current'),
  },
  orphaned: {
    took: to('proving', 'promote', 'begin-trial'),
    'next-failed': bothGone,
    'next-died': bothGone,
    'next-orphaned': bothGone,
    deadline: bothGone,
    'forced-deadline': bothGone,
    stop: to('idle', 'safe-levels', 'kill-next', 'call-off', 'stopped'),
  },
  trial: {
    // HANDOVER 7.5
    proved: to('running', 'commit', 'kill-old'),
    unhealthy: to('undoing', 'hand-back'),
    lost: back,
    'current-failed': back,
    'current-died': back,
    'old-died': to('proving', 'note'),
    stop: to('stopping', 'kill-old', 'failed', 'stop-current'),
  },
  undoing: {
    'handed-back': to('resuming', 'fill-inbox', 'kill-current', 'resume-old'),
    lost: back,
    deadline: back,
    'current-failed': back,
    'current-died': back,
    'old-died': lostBoth,
    stop: to('stopping', 'kill-old', 'undone', 'stop-current'),
  },
  resuming: {
    resumed: to('running', 'undone'),
    'current-failed': lostBoth,
    'current-died': lostBoth,
    deadline: lostBoth,
    stop: to('stopping', 'undone', 'stop-current'),
  },
  forcing: {
    'current-died': to('starting', 'safe-levels', 'start-next'),
    'next-died': bothGone,
    stop: to('idle', 'safe-levels', 'kill-current', 'kill-next', 'call-off', 'stopped'),
  },
  stopping: {
    'current-died': to('idle', 'safe-levels', 'stopped'),
    deadline: to('stopping', 'kill-current'),
  },
  cooling: {
    launch: to('starting', 'cancel-restart', 'spawn-next'),
    cooled: to('restarting', 'spawn-next'),
    stop: to('idle', 'cancel-restart', 'stopped'),
  },
}

/** Never throws: an event that has no cell leaves the state as it is. */
export function step(state: State, event: Event): Step {
  if (event === 'halt' || event === 'unfenced') return everywhere[event]
  return TABLE[state][event] ?? { state, actions: [] }
}
