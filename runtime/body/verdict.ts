/** Invariant: every way an upgrade can end has one code, one sentence and one next command. */
import type { Outcome } from '../../deploy/api.ts'
import type { RefusalCode } from '../../deploy/errors.ts'
import type { Timing } from '../../drivers/board.ts'
import type { Reason } from './lifecycle.ts'
import type { Cause, Upgrade } from './upgrade.ts'

/** What is known when something ends. */
export interface Evidence {
  /** What the program itself said, or the error that the body met. */
  readonly said: Cause | null
  /** Exit code or signal of a program that has ended. */
  readonly ending: string | null
  /** Why the old program does not yield (HANDOVER 6.10). */
  readonly held: string | null
  /** Length in ms of the deadline that has passed; null when the event is no deadline. */
  readonly deadlineMs: number | null
}

/** Code and sentence of a reason. What a program said about its own end stays, as the sentence. */
export function causeOf(reason: Reason, { said, ending, held, deadlineMs }: Evidence, timing: Timing): Cause {
  const cause = (code: RefusalCode, message: string): Cause => ({ code, message })
  const ended = (text: string): string => (ending === null ? text : `${text} (${ending})`)
  const within = `within ${Math.round(deadlineMs ?? 0)} ms`
  switch (reason) {
    case 'never-ready':
      return cause('never-ready', `the program was not ready ${within}`)
    case 'no-copy':
    case 'no-yield':
      return cause(
        'yield-timeout',
        `the old program did not yield ${within}${held === null ? '' : `; it says: ${held}`}`,
      )
    case 'not-loaded':
      return cause('takeover-failed', `the new program did not load the old one's state ${within}`)
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
      return said ?? cause('died-at-start', ended('the program ended before it was ready'))
    case 'ended-in-takeover':
      return said ?? cause('takeover-failed', ended('the new program ended before it took over'))
    case 'ended-in-trial':
      return cause('died-in-trial', said?.message ?? ended('the new program ended in its trial'))
    case 'old-ended':
      return said ?? cause('takeover-failed', ended('the old program ended during the swap'))
    case 'crashed':
      return cause('crashed', said?.message ?? ended('the program ended by itself'))
    case 'silent':
      return said ?? cause('heartbeat-lost', `no heartbeat for ${timing.heartbeatMs} ms`)
    case 'unfit':
      return said ?? cause('unhealthy', 'the program says that it is not healthy')
    case 'interrupted':
      return cause('interrupted', 'the slot was stopped during the swap')
    case 'estopped':
      return cause('estopped', 'the emergency stop was given')
    case 'unfenced':
      return said ?? cause('fence-failed', 'a program could be neither stopped nor ended')
  }
}

/** A swap that never began in earnest is called off; every other one that failed is rolled back. */
export function outcomeOf(code: RefusalCode): Outcome {
  return code === 'interrupted' || code === 'estopped' || code === 'yield-timeout' ? 'called-off' : 'rolled-back'
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
