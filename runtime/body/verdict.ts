/** Invariant: every way an upgrade can end has one code, one sentence and one next command. */
import type { Outcome } from '../../deploy/api.ts'
import type { RefusalCode } from '../../deploy/errors.ts'
import type { Event, State } from './lifecycle.ts'
import type { Cause, Upgrade } from './upgrade.ts'

type Timing = { readyMs: number; yieldMs: number; heartbeatMs: number }

/**
 * What an event means in this state, for the upgrade if there is one; `said` is what the program itself said, if anything,
 * `ending` its exit code or signal. Null: nothing is wrong.
 */
export function causeOf(
  state: State,
  event: Event,
  { said, ending }: { said: Cause | null; ending: string | null },
  upgrade: Pick<Upgrade, 'held'> | null,
  t: Timing,
): Cause | null {
  const held = upgrade?.held ?? null
  const cause = (code: RefusalCode, message: string): Cause => ({ code, message })
  const ended = (text: string): string => (ending === null ? text : `${text} (${ending})`)
  switch (event) {
    case 'deadline':
    case 'forced-deadline':
      if (state === 'starting' || state === 'restarting' || state === 'preparing') {
        return cause('never-ready', `the program was not ready within ${t.readyMs} ms`)
      }
      if (state === 'copying' || state === 'yielding' || state === 'orphaned') {
        const why = held === null ? '' : `; it says: ${held}`
        return cause('yield-timeout', `the old program did not yield within ${t.yieldMs} ms${why}`)
      }
      return cause('takeover-failed', `no answer in state ${state}`)
    case 'next-died':
    case 'next-failed':
      if (said !== null) return said
      return state === 'starting' || state === 'preparing'
        ? cause('died-at-start', ended('the program ended before it was ready'))
        : cause('takeover-failed', ended('the new program ended before it took over'))
    case 'current-died':
    case 'current-failed':
      if (said?.code === 'internal') return said
      if (state === 'stopping') return null
      if (upgrade === null) return cause('crashed', said?.message ?? ended('the program ended by itself'))
      if (state === 'trial' || state === 'proving' || state === 'undoing') {
        return cause('died-in-trial', said?.message ?? ended('the new program ended in its trial'))
      }
      return said ?? cause('takeover-failed', ended('the old program ended during the swap'))
    case 'lost':
      if (said?.code === 'too-late' || said?.code === 'left-cgroup') return said
      return cause('heartbeat-lost', `no heartbeat for ${t.heartbeatMs} ms`)
    case 'unhealthy':
      return said ?? cause('unhealthy', 'the program says that it is not healthy')
    case 'stop':
      return upgrade === null ? null : cause('interrupted', 'the slot was stopped during the swap')
    case 'halt':
      return cause('estopped', 'the emergency stop was given')
    case 'unfenced':
      return said ?? cause('fence-failed', 'a program could be neither stopped nor ended')
    default:
      return null
  }
}

/** Whether it says nothing against the new program, which may be pushed again as it is. */
export function blameless(state: State, event: Event, code: RefusalCode): boolean {
  if (code === 'yield-timeout' || code === 'interrupted' || code === 'estopped' || code === 'fence-failed') return true
  // it could not be started, or not be written to disk
  if (event === 'next-failed' && code === 'internal') return true
  if (
    state !== 'preparing' &&
    state !== 'copying' &&
    state !== 'preloading' &&
    state !== 'arming' &&
    state !== 'yielding'
  ) {
    return false
  }
  // the old program failed, or what it handed over was not what it said
  return event.startsWith('current-') || event === 'lost' || (code === 'bad-state' && state !== 'preparing')
}

export function describeOutcome(
  upgrade: Upgrade,
  outcome: Outcome,
  running: string | null,
): { message: string; hint?: string } {
  const { to, cause, notes } = upgrade
  const name = `${to.program} ${to.version}`
  if (outcome === 'committed') return { message: [`${name} runs`, ...notes].join('; ') }
  const now = running === null ? 'nothing runs, outputs are at their safe levels' : `${running} runs on`
  const why = cause === null ? 'for an unknown reason' : cause.message
  if (cause?.code === 'yield-timeout') {
    const hint = 'medulla push --force kills the old program and starts the new one from the last checkpoint'
    return { message: `${why}; ${now}`, hint }
  }
  return { message: `${name} was undone: ${why}; ${now}`, hint: 'medulla logs shows what it wrote' }
}
