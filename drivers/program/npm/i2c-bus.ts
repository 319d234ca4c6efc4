/**
 * Replaces the package i2c-bus 5.2.3 in bundles, for dependencies that open a bus themselves. Whatever its number, the
 * bus has the `i2c` handles that the program was granted, by address.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { type I2cBus, i2cBus, type PromisifiedI2cBus } from '../devices/i2cbus.ts'
import { grantedOf, useScope } from '../granted.ts'

useScope(new AsyncLocalStorage())

type OpenCallback = (error: Error | null, bus?: I2cBus) => void

/** The option `forceAccess` has no effect: an address that a kernel driver uses cannot be a handle. */
export function openSync(busNumber: number, _options?: object): I2cBus {
  if (!Number.isInteger(busNumber) || busNumber < 0) throw new Error(`Invalid I2C bus number ${busNumber}`)
  return i2cBus(...grantedOf('i2c', 'i2c-bus'))
}

export function open(busNumber: number, ...rest: [OpenCallback] | [object, OpenCallback]): I2cBus {
  const done = rest.at(-1) as OpenCallback
  const bus = openSync(busNumber)
  setImmediate(() => done(null, bus))
  return bus
}

export async function openPromisified(busNumber: number, _options?: object): Promise<PromisifiedI2cBus> {
  return openSync(busNumber).promisifiedBus()
}
