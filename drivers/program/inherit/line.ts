/**
 * An input or output through an inherited line request of the GPIO character device, version 2, with one line
 * (include/uapi/linux/gpio.h).
 *
 * A write is one ioctl on prepared bytes; the two value ioctls are the only ones used (HANDLES 11.4). Levels are
 * logical: the kernel applies active-low.
 */
import { HardwareError, hardwareFault } from '../../errors.ts'
import { iowr } from '../../ioctl.ts'
import type { Grant } from '../handle.ts'
import { FdPort } from './ports.ts'
import type { System } from './system.ts'

/** struct gpio_v2_line_values: u64 bits, u64 mask. */
export const LINE_VALUES_SIZE = 16
const MASK_AT = 8

export const GPIO_V2_LINE_GET_VALUES_IOCTL = iowr(0xb4, 0x0e, LINE_VALUES_SIZE)
export const GPIO_V2_LINE_SET_VALUES_IOCTL = iowr(0xb4, 0x0f, LINE_VALUES_SIZE)

/** The argument of a value ioctl for the first line of a request. */
export function lineValues(level: number): Uint8Array {
  const bytes = new Uint8Array(LINE_VALUES_SIZE)
  bytes[0] = level
  bytes[MASK_AT] = 1
  return bytes
}

export class LinePort extends FdPort {
  readonly #system: System
  readonly #zero = lineValues(0)
  readonly #one = lineValues(1)
  readonly #got = lineValues(0)

  constructor(grant: Grant, system: System | null) {
    super(grant)
    if (system === null) throw new HardwareError('unsupported', `${grant.name}: a line needs the loader's ioctl`)
    this.#system = system
  }

  override write(value: number): void {
    try {
      this.#system.ioctl(this.fd, GPIO_V2_LINE_SET_VALUES_IOCTL, value ? this.#one : this.#zero)
    } catch (error) {
      throw hardwareFault(this.name, error)
    }
  }

  override read(): number {
    try {
      this.#system.ioctl(this.fd, GPIO_V2_LINE_GET_VALUES_IOCTL, this.#got)
    } catch (error) {
      throw hardwareFault(this.name, error)
    }
    return (this.#got[0] as number) & 1
  }
}
