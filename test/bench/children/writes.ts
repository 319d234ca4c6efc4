/**
 * One way to do one operation, as a process of its own: it does nothing but a batch whenever it is told to. Argument: its
 * task. Descriptor 4 is the broker's, 5 what is inherited.
 */

import { loadSystem } from '../../../drivers/owner/linux/system.ts'
import { adoptBrokered, BrokerClient } from '../../../drivers/program/broker/index.ts'
import type { Handle, I2cDevice, Lease, Output } from '../../../drivers/program/handle.ts'
import { adopt, needsSystem, type System } from '../../../drivers/program/inherit/index.ts'
import { BLOCK, HARMLESS_IOCTL, REGISTER, type Task } from '../operations.ts'
import { ownOperation } from '../own.ts'

export type FromWrites = { us: number } | { failed: string }

const REHEARSALS = 5
const FD = { broker: 4, inherited: 5 }
const task = JSON.parse(process.argv[2] ?? '') as Task
const { operation, way, devices, batch } = task

/** `i` counts from 0: what is written changes each time. */
function made(): (i: number) => void {
  if (way === 'in-process') return ownOperation(operation, devices, FD.inherited)
  const lease: Lease = { live: true, fence: 1 }
  const { grant } = task
  if (way === 'brokered') {
    const client = new BrokerClient(FD.broker, { deadlineMs: 5000 })
    return used(adoptBrokered({ ...grant, via: 'broker' }, lease, client))
  }
  const inherited = { ...grant, via: 'inherit', fd: FD.inherited } as const
  const system = needsSystem([inherited]) ? systemOf() : null
  return used(adopt(inherited, lease, { system, broker: null }))
}

function used(handle: Handle): (i: number) => void {
  if (operation === 'i2c-read') {
    const device = handle as I2cDevice
    const register = new Uint8Array([BLOCK.register])
    return () => device.writeRead(register, BLOCK.length)
  }
  if (operation === 'i2c-write') {
    const device = handle as I2cDevice
    const bytes = new Uint8Array([REGISTER, 0])
    return (i) => {
      bytes[1] = i & 0xff
      device.write(bytes)
    }
  }
  const output = handle as Output
  return (i) => output.write((i & 1) as 0 | 1)
}

/** Where there is no device: the same way through JavaScript, and a call that any descriptor takes. */
function systemOf(): System {
  const real = loadSystem()
  if (devices === 'kernel') return real
  return {
    ioctl: (fd, _request, argument) => real.ioctl(fd, HARMLESS_IOCTL, argument),
    address: (bytes) => real.address(bytes),
  }
}

function round(one: (i: number) => void): FromWrites {
  try {
    const began = process.hrtime.bigint()
    for (let i = 0; i < batch; i++) one(i)
    return { us: Number(process.hrtime.bigint() - began) / 1e3 / batch }
  } catch (error) {
    return { failed: error instanceof Error ? error.message : String(error) }
  }
}

const one = made()
process.on('message', () => process.send?.(round(one) satisfies FromWrites))
process.on('disconnect', () => process.exit())
// compiled, as a program is after its rehearsals
let first = round(one)
for (let i = 1; i < REHEARSALS && 'us' in first; i++) first = round(one)
process.send?.(first)
