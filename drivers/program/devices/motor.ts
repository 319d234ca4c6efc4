/**
 * Invariant: the direction of a bridge changes only while its PWM is off, and the speed survives a swap.
 *
 * A PWM with a `slew` is not off at once: the way changes in a later tick then.
 */
import { HardwareError } from '../../errors.ts'
import type { Output, Pwm } from '../handle.ts'
import { unexpected } from './registers.ts'

/**
 * How the bridge is wired.
 * `pwm` alone: a transistor, one way only. With `direction`: one line that says the way (DRV8838, Cytron). With
 * `forward` and `reverse` lines: two that say it (L298, TB6612), which can brake. Two PWM without a third: DRV8833. The
 * `min` of a PWM has to be 0, so that it can be off.
 */
export type MotorPins =
  | { readonly pwm: Pwm; readonly direction?: Output }
  | { readonly pwm: Pwm; readonly forward: Output; readonly reverse: Output }
  | { readonly forward: Pwm; readonly reverse: Pwm }

export interface MotorOptions {
  /** true: the motor is mounted, or wired, the other way round. Default false. */
  inverted?: boolean
}

/** One way to wire a motor. A change is tried again until it gives true. */
interface Bridge {
  readonly name: string
  /** -1 to 1 */
  speed(): number
  drive(speed: number): boolean
  brake(): boolean
  coast(): boolean
}

/** A DC motor behind a bridge. Speeds are -1 (full reverse) to 1 (full forward). */
export class Motor {
  readonly #bridge: Bridge
  readonly #sign: number
  /** What could not be done at once. */
  #pending: (() => boolean) | null = null

  constructor(pins: MotorPins, { inverted = false }: MotorOptions = {}) {
    this.#sign = inverted ? -1 : 1
    if (!('pwm' in pins)) this.#bridge = twoPwms(pins.forward, pins.reverse)
    else if ('forward' in pins) this.#bridge = twoLines(pins.pwm, pins.forward, pins.reverse)
    else this.#bridge = oneLine(pins.pwm, pins.direction)
  }

  /** What it is driven with; from before this program, too. 0 also when it brakes. */
  get speed(): number {
    return this.#sign * this.#bridge.speed() || 0
  }

  get isOn(): boolean {
    return this.speed !== 0
  }

  /** -1 to 1. Throws `other` for anything else, `unsupported` for a way that the wiring does not have. */
  run(speed: number): void {
    if (!(speed >= -1 && speed <= 1)) throw unexpected(this.#bridge.name, 'a speed from -1 to 1', speed)
    this.#do(() => this.#bridge.drive(this.#sign * speed))
  }

  /** 0 to 1, as `run(speed)`. */
  forward(speed = 1): void {
    this.run(Math.abs(speed))
  }

  /** 0 to 1, as `run(-speed)`. */
  reverse(speed = 1): void {
    this.run(-Math.abs(speed))
  }

  /** Nothing drives it; whether it runs out or is held is the wiring's affair. */
  stop(): void {
    this.#do(() => this.#bridge.drive(0))
  }

  /** Shorts the motor, which holds it. Throws `unsupported` for a wiring that cannot. */
  brake(): void {
    this.#do(() => this.#bridge.brake())
  }

  /** Lets it run out. Throws `unsupported` for a wiring that cannot. */
  coast(): void {
    this.#do(() => this.#bridge.coast())
  }

  /** Needed with a `slew` only: goes on with a change that had to wait for it. */
  tick(): void {
    if (this.#pending?.()) this.#pending = null
  }

  #do(change: () => boolean): void {
    this.#pending = change() ? null : change
  }
}

/** Whether it is off by now. */
function off(pwm: Pwm): boolean {
  pwm.write(0)
  return pwm.value === 0
}

function oneLine(pwm: Pwm, direction: Output | undefined): Bridge {
  const { name } = pwm
  const cannot = (what: string): never => {
    throw new HardwareError('unsupported', `${name}: a motor wired with ${what}`)
  }
  return {
    name,
    speed: () => (direction?.value === 1 ? -pwm.value : pwm.value),
    drive(speed) {
      if (direction === undefined && speed < 0) cannot('a PWM alone runs forward only')
      const level = speed < 0 ? 1 : 0
      if (direction !== undefined && speed !== 0 && direction.value !== level) {
        if (!off(pwm)) return false
        direction.write(level)
      }
      pwm.write(Math.abs(speed))
      return true
    },
    brake: () => cannot('fewer than two lines cannot choose to brake: stop() is all there is'),
    coast: () => cannot('fewer than two lines cannot choose to coast: stop() is all there is'),
  }
}

function twoLines(pwm: Pwm, forward: Output, reverse: Output): Bridge {
  const turned = (ahead: 0 | 1, back: 0 | 1): boolean => {
    if (forward.value === ahead && reverse.value === back) return true
    if (!off(pwm)) return false
    // first the one that falls: both high would brake
    if (ahead === 0) forward.write(0)
    reverse.write(back)
    if (ahead === 1) forward.write(1)
    return true
  }
  return {
    name: pwm.name,
    speed: () => (forward.value - reverse.value) * pwm.value,
    drive(speed) {
      if (speed !== 0 && !turned(speed > 0 ? 1 : 0, speed > 0 ? 0 : 1)) return false
      pwm.write(Math.abs(speed))
      return true
    },
    brake() {
      if (!turned(1, 1)) return false
      pwm.write(1)
      return true
    },
    coast: () => off(pwm) && turned(0, 0),
  }
}

function twoPwms(forward: Pwm, reverse: Pwm): Bridge {
  return {
    name: forward.name,
    speed: () => forward.value - reverse.value,
    drive(speed) {
      const [rising, falling] = speed < 0 ? [reverse, forward] : [forward, reverse]
      // both high would brake
      if (!off(falling)) return false
      rising.write(Math.abs(speed))
      return true
    },
    brake() {
      forward.write(1)
      reverse.write(1)
      return true
    },
    coast() {
      forward.write(0)
      reverse.write(0)
      return true
    },
  }
}
