/** Invariant: a program gets exactly the handles of its grants, all under one lease. */
import { adoptBrokered, BrokerClient } from '../../drivers/broker/index.ts'
import type { Grant, Handle, Lease } from '../../drivers/handle.ts'
import { adopt, type Means } from '../../drivers/inherit/index.ts'
import { FD, type Init } from './wire.ts'

/** null when nothing is brokered; of an inherited i2c device some transfers are (HANDLES 12.5). */
export function brokerOf(init: Init): BrokerClient | null {
  if (init.grants.every((grant) => grant.via === 'inherit' && grant.kind !== 'i2c')) return null
  return new BrokerClient(FD.broker, { deadlineMs: init.brokerDeadlineMs })
}

export function adoptAll(grants: readonly Grant[], lease: Lease, means: Means): Map<string, Handle> {
  const { broker } = means
  return new Map(
    grants.map((grant) => [
      grant.name,
      grant.via === 'broker' && broker !== null ? adoptBrokered(grant, lease, broker) : adopt(grant, lease, means),
    ]),
  )
}
