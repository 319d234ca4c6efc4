/**
 * A model of a slot that knows nothing of the lifecycle table: which programs there are, what they were asked for, who may
 * write, and what an event says by itself. slotverdicts.ts says why an event ends something, slotactions.ts plays actions.
 */
import type { Event, Reason, State } from '../../../../runtime/body/slot/lifecycle.ts'

/** What a program was asked for and has not done yet. */
export type Asked =
  | 'spawn'
  | 'start'
  | 'copy'
  | 'preload'
  | 'arm'
  | 'yield'
  | 'take'
  | 'commit'
  | 'hand-back'
  | 'resume'
  | 'stop'

export interface World {
  /** `yielding`: it may write, and may have parked already. `ending`: killed, its exit is not seen yet. */
  current: 'live' | 'yielding' | 'parked' | 'resuming' | 'ending' | 'dead' | null
  next: 'loading' | 'live' | 'dead' | null
  old: 'parked' | 'frozen' | 'dead' | null
  /** The current program is the candidate of the open upgrade. */
  isNew: boolean
  asked: Asked | null
  inTrial: boolean
  hasGivenBack: boolean
  /** The monitor waits for heartbeats of the current program. */
  watched: boolean
  /** `from`: a program was running, or about to be restarted, when the upgrade began. */
  upgrade: { from: boolean; cause: Reason | null } | null
  restartTimer: boolean
  waits: 'no' | 'now' | 'before'
  /** There is a committed program, and nobody has stopped it. */
  wanted: boolean
  startDue: boolean
  /** A program may have written to an output since the safe levels. */
  driven: boolean
  frozen: boolean
  /** Somebody waits for the slot to be stopped. */
  stopAsked: boolean
  closed: boolean
}

export const NEW_SLOT: World = {
  current: null,
  next: null,
  old: null,
  isNew: false,
  asked: null,
  inTrial: false,
  hasGivenBack: false,
  watched: false,
  upgrade: null,
  restartTimer: false,
  waits: 'no',
  wanted: false,
  startDue: false,
  driven: false,
  frozen: false,
  stopAsked: false,
  closed: false,
}

export const alive = (program: string | null): boolean => program !== null && program !== 'dead'
export const nothingRuns = (w: World): boolean => !alive(w.current) && !alive(w.next) && !alive(w.old)

/** The only state that describes this world. */
export function stateOf(w: World): State | 'none' {
  if (w.closed) return 'closed'
  if (w.asked === 'stop') return 'stopping'
  if (w.current === 'ending') return 'forcing'
  if (nothingRuns(w)) return w.restartTimer ? 'cooling' : w.waits === 'now' ? 'waiting' : 'idle'
  if (!alive(w.current)) return w.asked === 'take' ? 'orphaned' : w.upgrade === null ? 'restarting' : 'starting'
  if (w.asked === 'commit') return alive(w.old) ? 'committing' : 'committing-alone'
  if (w.asked === 'hand-back') return 'undoing'
  if (w.asked === 'resume') return 'resuming'
  if (w.inTrial) return alive(w.old) ? 'trial' : 'proving'
  if (alive(w.next)) return PREPARES[w.asked ?? 'stop'] ?? 'none'
  return w.upgrade === null && w.current === 'live' ? 'running' : 'none'
}
const PREPARES: Partial<Record<Asked, State>> = {
  spawn: 'preparing',
  copy: 'copying',
  preload: 'preloading',
  arm: 'arming',
  yield: 'yielding',
  take: 'taking-over',
}

const ANSWERS: Record<Asked, readonly Event[]> = {
  spawn: ['ready'],
  start: ['started'],
  copy: ['copied'],
  preload: ['preloaded'],
  arm: ['armed'],
  // The body may read the candidate's `took` before the old program's `yielded`.
  yield: ['yielded', 'took'],
  take: ['took'],
  commit: ['committed'],
  'hand-back': ['yielded'],
  resume: ['resumed'],
  stop: ['current-died'],
}

