/**
 * Measures temperatures with DS18B20 sensors, through w1_therm of the kernel (Documentation/w1/slaves/w1_therm.rst).
 *
 * Reading a sensor's file `w1_slave` blocks for a conversion of 750 ms, in a thread of Node's pool, which disk writes
 * need too. So sensors are read one after the other, and at most one thread waits (HANDLES 18.2).
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TemperatureEntry } from '../../board/types.ts'
import { HardwareError } from '../../errors.ts'
import { degreesOfText } from '../ds18b20.ts'
import type { OpenDevice } from './device.ts'
import { openFault } from './faults.ts'

const FOLDER = '/sys/bus/w1/devices'
const ENABLE =
  'add dtoverlay=w1-gpio (its data line is GPIO4) to /boot/firmware/config.txt, start again, and see ls /sys/bus/w1/devices'

export class W1Bus {
  readonly #folder: string
  /** Resolves after the last queued measurement. */
  #queue: Promise<void> = Promise.resolve()

  constructor(folder: string = FOLDER) {
    this.#folder = folder
  }

  /** Measures every `everyMs` from now on. A missing sensor is no error here: it may be plugged in later. */
  open(name: string, { device, everyMs }: Pick<TemperatureEntry, 'device' | 'everyMs'>): OpenDevice {
    const path = join(this.#folder, device, 'w1_slave')
    let last: number | HardwareError = new HardwareError('busy', `${name}: its first measurement takes about a second`)
    let timer: NodeJS.Timeout | undefined
    let isOpen = true
    const measure = async (): Promise<void> => {
      try {
        const text = await readFile(path, 'latin1')
        last = degreesOfText(name, text)
      } catch (error) {
        last = error instanceof HardwareError ? error : openFault(name, device, error, ENABLE, 'root')
      }
    }
    const next = (): void => {
      const began = performance.now()
      this.#queue = this.#queue.then(async () => {
        if (!isOpen) return
        await measure()
        if (isOpen) timer = setTimeout(next, Math.max(0, everyMs - (performance.now() - began))).unref()
      })
    }
    next()
    return {
      source: { via: 'broker' },
      fds: [],
      value: () => (typeof last === 'number' ? last : undefined),
      measured: () => {
        if (typeof last === 'number') return last
        throw last
      },
      close: () => {
        isOpen = false
        clearTimeout(timer)
      },
    }
  }
}
