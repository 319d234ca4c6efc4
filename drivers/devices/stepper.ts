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
  /** Where it stands, in steps: what the predecessor of this program counted. Default 0. */
  position?: number
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

  constructor(pins: StepperPins, options: StepperOptions = {}) {
    const { stepsPerRevolution = 200, rpm = 60, halfSteps = false, position = 0 } = options
    this.#pins = pins
    if (!(stepsPerRevolution > 0)) throw unexpected(this.#name, 'steps of a turn above 0', stepsPerRevolution)
    this.#stepsPerRevolution = stepsPerRevolution
    this.#stride = halfSteps ? 1 : 2
    this.#position = position
    this.#target = position
    this.rpm = rpm
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

  /** Which way it goes: 1 clockwise, -1, or 0 while it stands. */
  get direction(): -1 | 0 | 1 {
    return Math.sign(this.#target - this.#position) as -1 | 0 | 1
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

  /** Stands still; the coils keep pulling. */
  stop(): void {
    this.#target = this.#position
  }

  /** Coils only: stops and lets the motor go. */
  release(): void {
    this.stop()
    if ('coils' in this.#pins) this.#pull(0)
  }

  /** To be called often, with the seconds since the last call: `every(1, (dt) => stepper.tick(dt))`. */
  tick(dt: number): void {
    const { direction } = this
    const perSecond = (this.#rpm * this.#stepsPerRevolution) / 60
    // what a late tick missed is not made up for: the motor would lose steps
    this.#due = direction === 0 ? 0 : Math.min(2, this.#due + dt * perSecond)
    if ('step' in this.#pins && this.#pins.step.value === 1) return this.#pins.step.write(0)
    if (this.#due < 1 || direction === 0) return
    this.#due -= 1
    this.#position += direction
    if ('coils' in this.#pins) return this.#turn(direction)
    const way = direction > 0 ? 1 : 0
    if (this.#pins.direction.value !== way) this.#pins.direction.write(way)
    this.#pins.step.write(1)
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
