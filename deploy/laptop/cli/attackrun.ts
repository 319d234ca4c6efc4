/** Tries the attacks one after the other, and compares the robot's state before and after each of them. */
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
  /** what is not as it was before */
  readonly changes: readonly string[]
  readonly ms: number
}
export interface NotTried {
  readonly attack: Attack
  readonly reason: string
}
export type Result = Tried | NotTried

export const isTried = (result: Result): result is Tried => 'verdict' in result

/** An attack that takes longer than this, in ms, was not refused. */
const LONGEST_MS = 60_000
const RETRIES = 10
const RETRY_MS = 1000

/** `robotKey` verifies the receipts. Ends early when `signal` is aborted, and when the robot does not answer its owner. */
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
      const came = await tryOne(attack, scene)
      if (typeof came !== 'string') {
        yield { attack, reason: came.message }
        continue
      }
      const after = await stateAfter(client)
      const changes =
        after === null
          ? ['the robot does not answer its owner any more']
          : await changesOf(client, robotKey, state, after)
      if (session.ended()) changes.push("the owner's open session was ended")
      const verdict = verdictOf(attack.expected, came, changes)
      yield { attack, answer: came, verdict, changes, ms: performance.now() - start }
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

/** Null when the robot does not come back. What an attack ended is seen by the session that was open. */
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

/** Also those that only the receipts show: something was done, and undone. */
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

/** One request of the owner's that is open all the time: it ends with the process that serves it. */
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
