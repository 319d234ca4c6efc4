/** Invariant: a program gets exactly the handles of its grants, all under one lease. */
import { adoptBrokered, BrokerClient } from '../../drivers/broker/index.ts'
import type { Handle, Lease } from '../../drivers/handle.ts'
import { adopt } from '../../drivers/inherit/index.ts'
import { FD, type Init } from './wire.ts'

export function adoptAll(init: Init, lease: Lease): Map<string, Handle> {
  let broker: BrokerClient | null = null
  const handles = new Map<string, Handle>()
  for (const grant of init.grants) {
    if (grant.via === 'inherit') handles.set(grant.name, adopt(grant, lease))
    else {
      broker ??= new BrokerClient(FD.broker, { deadlineMs: init.brokerDeadlineMs })
      handles.set(grant.name, adoptBrokered(grant, lease, broker))
    }
  }
  return handles
}
