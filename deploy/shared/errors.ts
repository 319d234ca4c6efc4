/** Refusals: each has a code that scripts can match, a message with the cause, and a hint for the next step. */
export const REFUSAL_CODES = [
  // who
  'unknown-operator',
  'revoked-key',
  'role',
  'no-key',
  'passphrase',
  'unknown-robot',
  'robot-mismatch',
  'unsafe-home',
  'not-pairing',
  'wrong-code',
  // installation
  'needs-root',
  'no-systemd',
  'unfit-machine',
  'not-written',
  // bytes
  'bad-bundle',
  'unknown-format',
  'too-large',
  'truncated',
  'bad-hash',
  'unsigned',
  'bad-signature',
  'wrong-robot',
  // policy
  'not-newer',
  'ahead-of-clock',
  'already-installed',
  'not-reproduced',
  'tried-before',
  'expired',
  'wrong-arch',
  'wrong-node',
  'wrong-slot',
  'wrong-wire',
  'wrong-packages',
  // hardware
  'missing-handle',
  'wrong-kind',
  'handle-leased',
  'bad-board',
  'bad-device',
  'unsupported',
  'bad-scenario',
  'unconfined',
  'missing-config',
  // moment
  'in-progress',
  'minimal',
  'estopped',
  'not-running',
  'bad-param',
  'nothing-to-roll-back',
  'stale-order',
  'not-found',
  'body-away',
  // executed, then undone
  'never-ready',
  'died-at-start',
  'died-in-trial',
  'heartbeat-lost',
  'unhealthy',
  'migrate-failed',
  'bad-state',
  'yield-timeout',
  'takeover-failed',
  'fence-failed',
  'too-late',
  'left-cgroup',
  // afterwards
  'crashed',
  // simulated
  'scenario-failed',
  'scenario-timeout',
  // laptop
  'usage',
  'build-failed',
  'unreachable',
  'port-in-use',
  'interrupted',
  'internal',
] as const
export type RefusalCode = (typeof REFUSAL_CODES)[number]

/** Sent over HTTP and IPC as `{code, message, hint}`. Messages are lower case and never contain a secret. */
export class Refusal extends Error {
  readonly code: RefusalCode
  /** The next command to type, or what to change. */
  readonly hint: string | undefined
  constructor(code: RefusalCode, message: string, hint?: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'Refusal'
    this.code = code
    this.hint = hint
  }
}

/** Hints for refusals that come without a hint. */
const HINTS: Readonly<Partial<Record<RefusalCode, string>>> = {
  usage: 'medulla --help',
  'revoked-key': 'make another key: medulla keygen',
  'no-key': 'choose another key with --key FILE, or make one: medulla keygen',
  'unknown-robot': 'medulla robots',
  'robot-mismatch': 'medulla robots',
  'already-installed': 'medulla status',
  'missing-handle': 'medulla pinout shows the handles of the robot',
  'missing-config': 'medulla config',
  'not-running': 'medulla status',
  minimal: 'medulla runtime',
  'in-progress': 'medulla status',
  'bad-param': 'medulla param',
  'not-found': 'medulla status',
  'bad-signature': "do not trust these data; medulla receipts --verify checks the robot's log",
  'stale-order': 'give the order again',
  crashed: 'medulla logs',
  unreachable: 'medulla robots shows which robots answer',
  'scenario-failed': 'medulla sim --help',
}

/** What a person can do about the refusal: its own hint, or the one of its code. */
export const hintOf = ({ code, hint }: Pick<Refusal, 'code' | 'hint'>): string | undefined => hint ?? HINTS[code]
