/** The model's reasons: why an event ends a program or an upgrade, and who is to blame. */
import type { Event, Fault, Reason } from '../../../../runtime/body/slot/lifecycle.ts'
import { type Asked, alive, type World } from './slotmodel.ts'

/** Why an event ends what it ends, and whether the candidate is to blame: null for an event that is no failure. */
export function verdictOf(w: World, event: Event): { reason: Reason; fault: Fault } | null {
  const nobody = (reason: Reason) => ({ reason, fault: 'nobody' as const })
  const candidate = (reason: Reason) => ({
    reason,
    fault: w.upgrade === null ? ('nobody' as const) : ('candidate' as const),
  })
  const starts = w.asked === 'spawn' || w.asked === 'start' || w.current === 'ending'
  const isOrphaned = w.asked === 'take' && !alive(w.current)
  switch (event) {
    case 'halt':
      return nobody('estopped')
    case 'unfenced':
      return nobody('unfenced')
    case 'stop':
      return w.upgrade === null ? null : nobody('interrupted')
    case 'spawn-failed':
    case 'refused':
      return nobody('not-spawned')
    case 'commit-failed':
      return nobody('not-written')
    case 'unhealthy':
      return w.isNew ? candidate('unfit') : nobody('unfit')
    case 'lost':
      return w.isNew ? candidate('silent') : nobody('silent')
    case 'next-orphaned':
      return nobody('old-ended')
    case 'old-died':
      return w.asked === 'hand-back' ? nobody('old-ended') : null
    case 'next-failed':
    case 'next-died':
    case 'bad-copy':
      if (isOrphaned) return nobody('old-ended')
      if (starts) return candidate('ended-at-start')
      // The state that could not be read is the old program's.
      return event === 'bad-copy' ? nobody('ended-in-takeover') : candidate('ended-in-takeover')
    case 'current-failed':
    case 'current-died':
      if (w.isNew) return candidate('ended-in-trial')
      if (w.current === 'ending' || w.asked === 'stop') return null
      // Its candidate may still take over.
      if (event === 'current-died' && (w.asked === 'yield' || w.asked === 'take')) return null
      return nobody(w.upgrade === null ? 'crashed' : 'old-ended')
    case 'forced-deadline':
      return w.asked === 'copy' || w.asked === 'yield' ? null : verdictOf(w, 'deadline')
    case 'deadline':
      if (isOrphaned) return nobody('old-ended')
      return LATE[w.asked ?? 'commit']?.(nobody, candidate) ?? null
    default:
      return null
  }
}
type Verdict = (reason: Reason) => { reason: Reason; fault: Fault }
const LATE: Partial<Record<Asked, (nobody: Verdict, candidate: Verdict) => ReturnType<Verdict>>> = {
  spawn: (_, candidate) => candidate('never-ready'),
  start: (_, candidate) => candidate('never-ready'),
  copy: (nobody) => nobody('no-copy'),
  preload: (_, candidate) => candidate('not-loaded'),
  arm: (_, candidate) => candidate('not-armed'),
  yield: (nobody) => nobody('no-yield'),
  take: (_, candidate) => candidate('no-takeover'),
  'hand-back': (_, candidate) => candidate('no-state-back'),
  resume: (nobody) => nobody('not-resumed'),
  stop: (nobody) => nobody('not-stopped'),
}
