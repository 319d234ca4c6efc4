/** Invariant: a program gets exactly the handles of its grants, all under one lease. */
import { adoptBrokered, BrokerClient } from '../../drivers/broker/index.ts'
import type { Grant, Handle, Lease } from '../../drivers/handle.ts'
import { adopt } from '../../drivers/inherit/index.ts'
import { FD, type Init } from './wire.ts'

/** null when nothing is brokered. */
export function brokerOf(init: Init): BrokerClient | null {
  if (init.grants.every((grant) => grant.via === 'inherit')) return null
  return new BrokerClient(FD.broker, { deadlineMs: init.brokerDeadlineMs })
}

export function adoptAll(grants: readonly Grant[], lease: Lease, broker: BrokerClient | null): Map<string, Handle> {
  return new Map(
    grants.map((grant) => [
      grant.name,
      grant.via === 'broker' && broker !== null ? adoptBrokered(grant, lease, broker) : adopt(grant, lease),
    ]),
  )
}
