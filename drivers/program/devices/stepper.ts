/**
 * A stepper motor, through a step/direction driver or four coils. A successor continues from the present coils.
 *
 * Invariant: one tick makes at most one change of the coils, or one half of a pulse, so that no step is too short for
 * the motor or its driver, however late a tick comes (test/drivers/program/devices/outputs.test.ts).
 */
import type { Output } from '../handle.ts'
import { invalidValue } from './registers.ts'

/**
 * `step` and `direction` of a driver, which steps at rising edges (A4988, DRV8825, TMC2209), or four coils in the order
 * of their phases (ULN2003, L298).
 */
export type StepperPins =
  | { readonly step: Output; readonly direction: Output }
  | { readonly coils: readonly [Output, Output, Output, Output] }

export interface StepperOptions {
  /** Steps of one turn, with the driver's micro steps. Default 200. */
  stepsPerRevolution?: number
  /** Default 60. */
  rpm?: number
  /** Coils only: true for half steps; a turn has twice as many. Default false. */
  halfSteps?: boolean
  /** Change of speed in rpm a second, for a trapezoidal profile. 0, the default: full speed at once. */
  acceleration?: number
  /**
   * With an acceleration: its change in rpm a second squared, for an S-ramp, in which the acceleration changes gradually. 0, the
   * default: a trapezoid.
   */
  jerk?: number
  /** With an acceleration: rpm at which the motor can start and stop at once (its pull-in rate). Default 0. */
  startRpm?: number
  /** The position to start from, in steps; for example the previous program's. Default 0. */
  position?: number
  /** Instead of `position`: the `motion` of the previous program's stepper, which continues. */
  motion?: StepperMotion | undefined
}

/** A motion as JSON: kept in a program's state, it continues across a swap. */
export interface StepperMotion {
  /** Steps. */
  readonly position: number
  /** Steps; `cw` and `ccw`: until `stop`. */
  readonly target: number | 'cw' | 'ccw'
  /** Steps a second, counterclockwise when negative. */
  readonly speed: number
  /** Elapsed part of the next step, 0 to 2. */
  readonly part: number
  /** With a jerk: steps a second squared, negative while the motor brakes. */
  readonly change?: number
}

/** Energised coils for each half step. The entries with two coils are the full steps. */
const HALF_STEPS = [0b0001, 0b0011, 0b0010, 0b0110, 0b0100, 0b1100, 0b1000, 0b1001] as const

/**
 * A stepper motor. It moves only in {@link tick}: with step and direction at most one step in two ticks, with coils one
 * in each, which limits the rpm.
 */
export class Stepper {
  readonly #pins: StepperPins
  readonly #stepsPerRevolution: number
  readonly #stride: 1 | 2
  #rpm = 60
  #position: number
  #target: number
  #due = 0
  /** Steps a second, and the direction. Without an acceleration only the direction matters. */
  #speed = 0
  #way: -1 | 0 | 1 = 0
  /** Start speed in steps a second, and acceleration in steps a second squared; 0: full speed at once. */
  readonly #startSpeed: number
  readonly #acceleration: number
  /** Steps a second cubed; 0: a trapezoid. */
  readonly #jerk: number
  /** With a jerk: the present acceleration along the direction, in steps a second squared. */
  #change = 0