/** What comes when every program does what it was asked for, and every timer that was set runs out. */
export function answers(w: World): readonly Event[] {
  if (w.asked !== null) return ANSWERS[w.asked]
  if (w.inTrial) return ['proved']
  if (w.current === 'ending') return ['current-died']
  if (w.restartTimer) return ['cooled']
  return w.startDue ? ['start'] : []
}

/** Events that can come in this world and must not be lost. */
export function due(w: World): Event[] {
  const { asked, current } = w
  if (w.closed) return []
  // While a commit is being written no other event is handled.
  if (asked === 'commit') return ['committed', 'commit-failed']
  const events: Event[] = ['halt', 'unfenced', 'close', ...answers(w)]
  const idle = w.upgrade === null && asked === null && !w.startDue
  if (asked !== 'stop') events.push('stop')
  if (asked !== null) events.push('deadline')
  if (w.upgrade !== null && asked !== null) events.push('forced-deadline')
  if (idle) events.push('launch')
  if (idle && nothingRuns(w) && !w.restartTimer) events.push('start')
  // At boot only, before anything else has happened in the slot.
  if (JSON.stringify(w) === JSON.stringify(NEW_SLOT)) events.push('adopt')
  if (alive(w.next)) {
    events.push('next-failed', 'next-died')
    if (current !== 'ending') events.push('bad-copy')
    if (asked === 'yield' || asked === 'take') events.push('next-orphaned')
    if (asked === 'spawn' || asked === 'start') events.push('spawn-failed')
    if (asked === 'spawn' && w.upgrade === null) events.push('refused', 'nothing-stored')
  }
  if (alive(current)) {
    events.push('current-died')
    if (asked !== 'stop' && current !== 'ending') events.push('current-failed')
    if (asked !== 'stop' && asked !== 'hand-back' && (current === 'live' || current === 'yielding')) {
      events.push('unhealthy')
    }
    // Where the deadline is on the current program itself, the heartbeat adds nothing.
    if (w.watched && asked !== 'yield' && asked !== 'resume') events.push('lost')
  }
  if (alive(w.old)) events.push('old-died')
  return events
}

/** What an event says by itself, before any action. */
export function happen(before: World, event: Event): World {
  const w = structuredClone(before)
  if (event !== 'yielded' && answers(w).includes(event)) w.asked = null
  switch (event) {
    case 'launch':
      w.upgrade = { from: alive(w.current) || w.restartTimer, cause: null }
      if (w.waits === 'now') w.waits = 'before'
      break
    case 'start':
      Object.assign(w, { startDue: false, wanted: true, waits: w.waits === 'no' ? 'no' : 'before' })
      break
    case 'adopt':
      Object.assign(w, { current: 'live', wanted: true, driven: true })
      break
    case 'yielded':
      if (w.asked === 'hand-back') Object.assign(w, { hasGivenBack: true, asked: null })
      else Object.assign(w, { current: 'parked', asked: 'take' })
      break
    case 'took':
      w.next = 'live'
      if (alive(w.current)) w.current = 'parked'
      break
    case 'resumed':
      w.current = 'live'
      break
    case 'current-failed':
      // A program that cannot write its state goes on as if it had not been asked (HANDOVER 6.8).
      if (w.current === 'yielding') w.current = 'live'
      break
    case 'current-died':
      w.current = 'dead'
      if (w.asked === 'yield') w.asked = 'take'
      break
    case 'next-died':
      w.next = 'dead'
      break
    case 'old-died':
      w.old = 'dead'
      break
    case 'proved':
      w.inTrial = false
      break
    case 'cooled':
      w.restartTimer = false
      break
    case 'nothing-stored':
      Object.assign(w, { next: null, asked: null, wanted: false })
      break
    case 'commit-failed':
      w.asked = null
      break
    case 'stop':
    case 'halt':
      w.stopAsked = true
      break
    case 'unfenced':
      // A robot that cannot fence starts nothing by itself.
      Object.assign(w, { wanted: false, startDue: false, waits: w.waits === 'no' ? 'no' : 'before' })
      break
    case 'close':
      w.closed = true
  }
  return w
}
