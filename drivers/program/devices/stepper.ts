/**
 * Invariant: one tick makes at most one change of the coils, or one half of a pulse, so that no step is too short for
 * the motor or its driver, however late a tick comes; a successor goes on from the coils as they are.
 */
import type { Output } from '../handle.ts'
import { unexpected } from './registers.ts'

/**
 * `step` and `direction` of a driver (A4988, DRV8825, TMC2209), which counts rising edges, or four coils in the order in
 * which they pull (ULN2003, L298).
 */
export type StepperPins =
  | { readonly step: Output; readonly direction: Output }
  | { readonly coils: readonly [Output, Output, Output, Output] }

export interface StepperOptions {
  /** Of one turn, the driver's micro steps included. Default 200. */
  stepsPerRevolution?: number
  /** Default 60. */
  rpm?: number
  /** Coils only: half steps, of which a turn has twice as many. Default false. */
  halfSteps?: boolean
  /** rpm by which it gets faster and slower in a second, in a trapezoid. 0, the default: at once. */
  acceleration?: number
  /** With an acceleration: rpm at which it can start and stop at once (its pull-in rate). Default 0. */
  startRpm?: number
  /** Where it stands, in steps: what the predecessor of this program counted. Default 0. */
  position?: number
  /** Instead: how the predecessor's was moving, from its `motion`. */
  motion?: StepperMotion | undefined
}

/** JSON: a place in the state of a program carries a motion over a swap. */
export interface StepperMotion {
  /** Steps. */
  readonly position: number
  /** Steps; `cw` and `ccw` are on and on. */
  readonly target: number | 'cw' | 'ccw'
  /** Steps a second, counterclockwise when negative. */
  readonly speed: number
  /** Of the next step, what is over: 0 to 2. */
  readonly part: number
}

/** Coils that pull, in half steps; every second one, from the second on, is a full step with two coils. */
const HALF_STEPS = [0b0001, 0b0011, 0b0010, 0b0110, 0b0100, 0b1100, 0b1000, 0b1001] as const

/**
 * A stepper motor. It moves in {@link tick} only: with step and direction at most one step in two ticks, with coils one
 * in each, which bounds the rpm.
 */
export class Stepper {
  readonly #pins: StepperPins
  readonly #stepsPerRevolution: number
  readonly #stride: 1 | 2
  #rpm = 60
  #position: number
  #target: number
  #due = 0
  /** Steps a second, and which way. Without an acceleration the way alone counts. */
  #speed = 0
  #way: -1 | 0 | 1 = 0
  /** Steps a second, and that again in a second; 0: at once. */
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

  /** Turns a minute, more than 0; from the next step on. */
  set rpm(rpm: number) {
    if (!(rpm > 0)) throw unexpected(this.#name, 'more than 0 turns a minute', rpm)
    this.#rpm = rpm
  }

  /** Steps, counted from the `position` it was given. */
  get position(): number {
    return this.#position
  }

  /** How it moves now, for the successor: `state.motion = stepper.motion` after each tick. */
  get motion(): StepperMotion {
    const target = Number.isFinite(this.#target) ? this.#target : this.#target > 0 ? 'cw' : 'ccw'
    return { position: this.#position, target, speed: this.#way * this.#speed, part: this.#due }
  }

  /** Which way it goes: 1 clockwise, -1, or 0 while it stands. While it brakes to turn round, still the old way. */
  get direction(): -1 | 0 | 1 {
    const ahead = Math.sign(this.#target - this.#position) as -1 | 0 | 1
    return this.#acceleration === 0 ? ahead : this.#way || ahead
  }

  get isRunning(): boolean {
    return this.direction !== 0
  }

  /** So many steps more, counterclockwise when negative. After `run` they count from where it is. */
  step(steps: number): void {
    this.moveTo((Number.isFinite(this.#target) ? this.#target : this.#position) + steps)
  }

  cw(steps: number): void {
    this.step(Math.abs(steps))
  }

  ccw(steps: number): void {
    this.step(-Math.abs(steps))
  }

  /** To a position, in whole steps. */
  moveTo(position: number): void {
    if (!Number.isInteger(position)) throw unexpected(this.#name, 'a whole number of steps', position)
    this.#target = position
  }

  /** On and on, until `stop`. */
  run(direction: 1 | -1 = 1): void {
    this.#target = direction * Number.POSITIVE_INFINITY
  }

  /** Stands still, with an acceleration after the way that it needs to brake; the coils keep pulling. */
  stop(): void {
    this.#target = this.#position + this.#way * this.#brakingSteps()
  }

  /** Coils only: stops at once and lets the motor go. */
  release(): void {
    this.#target = this.#position
    this.#stand()
    if ('coils' in this.#pins) this.#pull(0)
  }

  /** To be called often, with the seconds since the last call: `every(1, (dt) => stepper.tick(dt))`. */
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

  /** At its speed at once. */
  #go(dt: number): -1 | 0 | 1 {
    this.#way = Math.sign(this.#target - this.#position) as -1 | 0 | 1
    this.#speed = this.#way === 0 ? 0 : this.#stepsOf(this.#rpm)
    // what a late tick missed is not made up for: the motor would lose steps
    this.#due = this.#way === 0 ? 0 : Math.min(2, this.#due + dt * this.#speed)
    return this.#way
  }

  /**
   * As fast as it may be: what it has gained since the last tick, its rpm, and what it can still lose on the way that is
   * left, v = sqrt(start^2 + 2 a s) ("AVR446: linear speed control of stepper motor", Atmel, equations of section 2).
   */
  #ramp(dt: number): -1 | 0 | 1 {
    if (this.#way === 0) {
      this.#way = Math.sign(this.#target - this.#position) as -1 | 0 | 1
      if (this.#way === 0) return 0
      this.#speed = this.#startSpeed
    }
    // a pause of several steps: the motor stands
    if (this.#due + dt * this.#speed > 2) this.#speed = Math.max(this.#startSpeed, Math.min(this.#speed, 1 / dt))
    const change = this.#acceleration * dt
    const left = (this.#target - this.#position) * this.#way - this.#due
    const stoppable = left > 0 ? Math.sqrt(this.#startSpeed ** 2 + 2 * this.#acceleration * left) : 0
    const most = Math.min(this.#stepsOf(this.#rpm), Math.max(stoppable, left > 0 ? change : 0))
    const before = this.#speed
    this.#speed = Math.max(Math.min(before + change, most), before - change, 0)
    if (left <= 0 && this.#speed <= this.#startSpeed) {
      // it has gone too far, and turns round at the next tick
      this.#stand()
      return 0
    }
    this.#due = Math.min(2, this.#due + (dt * (before + this.#speed)) / 2)
    return this.#way
  }

  /** With one step to go it is this slow, unless its target was moved nearer than it can brake. */
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
    const way = (this.#speed ** 2 - this.#startSpeed ** 2) / (2 * this.#acceleration)
    return Math.max(0, Math.ceil(way))
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
    // full steps are the odd ones; let go, it begins with the first of them
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
