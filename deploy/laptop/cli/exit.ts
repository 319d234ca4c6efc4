/** Exit codes: a script can tell from the code alone whether a program ran, and whether it still runs. */
import type { Outcome } from '../../shared/api.ts'
import type { RefusalCode } from '../../shared/errors.ts'

/** The one table of exit codes; `medulla --help` prints it. */
export const EXIT = {
  ok: 0,
  internal: 1,
  usage: 2,
  refused: 3,
  undone: 4,
  unreachable: 5,
  build: 6,
  failed: 7,
  timeout: 8,
  interrupted: 130,
} as const
export type ExitName = keyof typeof EXIT

export const EXIT_MEANING: Readonly<Record<ExitName, string>> = {
  ok: 'done; for push and run: the new program is committed, or was running already',
  internal: 'a fault in medulla itself',
  usage: 'the command line was wrong',
  refused: 'refused before anything was executed',
  undone: 'executed, then undone: the previous program keeps running',
  unreachable: 'the robot did not answer, or the connection was lost',
  build: 'the program could not be built',
  failed: 'a scenario failed, or its program crashed or logged a text that it must not',
  timeout: 'a scenario had not passed when its time was over, or its program blocked the simulation',
  interrupted: 'interrupted with Ctrl-C',
}

const NAMES: Readonly<Record<RefusalCode, ExitName>> = {
  'unknown-operator': 'refused',
  'revoked-key': 'refused',
  role: 'refused',
  'no-key': 'refused',
  passphrase: 'refused',
  'unknown-robot': 'refused',
  'robot-mismatch': 'refused',
  'unsafe-home': 'refused',
  'not-pairing': 'refused',
  'wrong-code': 'refused',
  'needs-root': 'refused',
  'no-systemd': 'refused',
  'unfit-machine': 'refused',
  'not-written': 'refused',
  'bad-bundle': 'refused',
  'unknown-format': 'refused',
  'too-large': 'refused',
  truncated: 'refused',
  'bad-hash': 'refused',
  unsigned: 'refused',
  'bad-signature': 'refused',
  'wrong-robot': 'refused',
  'not-newer': 'refused',
  'ahead-of-clock': 'refused',
  'already-installed': 'ok', // the robot runs exactly these bytes
  'tried-before': 'refused',
  'not-reproduced': 'refused',
  expired: 'refused',
  'wrong-arch': 'refused',
  'wrong-node': 'refused',
  'wrong-slot': 'refused',
  'wrong-wire': 'refused',
  'wrong-packages': 'refused',
  'missing-handle': 'refused',
  'wrong-kind': 'refused',
  'handle-leased': 'refused',
  'bad-board': 'refused',
  unsupported: 'refused',
  'bad-device': 'refused',
  unconfined: 'refused',
  'missing-config': 'refused',
  minimal: 'refused',
  estopped: 'refused',
  'too-late': 'undone',
  'left-cgroup': 'undone',
  crashed: 'undone',
  'in-progress': 'refused',
  'not-running': 'refused',
  'bad-param': 'refused',
  'nothing-to-roll-back': 'refused',
  'stale-order': 'refused',
  'not-found': 'refused',
  'body-away': 'unreachable',
  'never-ready': 'undone',
  'died-at-start': 'undone',
  'died-in-trial': 'undone',
  'heartbeat-lost': 'undone',
  unhealthy: 'undone',
  'migrate-failed': 'undone',
  'bad-state': 'undone',
  'yield-timeout': 'undone',
  'takeover-failed': 'undone',
  'fence-failed': 'undone',
  usage: 'usage',
  'build-failed': 'build',
  'bad-scenario': 'usage',
  'scenario-failed': 'failed',
  'scenario-timeout': 'timeout',
  unreachable: 'unreachable',
  'port-in-use': 'refused',
  interrupted: 'interrupted',
  internal: 'internal',
}

export function exitForCode(code: RefusalCode): number {
  return EXIT[NAMES[code] ?? 'internal']
}

const GOOD: readonly Outcome[] = ['committed', 'stopped', 'started', 'restarted', 'estopped', 'released']

/**
 * The exit code of a push, rollback or stop. What happened to the program decides; the code of a refusal only where nothing
 * ran.
 */
export function exitForOutcome(outcome: Outcome, code: RefusalCode | undefined): number {
  if (GOOD.includes(outcome)) return EXIT.ok
  if (outcome === 'rolled-back' || outcome === 'called-off' || outcome === 'crashed') return EXIT.undone
  return code === undefined ? EXIT.refused : exitForCode(code)
}
