/** Makes a program's handles from its grants, all under one lease. */

import { HardwareError, type HardwareErrorKind } from '../../drivers/errors.ts'
import { adoptBrokered, BrokerClient, type BrokerPort } from '../../drivers/program/broker/index.ts'
import type { Grant, Handle, Lease } from '../../drivers/program/handle.ts'
import { adopt, type HandleTransports } from '../../drivers/program/inherit/index.ts'
import type { Host } from './host.ts'
import { FD } from './wire.ts'

/** null when no grant needs the broker. An inherited i2c device needs it for some transfers (HANDLES 12.5). */
export function brokerOf({ init, broker }: Pick<Host, 'init' | 'broker'>): BrokerPort | null {
  if (broker !== undefined) return ownErrors(broker)
  if (init.grants.every((grant) => grant.via === 'inherit' && grant.kind !== 'i2c')) return null
  return new BrokerClient(FD.broker, { deadlineMs: init.brokerDeadlineMs })
}

/** A program may hold another copy of this code, and asks for `instanceof HardwareError`: rethrows as its own class. */
function ownErrors(broker: BrokerPort): BrokerPort {
  return {
    request(id, op, fence, payload) {
      try {
        return broker.request(id, op, fence, payload)
      } catch (error) {
        const { kind, message } = error as { kind: HardwareErrorKind; message: string }
        throw new HardwareError(kind, message, { cause: error })
      }
    },
  }
}

export function adoptAll(grants: readonly Grant[], lease: Lease, access: HandleTransports): Map<string, Handle> {
  const { broker } = access
  return new Map(
    grants.map((grant) => [
      grant.name,
      grant.via === 'broker' && broker !== null
        ? adoptBrokered(grant, lease, broker, access)
        : adopt(grant, lease, access),
    ]),
  )
}
