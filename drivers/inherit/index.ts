/** Invariant: adopting a grant makes no system call; the descriptor is used as the body left it. */
import { attach, type Port } from '../attached.ts'
import { HardwareError } from '../errors.ts'
import type { Grant, Handle, Lease } from '../handle.ts'
import { DutyTextPort, LevelPort, LevelTextPort, RecordPort } from './ports.ts'

export { deliverEdge, setCarried } from '../attached.ts'

/** Throws `unsupported` when the kind does not go with the encoding, `no-device` when there is no descriptor. */
export function adopt(grant: Grant, lease: Lease): Handle {
  return attach(grant, lease, portOf(grant, lease))
}

function portOf(grant: Grant, lease: Lease): Port {
  const { kind, encoding } = grant
  if (kind === 'input' && encoding === 'level') return new LevelPort(grant)
  if ((kind === 'output' || kind === 'pwm') && encoding === 'record') return new RecordPort(grant, lease)
  if (kind === 'output' && encoding === 'text') return new LevelTextPort(grant)
  if (kind === 'pwm' && encoding === 'text') return new DutyTextPort(grant)
  throw new HardwareError('unsupported', `${grant.name}: no encoding ${encoding} for kind ${kind}`)
}
