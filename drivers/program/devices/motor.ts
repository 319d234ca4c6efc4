/**
 * A DC motor behind a bridge. Its state is that of its outputs, so the speed survives a swap.
 *
 * Invariant: the direction changes only while the PWM is off (test/drivers/program/devices/outputs.test.ts). A PWM with `slew`
 * is not off at once: then the direction changes in a later tick.
 */
import { HardwareError } from '../../errors.ts'
import type { Output, Pwm } from '../handle.ts'
import { invalidValue } from './registers.ts'

/**
 * How the bridge is wired. `pwm` alone: a transistor, forward only. `pwm` and `direction`: one output for the direction
 * (DRV8838, Cytron). `pwm`, `forward` and `reverse`: two outputs for the direction, which can brake (L298, TB6612).
 * `forward` and `reverse` as PWM: DRV8833. The `min` of a PWM must be 0, so that the motor can be off.
 */
export type MotorPins =
  | { readonly pwm: Pwm; readonly direction?: Output }
  | { readonly pwm: Pwm; readonly forward: Output; readonly reverse: Output }
  | { readonly forward: Pwm; readonly reverse: Pwm }

export interface MotorOptions {
  /** true: the motor is mounted or wired the other way round. Default false. */
  inverted?: boolean
}

/**
 * One way to wire a motor. `drive`, `brake` and `coast` return false while they must wait, and are repeated until true.
 */
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
  /** A change that is still waiting for the PWM to be off. */
  #pending: (() => boolean) | null = null

  constructor(pins: MotorPins, { inverted = false }: MotorOptions = {}) {
    this.#sign = inverted ? -1 : 1
    if (!('pwm' in pins)) this.#bridge = twoPwms(pins.forward, pins.reverse)
    else if ('forward' in pins) this.#bridge = twoLines(pins.pwm, pins.forward, pins.reverse)
    else this.#bridge = oneLine(pins.pwm, pins.direction)
  }

  /** The current speed; also one that the previous program set. 0 also while braking. */
  get speed(): number {
    return this.#sign * this.#bridge.speed() || 0
  }

  get isOn(): boolean {
    return this.speed !== 0
  }

  /** -1 to 1. Throws `other` for anything else, `unsupported` for a direction that the wiring does not have. */
  run(speed: number): void {
    if (!(speed >= -1 && speed <= 1)) throw invalidValue(this.#bridge.name, 'a speed from -1 to 1', speed)
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

  /** Stops driving; the wiring determines whether the motor coasts or brakes. */
  stop(): void {
    this.#do(() => this.#bridge.drive(0))
  }

  /** Brakes by shorting the motor. Throws `unsupported` for a wiring that cannot brake. */
  brake(): void {
    this.#do(() => this.#bridge.brake())
  }

  /** Lets the motor coast. Throws `unsupported` for a wiring that cannot. */
  coast(): void {
    this.#do(() => this.#bridge.coast())
  }

  /** Needed only with a `slew`: continues a change that waits for the PWM to be off. */
  tick(): void {
    if (this.#pending?.()) this.#pending = null
  }

  #do(change: () => boolean): void {
    this.#pending = change() ? null : change
  }
}

/** Switches the PWM off. False when its `slew` needs more time. */
function off(pwm: Pwm): boolean {
  pwm.write(0)
  return pwm.value === 0
}

function oneLine(pwm: Pwm, direction: Output | undefined): Bridge {
  const { name } = pwm
  const cannot = (why: string): never => {
    throw new HardwareError('unsupported', `${name}: a motor wired with ${why}`)
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
    brake: () => cannot('no second direction line cannot brake: use stop()'),
    coast: () => cannot('no second direction line cannot coast: use stop()'),
  }
}

function twoLines(pwm: Pwm, forward: Output, reverse: Output): Bridge {
  const turned = (ahead: 0 | 1, back: 0 | 1): boolean => {
    if (forward.value === ahead && reverse.value === back) return true
    if (!off(pwm)) return false
    // write the output that falls first: both high would brake
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
