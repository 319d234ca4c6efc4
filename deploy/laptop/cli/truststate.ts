/**
 * The state of a robot that no attack may change, and the verdict on an attack. Invariant: an attack counts as refused only if
 * the robot gave the expected answer and this state did not change (test/deploy/laptop/cli/attack.test.ts).
 */
import type { Receipt, SignedReceipt, StatusReport } from '../../shared/api.ts'
import { Refusal, type RefusalCode } from '../../shared/errors.ts'
import { type Head, verifyLog } from '../../shared/receiptlog.ts'
import type { RobotClient } from '../client.ts'

/**
 * The robot's answer to an attack. Without a session a robot gives no codes: it closes the connection, or answers 404.
 * `in-time`: the robot answered its owner within {@link STATUS_MS} during a flood; `late`: it did not.
 */
export type Answer = RefusalCode | 'closed' | 'left-open' | '404' | 'in-time' | 'late' | 'accepted'
export type Verdict = 'refused' | 'otherwise' | 'through'

export interface TrustedState {
  /** Name of a fact, as `main pid`, to its value as JSON text. */
  readonly facts: ReadonlyMap<string, string>
  readonly head: Head
}

/** During a flood, the owner must get the status within this time. */
export const STATUS_MS = 5000

/** Kinds of handles that keep their value while no program holds them. */
const DRIVEN = ['output', 'pwm', 'servo']
const MAX_RECEIPTS = 10_000
/** Receipts that may come between reading the head and reading the log. */
const MARGIN = 64

/** Reads the state with requests of the owner. Throws Refusal as these do. */
export async function readState(client: RobotClient): Promise<TrustedState> {
  const status = await client.status()
  const facts = new Map<string, string>()
  const add = (about: string, value: unknown) => facts.set(about, JSON.stringify(value ?? null))
  for (const key of ['id', 'version', 'board', 'simulated', 'fence', 'limits', 'confined', 'estop'] as const) {
    add(key, status[key])
  }
  for (const slot of status.slots) {
    for (const key of ['state', 'program', 'version', 'digest', 'pid', 'fence', 'restarts', 'previous'] as const) {
      add(`${slot.slot} ${key}`, slot[key])
    }
    add(`${slot.slot} releases`, await releasesOf(client, slot.slot))
    add(`${slot.slot} parameters`, await paramsOf(client, slot.slot))
  }
  for (const { name, role, fingerprint } of await client.operators()) add(`operator ${fingerprint}`, `${name}: ${role}`)
  for (const { name, time, by } of (await client.config()).values) add(`config ${name}`, time && `${time} by ${by}`)
  for await (const pin of client.pins()) {
    if (pin.slot === undefined && DRIVEN.includes(pin.kind)) add(`value of ${pin.name}`, pin.value)
  }
  return { facts, head: status.head }
}

async function releasesOf(client: RobotClient, slot: string): Promise<string[]> {
  return (await client.releases(slot)).map(({ digest }) => digest)
}

/** Null for a slot without a program. */
async function paramsOf(client: RobotClient, slot: string): Promise<unknown> {
  try {
    return (await client.params(slot)).params.map(({ name, value, set }) => [name, value, set])
  } catch (error) {
    if (error instanceof Refusal && error.code === 'not-running') return null
    throw error
  }
}

/** Differences, one line each, as `main pid: 12 became 14`. */
export function differences(before: TrustedState, after: TrustedState): string[] {
  const found: string[] = []
  for (const about of new Set([...before.facts.keys(), ...after.facts.keys()])) {
    const [was, is] = [before.facts.get(about), after.facts.get(about)]
    if (was !== is) found.push(`${about}: ${was ?? 'absent'} became ${is ?? 'absent'}`)
  }
  return found
}

/** Receipts after `seen`, with verified signatures and chain. Throws `bad-signature` when the log does not verify. */
export async function receiptsSince(client: RobotClient, robotKey: string, seen: Head, head: Head): Promise<Receipt[]> {
  const limit = Math.min(MAX_RECEIPTS, Math.max(1, head.seq - seen.seq + 1 + MARGIN))
  const signed: SignedReceipt[] = []
  for await (const entry of client.receipts(limit)) signed.push(entry)
  const receipts = signed.map(({ receipt }) => JSON.parse(receipt) as Receipt)
  const first = receipts[0]?.seq ?? 1
  if (first > Math.max(1, seen.seq)) throw new Refusal('bad-signature', `receipt ${seen.seq} is not in the log`)
  const lines = signed.map((entry) => JSON.stringify(entry))
  const verdict = verifyLog(lines, robotKey, { partial: first !== 1, seen })
  if (!verdict.ok)
    throw new Refusal('bad-signature', `receipt ${first + verdict.problem.line - 1} ${verdict.problem.message}`)
  return receipts.filter(({ seq }) => seq > seen.seq)
}

/**
 * Receipts with an outcome that is not expected, one line each. Refusals may be fewer than attacks: one receipt can count
 * several.
 */
export function unexpectedReceipts(receipts: readonly Receipt[], expected: readonly string[] = ['refused']): string[] {
  return receipts
    .filter(({ outcome }) => !expected.includes(outcome))
    .map(({ seq, slot, outcome, reason }) => `receipt ${seq}: ${slot} ${outcome}${reason ? `, ${reason}` : ''}`)
}

export function verdictOf(expected: Answer, answer: Answer, changes: readonly string[]): Verdict {
  if (answer === 'accepted' || changes.length > 0) return 'through'
  return answer === expected ? 'refused' : 'otherwise'
}

/** Whether the robot withstood all attacks, and the last line of the output. `changes` are those of the whole run. */
export function conclusion(
  verdicts: readonly Verdict[],
  changes: readonly string[],
  notTried = 0,
): { ok: boolean; line: string } {
  const tried = `${verdicts.length} attacks${notTried > 0 ? ` (${notTried} not tried)` : ''}`
  const count = (verdict: Verdict) => verdicts.filter((one) => one === verdict).length
  const [through, otherwise] = [count('through'), count('otherwise')]
  if (verdicts.length === 0) return { ok: false, line: 'no attack was tried' }
  if (through > 0) return { ok: false, line: `${tried}, got through: ${through}` }
  if (otherwise > 0) return { ok: false, line: `${tried}, none got through; not refused as expected: ${otherwise}` }
  if (changes.length > 0) return { ok: false, line: `${tried}, all refused; but the robot's state has changed` }
  return { ok: true, line: `${tried}, all refused; the robot's state is unchanged` }
}

/** Throws Refusal for a real robot, where attacks could hurt people, and for a stopped one, where they would prove nothing. */
export function checkTarget({ name, simulated, estop }: StatusReport): void {
  if (!simulated) {
    const message = `${name} is not simulated: attacks are tried on simulated robots only`
    throw new Refusal('usage', message, 'medulla sim   then, in another terminal:   medulla attack -d sim')
  }
  if (estop === null) return
  throw new Refusal('estopped', `${name} is stopped since ${estop.since}: ${estop.reason}`, 'medulla estop --release')
}
