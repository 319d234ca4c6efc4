/**
 * Invariant: at most one thread waits for the 1-wire bus, however many sensors there are: a conversion takes 750 ms, and
 * the threads that wait are those that write to the disk.
 *
 * Documentation/w1/slaves/w1_therm.rst: reading `w1_slave` of a sensor converts, waits, and gives its scratchpad.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TemperatureEntry } from '../../board/types.ts'
import { HardwareError } from '../../errors.ts'
import { degreesOfText } from '../ds18b20.ts'
import type { Opened } from './device.ts'
import { openFault } from './faults.ts'

const FOLDER = '/sys/bus/w1/devices'
const ENABLE =
  'add dtoverlay=w1-gpio (its data line is GPIO4) to /boot/firmware/config.txt, start again, and see ls /sys/bus/w1/devices'

export class W1Bus {
  readonly #folder: string
  /** What is under way, one behind the other. */
  #turn: Promise<void> = Promise.resolve()

  constructor(folder: string = FOLDER) {
    this.#folder = folder
  }

  /** Measures every `everyMs` from now on; a sensor that is not there may come later. */
  open(name: string, { device, everyMs }: Pick<TemperatureEntry, 'device' | 'everyMs'>): Opened {
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
      this.#turn = this.#turn.then(async () => {
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
