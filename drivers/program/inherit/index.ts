/** Makes handles from inherited descriptors, without any system call: the body has opened and configured them. */

import { HardwareError } from '../../errors.ts'
import { AttachedAnalog } from '../analog.ts'
import { attach, type HandlePort } from '../attached.ts'
import { type Grant, type Handle, isDriven, type Lease } from '../handle.ts'
import { InheritedI2c } from './i2c.ts'
import { LinePort } from './line.ts'
import { InheritedListening } from './listening.ts'
import { AngleTextPort, DutyTextPort, LevelPort, LevelTextPort, RecordPort } from './ports.ts'
import { InheritedSerial } from './serial.ts'
import { InheritedSpi } from './spi.ts'
import type { HandleTransports } from './transports.ts'

export { deliverEdge, setCarried, unlisten } from '../attached.ts'
export { needsSystem } from './needs.ts'
export type { System } from './system.ts'
export type { FileIo, HandleTransports, ServerRegistry } from './transports.ts'

/**
 * `system` may be null when {@link needsSystem} is false. Throws `unsupported` when kind and encoding do not fit,
 * `no-device` without a descriptor.
 */
export function adopt(grant: Grant, lease: Lease, access: HandleTransports): Handle {
  const { kind, encoding } = grant
  if (kind === 'i2c' && encoding === 'i2c') return new InheritedI2c(grant, lease, access)
  if (kind === 'analog' && encoding === 'i2c') {
    return new AttachedAnalog(grant, new InheritedI2c(grant, lease, access), access)
  }
  if (kind === 'spi' && encoding === 'spi') return new InheritedSpi(grant, lease, access)
  if (kind === 'serial' && (encoding === 'serial' || encoding === 'pty'))
    return new InheritedSerial(grant, lease, access)
  if (kind === 'listen' && encoding === 'listen') return new InheritedListening(grant, access)
  return attach(grant, lease, portOf(grant, lease, access), access)
}

function portOf(grant: Grant, lease: Lease, { system }: HandleTransports): HandlePort {
  const { kind, encoding } = grant
  if ((kind === 'output' || kind === 'input') && encoding === 'line') return new LinePort(grant, system)
  if (kind === 'input' && encoding === 'level') return new LevelPort(grant)
  if (isDriven(kind) && encoding === 'record') return new RecordPort(grant, lease)
  if (kind === 'output' && encoding === 'text') return new LevelTextPort(grant)
  if (kind === 'pwm' && encoding === 'text') return new DutyTextPort(grant)
  if (kind === 'servo' && encoding === 'text') return new AngleTextPort(grant)
  throw new HardwareError('unsupported', `${grant.name}: no encoding ${encoding} for kind ${kind}`)
}
