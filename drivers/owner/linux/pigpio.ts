/**
 * PWM through the package pigpio, on any line of a BCM283x or BCM2711.
 *
 * pigpio bypasses the kernel: as root it writes the chip's registers, and DMA times the pulses. It runs in the body's
 * process and ends with it, so such a handle is brokered and cannot be adopted (HANDLES 12.9). The package is optional.
 */
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { hasPigpio, type Model, pwmChannelOf, pwmLines } from '../../board/models.ts'
import type { PwmEntry } from '../../board/types.ts'
import { HardwareError, hardwareFault } from '../../errors.ts'
import type { OpenContext, OpenDevice } from './device.ts'

/** The part of pigpio 3.3.1 that is used here (doc/gpio.md). */
export interface PigpioGpio {
  hardwarePwmWrite(frequency: number, millionths: number): unknown
  pwmRange(range: number): unknown
  pwmFrequency(frequency: number): unknown
  getPwmFrequency(): number
  pwmWrite(duty: number): unknown
}
export interface Pigpio {
  Gpio: { new (gpio: number, options: { mode: number }): PigpioGpio; readonly OUTPUT: number }
}

/** Steps of a PWM timed by DMA; pigpio accepts 25 to 40000. */
const RANGE = 10_000
const MILLION = 1_000_000

export function openPigpio({ name, entry, board, kept }: OpenContext<PwmEntry>, load = loadPigpio): OpenDevice {
  const model = board.model as Model
  if (!hasPigpio(model)) throw unable(name, `pigpio does not run on a board of model ${model}`, model)
  if (kept !== undefined) {
    throw new HardwareError('unsupported', `${name}: a PWM of pigpio ends with its process and cannot be continued`)
  }
  const { Gpio } = load(name, model)
  try {
    // the first Gpio object starts the library
    const gpio = new Gpio(Number(entry.line.slice('GPIO'.length)), { mode: Gpio.OUTPUT })
    const write = pwmChannelOf(model, entry.line) === undefined ? timed(name, gpio, entry) : hardware(gpio, entry)
    let value = entry.initial
    write(value)
    return {
      source: { via: 'broker' },
      fds: [],
      value: () => value,
      drive(next) {
        try {
          write(next)
        } catch (error) {
          throw hardwareFault(name, error)
        }
        value = next
      },
      // the pulses continue until the process ends, and pigpio with it
      close() {},
    }
  } catch (error) {
    if (error instanceof HardwareError) throw error
    const said = error instanceof Error ? error.message : String(error)
    const message = `${name}: pigpio failed (${said}): it needs root, and no other pigpio may run`
    throw new HardwareError('other', message, { cause: error })
  }
}

function hardware(gpio: PigpioGpio, { frequencyHz }: PwmEntry): (duty: number) => void {
  return (duty) => void gpio.hardwarePwmWrite(Math.round(frequencyHz), Math.round(duty * MILLION))
}

function timed(name: string, gpio: PigpioGpio, { frequencyHz }: PwmEntry): (duty: number) => void {
  gpio.pwmFrequency(Math.round(frequencyHz))
  gpio.pwmRange(RANGE)
  // pigpio has a fixed set of frequencies and silently takes the nearest
  const nearest = gpio.getPwmFrequency()
  if (Math.abs(nearest - frequencyHz) > frequencyHz / 100) {
    const message = `${name}: expected a frequency that pigpio has on this line, got ${frequencyHz}: write ${nearest}`
    throw new HardwareError('unsupported', message)
  }
  return (duty) => void gpio.pwmWrite(Math.round(duty * RANGE))
}

/** Loads the addon first: without it the package would only print a warning and do nothing. */
export function loadPigpio(name: string, model: Model): Pigpio {
  const require = createRequire(import.meta.url)
  try {
    require(join(dirname(require.resolve('pigpio')), 'build/Release/pigpio.node'))
    return require('pigpio') as Pigpio
  } catch (cause) {
    throw unable(
      name,
      'pigpio is not installed: it needs its C library, and then npm install pigpio@3.3.1',
      model,
      cause,
    )
  }
}

function unable(name: string, why: string, model: Model, cause?: unknown): HardwareError {
  const lines = pwmLines(model)
  const kernel = lines.length === 0 ? '' : `"driver": "kernel" on ${lines.join(', ')}, or `
  return new HardwareError('unsupported', `${name}: ${why}; use ${kernel}a PCA9685 on i2c`, { cause })
}
