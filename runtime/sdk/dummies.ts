/**
 * Invariant: nothing done through a dummy handle reaches hardware.
 *
 * Plain objects for `describe`, and the real handle classes over a scratch file for rehearsals, so that the code that
 * will run in the takeover is the code that was compiled before it (HANDOVER 4.2).
 */
import { adoptBrokered, type BrokerPort } from '../../drivers/broker/index.ts'
import type { Grant, Handle, Lease, SupportedKind } from '../../drivers/handle.ts'
import { adopt } from '../../drivers/inherit/index.ts'
import { FD } from './wire.ts'

const GET = 1
const NOTHING = new Uint8Array(0)

/**
 * Answers every request with zeros, and remembers that somebody relied on one. Where there is a real broker it is asked
 * for the present value instead, a few times, so that the way to the body and back is warm too (HANDLES 7.6).
 */
export class ZeroBroker implements BrokerPort {
  asked = false
  readonly #real: BrokerPort | null
  #rounds = 8

  constructor(real: BrokerPort | null) {
    this.#real = real
  }

  request(id: number): Uint8Array {
    this.asked = true
    if (this.#real !== null && this.#rounds-- > 0) {
      try {
        this.#real.request(id, GET, 0, NOTHING)
      } catch {
        // not every kind has a value
      }
    }
    return new Uint8Array(4096)
  }
}

export function rehearsalHandles(grants: readonly Grant[], lease: Lease, broker: ZeroBroker): Map<string, Handle> {
  return new Map(
    grants.map((grant) => [
      grant.name,
      grant.via === 'inherit' ? adopt({ ...grant, fd: FD.scratch }, lease) : adoptBrokered(grant, lease, broker),
    ]),
  )
}

/** For `describe` on the laptop, where there are no descriptors at all. */
export function paperHandle(name: string, kind: SupportedKind): Handle {
  const nothing = () => {}
  const shared = { name, kind, value: 0, periodNs: 20_000_000, close: nothing, write: nothing }
  const zeros = (length: number) => new Uint8Array(length)
  if (kind === 'i2c') return Object.assign(shared, { read: zeros, writeRead: (_: Uint8Array, n: number) => zeros(n) })
  return Object.assign(shared, { read: () => 0, onEdge: () => nothing })
}
