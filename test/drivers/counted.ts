/** A handle of a simulated chip that counts its transfers. */
import type { I2cDevice } from '../../drivers/program/handle.ts'

export interface Counted extends I2cDevice {
  /** Transfers that write registers; setting the pointer for a read does not count. */
  writes: number
  transfers: number
}

export function counted(device: I2cDevice): Counted {
  const it: Counted = {
    kind: 'i2c',
    name: device.name,
    address: device.address,
    writes: 0,
    transfers: 0,
    read(length) {
      it.transfers++
      return device.read(length)
    },
    write(bytes) {
      it.transfers++
      it.writes++
      device.write(bytes)
    },
    writeRead(bytes, length) {
      it.transfers++
      return device.writeRead(bytes, length)
    },
    close: () => device.close(),
  }
  return it
}
