/** The robot's half of SPAKE2 for one attempt, as a function of the code and of what the laptop sent (CHANNEL 9.6). */
import { pairScalar } from '../../../deploy/shared/channel/pairing.ts'
import { type Agreed, agree, makeShare } from '../../../deploy/shared/channel/spake2.ts'

export interface RespondTo {
  readonly code: string
  /** The laptop's share. */
  readonly share: Uint8Array
  /** The exact texts of the operator's and of the robot's certificate. */
  readonly operator: string
  readonly robot: string
  /** Of the handshake. */
  readonly hash: Uint8Array
}

export interface Responded extends Agreed {
  readonly share: Uint8Array
}

/** Throws for a share that is no point of the curve. */
export function respond({ code, share: theirs, operator, robot, hash: aad }: RespondTo): Responded {
  const w = pairScalar(code)
  const own = makeShare('B', w)
  const [idA, idB] = [Buffer.from(operator), Buffer.from(robot)]
  return { share: own.bytes, ...agree({ side: 'B', w, own, theirs, idA, idB, aad }) }
}
