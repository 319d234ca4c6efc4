/**
 * Opens SPI devices and sets mode, word size and speed, once. Opening sends nothing on the bus (HANDLES 12.10).
 *
 * The settings belong to the device, not to the open file, and last while any process has the device open
 * (Documentation/spi/spidev.rst, include/uapi/linux/spi/spidev.h).
 */
import { closeSync, openSync } from 'node:fs'
import type { SpiEntry } from '../../board/types.ts'
import { HardwareError, hardwareFault } from '../../errors.ts'
import { ior, iow } from '../../ioctl.ts'
import type { OpenContext, OpenDevice } from './device.ts'
import { keptFd, openFault } from './faults.ts'
import type { LinuxSystem } from './system.ts'

const MAGIC = 0x6b
const RD_MODE = ior(MAGIC, 1, 1)
const WR_MODE = iow(MAGIC, 1, 1)
const WR_BITS_PER_WORD = iow(MAGIC, 3, 1)
const WR_MAX_SPEED_HZ = iow(MAGIC, 4, 4)
/** include/uapi/linux/spi/spi.h. The other mode bits describe the wiring, and stay as the kernel has them. */
const SPI_MODE_X_MASK = 0x03
const SPI_LSB_FIRST = 0x08

export function openSpi({ name, entry, system, kept }: OpenContext<SpiEntry>): OpenDevice {
  const fd = kept === undefined ? start(name, entry, system) : keptFd(name, kept.fds)
  return { source: { via: 'inherit', fd, encoding: 'spi' }, fds: [fd], close: () => closeSync(fd) }
}

function start(name: string, entry: SpiEntry, system: LinuxSystem): number {
  const path = `/dev/spidev${entry.bus}.${entry.select}`
  let fd: number
  try {
    fd = openSync(path, 'r+')
  } catch (error) {
    const enable = 'add dtparam=spi=on to /boot/firmware/config.txt and start again'
    throw openFault(name, path, error, enable, 'spi')
  }
  const set = (request: number, argument: Uint8Array, what: string) => {
    try {
      system.ioctl(fd, request, argument)
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'EINVAL') throw hardwareFault(name, error)
      throw new HardwareError('unsupported', `${name}: this SPI controller has no ${what}`, { cause: error })
    }
  }
  try {
    const mode = new Uint8Array(1)
    set(RD_MODE, mode, 'mode')
    const wired = (mode[0] as number) & ~(SPI_MODE_X_MASK | SPI_LSB_FIRST)
    mode[0] = wired | entry.mode | (entry.lsbFirst ? SPI_LSB_FIRST : 0)
    set(WR_MODE, mode, entry.lsbFirst ? 'mode that sends the lowest bit first' : `mode ${entry.mode}`)
    set(WR_BITS_PER_WORD, Uint8Array.of(entry.bits), `words of ${entry.bits} bits`)
    const speed = new Uint8Array(4)
    new DataView(speed.buffer).setUint32(0, entry.speedHz, true)
    set(WR_MAX_SPEED_HZ, speed, `speed of ${entry.speedHz} Hz`)
  } catch (error) {
    closeSync(fd)
    throw error
  }
  return fd
}
