/** The code, the sentence and the next command for every way in which a program or an upgrade ends. */
import type { Outcome } from '../../../deploy/shared/api.ts'
import type { RefusalCode } from '../../../deploy/shared/errors.ts'
import type { Timing } from '../../../drivers/board/types.ts'
import type { Entered } from '../../sdk/wire.ts'
import type { Cause } from './cause.ts'
import type { Reason } from './lifecycle.ts'
import { causeText, durationText } from './said.ts'
import type { Upgrade } from './upgrade.ts'

/** What is known when a program or an upgrade ends. */
export interface Evidence {
  /** What the program said, or the body's error. */
  readonly said: Cause | null
  /** Exit code or signal, where the program has ended. */
  readonly ending: string | null
  /** Why the old program does not yield (HANDOVER 6.10). */
  readonly held: string | null
  /** Length in ms of the deadline that was missed; null when the event is no deadline. */
  readonly deadlineMs: number | null
  /** How far the candidate came in its first rehearsal. */
  readonly entered: Entered | null
  /** How long the program that holds the lease ran, in ms; null when there is none. */
  readonly ranMs: number | null
}

/** Which code of the author has not returned. */
const STUCK: Readonly<Record<Entered, string>> = {
  run: ': run has not returned',
  every: ': the function given to every() has not returned',
  rehearsed: '',
}

/** Code and sentence of a reason; the program's words are kept apart from the sentence (HANDOVER 3.9). */
export function causeOf(
  reason: Reason,
  { said, ending, held, deadlineMs, entered, ranMs }: Evidence,
  timing: Timing,
): Cause {
  const cause = (code: RefusalCode, message: string): Cause => ({ code, message })
  const ended = (text: string): string => (ending === null ? text : `${text} (${ending})`)
  const within = `within ${Math.round(deadlineMs ?? 0)} ms`
  /** The body's own error, or `text` with the program's words. `code` wins over the program's code, `otherwise` is the last choice. */
  const stated = (otherwise: RefusalCode, text: string, code?: RefusalCode): Cause => {
    if (said === null) return cause(code ?? otherwise, text)
    if (said.said === undefined) return { ...said, code: code ?? said.code }
    return { code: code ?? said.code, message: text, said: said.said }
  }
  const ran = (message: string, rest: Omit<Cause, 'message'>): Cause => ({ message, ...rest, ...(ranMs && { ranMs }) })
  switch (reason) {
    case 'never-ready':
      return cause('never-ready', `the program was not ready ${within}${STUCK[entered ?? 'rehearsed']}`)
    case 'no-copy':
    case 'no-yield': {
      const late = cause('yield-timeout', `the old program did not yield ${within}`)
      return held === null ? late : { ...late, said: held }
    }
    case 'not-loaded':
      return cause(
        'takeover-failed',
        `the new program did not load the old one's state ${within}${STUCK[entered ?? 'rehearsed']}`,
      )
    case 'not-armed':
      return cause('takeover-failed', `the new program did not say ${within} that it waits for the handover`)
    case 'no-takeover':
      return cause('takeover-failed', `the old program yielded, and the new one did not take over ${within}`)
    case 'no-state-back':
      return cause('takeover-failed', `the new program did not give its state back ${within}`)
    case 'not-resumed':
      return cause('takeover-failed', `the old program did not go on ${within}`)
    case 'not-stopped':
      return cause('takeover-failed', `the program did not stop ${within}, and was killed`)
    case 'not-spawned':
      return said ?? cause('internal', 'the program could not be started')
    case 'not-written':
      return cause('internal', `the commit could not be written: ${said?.message ?? 'unknown error'}`)
    case 'ended-at-start':
      return stated('died-at-start', ended('the program ended before it was ready'))
    case 'ended-in-takeover':
      return stated('takeover-failed', ended('the new program ended before it took over'))
    case 'ended-in-trial':
      return stated('died-in-trial', ended('the new program ended in its trial'), 'died-in-trial')
    case 'old-ended':
      return stated('takeover-failed', ended('the old program ended during the swap'))
    case 'crashed': {
      const { message, ...rest } = stated('crashed', 'crashed', 'crashed')
      return ran(ended(`${message}${ranMs === null ? '' : ` after ${durationText(ranMs)}`}`), rest)
    }
    case 'silent': {
      const { message, ...rest } = said ?? cause('heartbeat-lost', `no heartbeat for ${timing.heartbeatMs} ms`)
      return ran(ranMs === null ? message : `${message}, after it ran for ${durationText(ranMs)}`, rest)
    }
    case 'unfit':
      return stated('unhealthy', 'the program finds itself unfit')
    case 'interrupted':
      return cause('interrupted', 'the slot was stopped during the swap')
    case 'estopped':
      return cause('estopped', 'the emergency stop was given')
    case 'unfenced':
      return said ?? cause('fence-failed', 'a program could be neither stopped nor ended')
  }
}

/** Which program may hang when an upgrade or a program ends for this reason; null: none. */
export function hangingRole(reason: Reason): 'current' | 'next' | null {
  if (reason === 'silent') return 'current'
  return reason === 'never-ready' || reason === 'not-loaded' || reason === 'no-takeover' ? 'next' : null
}

/** A failed upgrade is rolled back; one that was interrupted, or that the old program did not yield to, is called off. */
export function outcomeOf(code: RefusalCode): Outcome {
  return code === 'interrupted' || code === 'estopped' || code === 'yield-timeout' ? 'called-off' : 'rolled-back'
}

export function describeOutcome(
  upgrade: Upgrade,
  outcome: Outcome,
  running: string | null,
  isRestartDue: boolean,
): { message: string; hint?: string } {
  const { to, cause, notes } = upgrade
  const name = `${to.program} ${to.version}`
  if (outcome === 'committed') return { message: [`${name} runs`, ...notes].join('; ') }
  const after = isRestartDue ? 'the program before it is started again' : 'nothing runs'
  const now = running === null ? `outputs are at their safe levels, ${after}` : `${running} runs on`
  const why = cause === null ? 'for an unknown reason' : causeText(cause)
  if (cause?.code === 'yield-timeout') {
    const hint = 'medulla push --force kills the old program and starts the new one from the last checkpoint'
    return { message: `${why}; ${now}`, hint }
  }
  return { message: `${name} was undone: ${why}; ${now}`, hint: 'medulla logs shows what it wrote' }
}
