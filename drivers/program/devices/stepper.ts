/**
 * A stepper motor, through a step/direction driver or four coils. A successor continues from the present coils.
 *
 * Invariant: one tick makes at most one change of the coils, or one half of a pulse, so that no step is too short for
 * the motor or its driver, however late a tick comes (test/drivers/outputs.test.ts).
 */
import type { Output } from '../handle.ts'
import { unexpected } from './registers.ts'

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

  constructor(pins: StepperPins, options: StepperOptions = {}) {
    const { stepsPerRevolution = 200, rpm = 60, halfSteps = false, acceleration = 0, startRpm = 0, motion } = options
    const position = motion?.position ?? options.position ?? 0
    this.#pins = pins
    if (!(stepsPerRevolution > 0)) throw unexpected(this.#name, 'steps of a turn above 0', stepsPerRevolution)
    this.#stepsPerRevolution = stepsPerRevolution
    this.#stride = halfSteps ? 1 : 2
    if (!(acceleration >= 0)) throw unexpected(this.#name, 'an acceleration of 0 or more rpm a second', acceleration)
    if (!(startRpm >= 0)) throw unexpected(this.#name, 'a start of 0 or more rpm', startRpm)
    this.#acceleration = this.#stepsOf(acceleration)
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
  }

  get rpm(): number {
    return this.#rpm
  }

  /** Turns a minute, above 0. Takes effect with the next step. */
  set rpm(rpm: number) {
    if (!(rpm > 0)) throw unexpected(this.#name, 'more than 0 turns a minute', rpm)
    this.#rpm = rpm
  }

  /** Steps, counted from the `position` of the options. */
  get position(): number {
    return this.#position
  }

  /** The current motion, for the successor: `state.motion = stepper.motion` after each tick. */
  get motion(): StepperMotion {
    const target = Number.isFinite(this.#target) ? this.#target : this.#target > 0 ? 'cw' : 'ccw'
    return { position: this.#position, target, speed: this.#way * this.#speed, part: this.#due }
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
    if (!Number.isInteger(position)) throw unexpected(this.#name, 'a whole number of steps', position)
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
    if (this.#due + dt * this.#speed > 2) this.#speed = Math.max(this.#startSpeed, Math.min(this.#speed, 1 / dt))
    const change = this.#acceleration * dt
    const left = (this.#target - this.#position) * this.#way - this.#due
    const stoppable = left > 0 ? Math.sqrt(this.#startSpeed ** 2 + 2 * this.#acceleration * left) : 0
    const most = Math.min(this.#stepsOf(this.#rpm), Math.max(stoppable, left > 0 ? change : 0))
    const before = this.#speed
    this.#speed = Math.max(Math.min(before + change, most), before - change, 0)
    if (left <= 0 && this.#speed <= this.#startSpeed) {
      // past the target: reverse with the next tick
      this.#stand()
      return 0
    }
    this.#due = Math.min(2, this.#due + (dt * (before + this.#speed)) / 2)
    return this.#way
  }

  /** True when the motor is slow enough to stop here. It is not if the target was moved nearer than it can brake. */
  #canStand(dt: number): boolean {
    const a = this.#acceleration
    return a === 0 || this.#speed <= Math.sqrt(this.#startSpeed ** 2 + 2 * a) + a * dt
  }

  #stand(): void {
    this.#way = 0
    this.#speed = 0
    this.#due = 0
  }

  #brakingSteps(): number {
    if (this.#acceleration === 0) return 0
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
