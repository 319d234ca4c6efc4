/** The robot's Noise and age keys: new ones by an owner's order, and the end of retired ones (HANDOVER 19.7, 19.8). */
import type { SignedCertificate } from '../../../deploy/shared/cert.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import type { Bundles } from '../../store/bundles.ts'
import type { Home } from '../../store/home.ts'
import type { Operator } from '../../store/operators.ts'
import { forgetRetired } from '../../store/rotation.ts'
import { plainEntry, type ReceiptEntry } from '../slot/entries.ts'
import { Bucket } from './receiptlimit.ts'

/** Each rotation ends all sessions and starts the endpoint again. */
const ROTATIONS = { burst: 3, perMinute: 1 }

/** What RobotKeys needs of the body. */
interface Parts {
  readonly home: Home
  readonly bundles: Bundles
  readonly ledger: { record(entry: ReceiptEntry): Promise<unknown> }
}

export class RobotKeys {
  readonly #robot: Parts
  readonly #rotations = new Bucket(ROTATIONS, () => performance.now())
  /** Rotations and removals of retired keys run one after the other. */
  #last: Promise<unknown> = Promise.resolve()

  constructor(robot: Parts) {
    this.#robot = robot
  }

  /** Returns the new certificate. The endpoint has the old keys until it is started again. */
  rotate(by: Operator): Promise<SignedCertificate> {
    return this.#inTurn(async () => {
      if (this.#rotations.tokens < 1) {
        throw new Refusal('in-progress', 'the keys were rotated a moment ago', 'try again in a minute')
      }
      this.#rotations.take()
      const { home, bundles, ledger } = this.#robot
      const card = await home.rotate(await bundles.list())
      const reason = 'keys: the robot has a new channel key and a new age key'
      await ledger.record(plainEntry('all', 'changed', 0, { reason, pusher: by.fingerprint }))
      return card
    })
  }

  /** To be called when releases were removed from the store. */
  forgetRetired(): Promise<number> {
    return this.#inTurn(async () => {
      const { home, bundles } = this.#robot
      return forgetRetired(home.dir, new Set(await bundles.list()))
    })
  }

  #inTurn<T>(step: () => Promise<T>): Promise<T> {
    const done = this.#last.then(step)
    this.#last = done.catch(() => {})
    return done
  }
}
