/** Tries the attacks one after the other, and compares the robot's state before and after each attack. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Refusal } from '../../shared/errors.ts'
import type { RobotClient } from '../client.ts'
import { type Attack, NotPossible, type Scene } from './attackers.ts'
import {
  type Answer,
  differences,
  readState,
  receiptsSince,
  type TrustedState,
  unexpectedReceipts,
  type Verdict,
  verdictOf,
} from './truststate.ts'

export interface Tried {
  readonly attack: Attack
  readonly answer: Answer
  readonly verdict: Verdict
  /** differences of the robot's state, one line each */
  readonly changes: readonly string[]
  readonly ms: number
}
export interface NotTried {
  readonly attack: Attack
  readonly reason: string
}
export type Result = Tried | NotTried

export const isTried = (result: Result): result is Tried => 'verdict' in result

/** An attack that the robot has not answered after this time was not refused. */
const LONGEST_MS = 60_000
const RETRIES = 10
const RETRY_MS = 1000

/** `robotKey` verifies the receipts. Ends early when `signal` is aborted, or when the robot no longer answers its owner. */
export async function* tryAll(
  attacks: readonly Attack[],
  scene: Scene,
  robotKey: string,
  starting: (attack: Attack) => void,
  signal: AbortSignal,
): AsyncGenerator<Result, void> {
  const { client } = scene.owner
  const session = watchSession(client)
  try {
    let state = await readState(client)
    for (const attack of attacks) {
      if (signal.aborted) return
      starting(attack)
      const start = performance.now()
      const answer = await tryOne(attack, scene)
      if (typeof answer !== 'string') {
        yield { attack, reason: answer.message }
        continue
      }
      const after = await stateAfter(client)
      const changes =
        after === null
          ? ['the robot does not answer its owner any more']
          : await changesOf(client, robotKey, state, after)
      if (session.ended()) changes.push("the owner's open session was ended")
      const verdict = verdictOf(attack.expected, answer, changes)
      yield { attack, answer, verdict, changes, ms: performance.now() - start }
      if (after === null) return
      state = after
    }
  } finally {
    session.close()
  }
}

async function tryOne(attack: Attack, scene: Scene): Promise<Answer | NotPossible> {
  const over = new AbortController()
  try {
    return await Promise.race([attack.run(scene), sleep(LONGEST_MS, 'left-open' as const, { signal: over.signal })])
  } catch (error) {
    if (error instanceof NotPossible) return error
    if (error instanceof Refusal) return error.code
    throw error
  } finally {
    over.abort()
  }
}

/** Null when the robot does not answer for {@link RETRIES} seconds. */
async function stateAfter(client: RobotClient): Promise<TrustedState | null> {
  for (let left = RETRIES; left > 0; left--) {
    try {
      return await readState(client)
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      await sleep(RETRY_MS)
    }
  }
  return null
}

/** Differences of the two states, and of the receipts in between, which also show changes that were undone. */
export async function changesOf(
  client: RobotClient,
  robotKey: string,
  before: TrustedState,
  after: TrustedState,
  expected?: readonly string[],
): Promise<string[]> {
  const changes = differences(before, after)
  try {
    const receipts = await receiptsSince(client, robotKey, before.head, after.head)
    return [...changes, ...unexpectedReceipts(receipts, expected)]
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    return [...changes, error.message]
  }
}

/**
 * Keeps one request of the owner open: when the robot's endpoint dies and is restarted, only the end of this request shows
 * it.
 */
function watchSession(client: RobotClient): { ended(): boolean; close(): void } {
  const abort = new AbortController()
  let ended = false
  const follow = async () => {
    for await (const _ of client.logs(null, { lines: 0, follow: true, signal: abort.signal }));
  }
  follow()
    .catch(() => {})
    .finally(() => {
      ended = true
    })
  return { ended: () => ended, close: () => abort.abort() }
}