  constructor(pins: StepperPins, options: StepperOptions = {}) {
    const {
      stepsPerRevolution = 200,
      rpm = 60,
      halfSteps = false,
      acceleration = 0,
      jerk = 0,
      startRpm = 0,
      motion,
    } = options
    const position = motion?.position ?? options.position ?? 0
    this.#pins = pins
    if (!(stepsPerRevolution > 0)) throw invalidValue(this.#name, 'steps of a turn above 0', stepsPerRevolution)
    this.#stepsPerRevolution = stepsPerRevolution
    this.#stride = halfSteps ? 1 : 2
    if (!(acceleration >= 0)) throw invalidValue(this.#name, 'an acceleration of 0 or more rpm a second', acceleration)
    if (!(jerk >= 0)) throw invalidValue(this.#name, 'a jerk of 0 or more rpm a second squared', jerk)
    if (!(startRpm >= 0)) throw invalidValue(this.#name, 'a start of 0 or more rpm', startRpm)
    this.#acceleration = this.#stepsOf(acceleration)
    this.#jerk = this.#stepsOf(jerk)
    this.#startSpeed = this.#stepsOf(startRpm)
    this.#position = position
    this.#target = position
    this.rpm = rpm
    if (motion === undefined) return
    const { target, speed, part } = motion
    this.#target = typeof target === 'number' ? target : target === 'cw' ? Infinity : -Infinity
    this.#speed = Math.abs(speed)
    this.#way = Math.sign(speed) as -1 | 0 | 1
    this.#due = part
    this.#change = motion.change ?? 0
  }

  get rpm(): number {
    return this.#rpm
  }

  /** Turns a minute, above 0. Takes effect with the next step. */
  set rpm(rpm: number) {
    if (!(rpm > 0)) throw invalidValue(this.#name, 'more than 0 turns a minute', rpm)
    this.#rpm = rpm
  }

  /** Steps, counted from the `position` of the options. */
  get position(): number {
    return this.#position
  }

  /** The current motion, for the successor: `state.motion = stepper.motion` after each tick. */
  get motion(): StepperMotion {
    const target = Number.isFinite(this.#target) ? this.#target : this.#target > 0 ? 'cw' : 'ccw'
    const motion: StepperMotion = { position: this.#position, target, speed: this.#way * this.#speed, part: this.#due }
    return this.#jerk > 0 ? { ...motion, change: this.#change } : motion
  }

  /** 1 clockwise, -1 counterclockwise, 0 at rest. While the motor brakes to reverse, still the old direction. */
  get direction(): -1 | 0 | 1 {
    const ahead = Math.sign(this.#target - this.#position) as -1 | 0 | 1
    return this.#acceleration === 0 ? ahead : this.#way || ahead
  }

  get isRunning(): boolean {
    return this.direction !== 0
  }

  /** Adds steps to the target, counterclockwise when negative. After `run`, they count from the current position. */
  step(steps: number): void {
    this.moveTo((Number.isFinite(this.#target) ? this.#target : this.#position) + steps)
  }

  cw(steps: number): void {
    this.step(Math.abs(steps))
  }

  ccw(steps: number): void {
    this.step(-Math.abs(steps))
  }

  /** Moves to a position, in whole steps. */
  moveTo(position: number): void {
    if (!Number.isInteger(position)) throw invalidValue(this.#name, 'a whole number of steps', position)
    this.#target = position
  }

  /** Turns until `stop`. */
  run(direction: 1 | -1 = 1): void {
    this.#target = direction * Number.POSITIVE_INFINITY
  }

  /** Stops; with an acceleration, after braking. The coils stay energised. */
  stop(): void {
    this.#target = this.#position + this.#way * this.#brakingSteps()
  }

  /** Stops at once; switches coils off, so that the motor turns freely. */
  release(): void {
    this.#target = this.#position
    this.#stand()
    if ('coils' in this.#pins) this.#pull(0)
  }

  /** Moves on by `dt` seconds; call it often: `every(1, (dt) => stepper.tick(dt))`. */
  tick(dt: number): void {
    const direction = this.#acceleration === 0 ? this.#go(dt) : this.#ramp(dt)
    if ('step' in this.#pins && this.#pins.step.value === 1) return this.#pins.step.write(0)
    if (this.#due < 1 || direction === 0) return
    this.#due -= 1
    this.#position += direction
    if (this.#position === this.#target && this.#canStand(dt)) this.#stand()
    if ('coils' in this.#pins) return this.#turn(direction)
    const way = direction > 0 ? 1 : 0
    if (this.#pins.direction.value !== way) this.#pins.direction.write(way)
    this.#pins.step.write(1)
  }

  /** Without an acceleration: full speed at once. */
  #go(dt: number): -1 | 0 | 1 {
    this.#way = Math.sign(this.#target - this.#position) as -1 | 0 | 1
    this.#speed = this.#way === 0 ? 0 : this.#stepsOf(this.#rpm)
    // a late tick does not catch up: faster steps would be lost by the motor
    this.#due = this.#way === 0 ? 0 : Math.min(2, this.#due + dt * this.#speed)
    return this.#way
  }

  /**
   * The highest speed within three limits: the acceleration since the last tick, the rpm, and the speed from which the
   * motor can brake in the remaining distance, v = sqrt(start^2 + 2 a s) ("AVR446: linear speed control of stepper
   * motor", Atmel, equations of section 2).
   */
  #ramp(dt: number): -1 | 0 | 1 {
    if (this.#way === 0) {
      this.#way = Math.sign(this.#target - this.#position) as -1 | 0 | 1
      if (this.#way === 0) return 0
      this.#speed = this.#startSpeed
    }
    // ticks paused for several steps: the motor has stopped
    if (this.#due + dt * this.#speed > 2) {
      this.#speed = Math.max(this.#startSpeed, Math.min(this.#speed, 1 / dt))
      this.#change = 0
    }
    const left = (this.#target - this.#position) * this.#way - this.#due
    const before = this.#speed
    if (this.#jerk > 0) this.#bend(dt, left)
    else this.#speed = this.#straight(dt, left)
    if (left <= 0 && this.#speed <= this.#startSpeed + (this.#jerk > 0 ? this.#acceleration * dt : 0)) {
      // past the target: reverse with the next tick
      this.#stand()
      return 0
    }
    this.#due = Math.min(2, this.#due + (dt * (before + this.#speed)) / 2)
    return this.#way
  }

  /** The next speed of a trapezoid. */
  #straight(dt: number, left: number): number {
    const change = this.#acceleration * dt
    const stoppable = left > 0 ? Math.sqrt(this.#startSpeed ** 2 + 2 * this.#acceleration * left) : 0
    const most = Math.min(this.#stepsOf(this.#rpm), Math.max(stoppable, left > 0 ? change : 0))
    return Math.max(Math.min(this.#speed + change, most), this.#speed - change, 0)
  }

  /**
   * The next speed and acceleration of an S-ramp: the highest of three accelerations (more, the same, less) after which neither
   * the rpm nor the target is passed. If none of them is good, as after a change of either, it brakes.
   */
  #bend(dt: number, left: number): void {
    const [a, j, start] = [this.#acceleration, this.#jerk * dt, this.#startSpeed]
    const most = this.#stepsOf(this.#rpm)
    const options = [j, 0, -j].map((by) => {
      const change = Math.max(-a, Math.min(a, this.#change + by))
      const speed = Math.max(this.#speed + ((this.#change + change) / 2) * dt, 0)
      // the speed when the acceleration has gone back to 0
      const level = speed + (change * Math.abs(change)) / (2 * this.#jerk)
      const ahead = left - ((this.#speed + speed) / 2) * dt
      return { change, speed, level, good: level <= most && this.#brakingWay(speed, change) <= ahead }
    })
    const brakes = options.reverse().find(({ level }) => level >= start) ?? options[2]
    const next = options.findLast(({ good }) => good) ?? brakes
    if (next === undefined) return
    // above 0, so that the last step is made
    this.#speed = left > 0 ? Math.max(next.speed, a * dt) : next.speed
    this.#change = next.speed > 0 ? next.change : Math.max(0, next.change)
  }

  /**
   * Steps until the motor has slowed down to its start speed at no acceleration: three parts, in which the acceleration falls
   * to its lowest value, stays there, and rises to 0. Each part adds v t + a t^2 / 2 + j t^3 / 6.
   */
  #brakingWay(speed: number, change: number): number {
    const [most, jerk] = [this.#acceleration, this.#jerk]
    const slower = speed - this.#startSpeed
    // the square of the lowest acceleration, where it does not have to stay there
    const square = jerk * slower + change ** 2 / 2
    if (slower <= 0 || square <= 0) return 0
    const lowest = Math.max(Math.min(most, Math.sqrt(square)), -change)
    const stays = Math.max(0, (slower - (2 * lowest ** 2 - change ** 2) / (2 * jerk)) / lowest)
    let [v, way, from] = [speed, 0, change]
    for (const [seconds, by] of [
      [(change + lowest) / jerk, -jerk],
      [stays, 0],
      [lowest / jerk, jerk],
    ] as const) {
      way += v * seconds + (from * seconds ** 2) / 2 + (by * seconds ** 3) / 6
      v += from * seconds + (by * seconds ** 2) / 2
      from += by * seconds
    }
    return way
  }

  /** True when the motor is slow enough to stop here. It is not if the target was moved nearer than it can brake. */
  #canStand(dt: number): boolean {
    const a = this.#acceleration
    // with an S-ramp the last step is half a step of its end: v^3 = 9/2 s^2 j, for the way s = j t^3 / 6
    if (this.#jerk > 0) return this.#speed <= this.#startSpeed + 2 * Math.cbrt(this.#jerk) + a * dt
    return a === 0 || this.#speed <= Math.sqrt(this.#startSpeed ** 2 + 2 * a) + a * dt
  }

  #stand(): void {
    this.#way = 0
    this.#speed = 0
    this.#change = 0
    this.#due = 0
  }

  #brakingSteps(): number {
    if (this.#acceleration === 0) return 0
    if (this.#jerk > 0) return Math.ceil(this.#brakingWay(this.#speed, this.#change) + this.#due)
    const steps = (this.#speed ** 2 - this.#startSpeed ** 2) / (2 * this.#acceleration)
    return Math.max(0, Math.ceil(steps))
  }

  #stepsOf(rpm: number): number {
    return (rpm * this.#stepsPerRevolution) / 60
  }

  get #name(): string {
    return 'coils' in this.#pins ? this.#pins.coils[0].name : this.#pins.step.name
  }

  #turn(direction: -1 | 0 | 1): void {
    const { coils } = this.#pins as { coils: readonly Output[] }
    const pulled = coils.reduce((bits, coil, index) => bits | (coil.value << index), 0)
    const now = HALF_STEPS.indexOf(pulled as (typeof HALF_STEPS)[number])
    // full steps have odd indexes; with all coils off, begin with the first of them
    const next = now < 0 ? 1 : now + direction * (this.#stride === 2 && now % 2 === 0 ? 1 : this.#stride)
    this.#pull(HALF_STEPS[(next + 8) % 8] as number)
  }

  #pull(bits: number): void {
    const { coils } = this.#pins as { coils: readonly Output[] }
    for (const [index, coil] of coils.entries()) {
      const level = ((bits >> index) & 1) as 0 | 1
      if (coil.value !== level) coil.write(level)
    }
  }
}
