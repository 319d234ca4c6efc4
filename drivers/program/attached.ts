/**
 * The handles that programs hold: outputs, inputs, PWM and servos. They write only while their lease is live.
 *
 * The classes are the same for inherited and brokered handles; only the port, which reaches the hardware, differs.
 */
import { type Clock, monotonicClock } from '../clock.ts'
import { HardwareError } from '../errors.ts'
import type { Edge, Grant, Handle, Input, LastEdge, Lease, Level, Output, Pwm, Servo, SupportedKind } from './handle.ts'
import { LAST_EDGE } from './lastedge.ts'
import { rangeOf } from './servo.ts'
import { Slew } from './slew.ts'

/** Access to the hardware of one handle. Each method throws HardwareError. */
export interface HandlePort {
  write(value: number): void
  read(): number
  close(): void
}

/** The clock of handles that move by themselves. */
export interface Pacing {
  /** Default: CLOCK_MONOTONIC and the event loop. */
  readonly clock?: Clock | undefined
  /** true: no handle moves by itself, and nothing is waited for. */
  readonly rehearsal?: boolean
}

const CARRY: unique symbol = Symbol('carry')
const DELIVER: unique symbol = Symbol('deliver')
const RENEW: unique symbol = Symbol('renew')

/** Takes over the value that the predecessor wrote last, without writing it again (HANDLES 3.6). */
export function setCarried(handle: Handle, value: number): void {
  ;(handle as { [CARRY]?: (value: number) => void })[CARRY]?.(value)
}

/** Removes the listeners of a handle, when its program starts again. */
export function unlisten(handle: Handle): void {
  ;(handle as { [RENEW]?: () => void })[RENEW]?.()
}

/** Passes an edge that the body read to the listeners of an input. A listener that throws ends the delivery. */
export function deliverEdge(handle: Handle, edge: Edge): void {
  ;(handle as { [DELIVER]?: (edge: Edge) => void })[DELIVER]?.(edge)
}

abstract class Attached {
  readonly name: string
  protected open = true
  readonly #port: HandlePort

  constructor(name: string, port: HandlePort) {
    this.name = name
    this.#port = port
  }

  close(): void {
    if (!this.open) return
    this.open = false
    this.#port.close()
  }
}

/** The error of a call without a live lease, or on a closed handle (HANDLES 3.4). */
export function revoked(name: string, open: boolean): HardwareError {
  return new HardwareError('revoked', `${name}: ${open ? 'this program has no lease now' : 'the handle is closed'}`)
}

class AttachedOutput extends Attached implements Output {
  readonly kind = 'output'
  readonly #lease: Lease
  readonly #port: HandlePort
  #value: Level

  constructor(grant: Grant, lease: Lease, port: HandlePort) {
    super(grant.name, port)
    this.#lease = lease
    this.#port = port
    this.#value = grant.value ? 1 : 0
  }

  get value(): Level {
    return this.#value
  }

  write(level: Level | boolean): void {
    if (!this.#lease.live || !this.open) throw revoked(this.name, this.open)
    const value = level ? 1 : 0
    this.#port.write(value)
    this.#value = value
  }

  [CARRY](value: number): void {
    this.#value = value ? 1 : 0
  }
}

/** A PWM or a servo: a value within limits, whose rate of change may be limited (HANDLES 15). */
abstract class AttachedValue extends Attached {
  readonly #lease: Lease
  readonly #port: HandlePort
  readonly #slew: Slew | null
  readonly #least: number
  readonly #most: number
  #value: number

  constructor(grant: Grant, lease: Lease, port: HandlePort, { clock = monotonicClock, rehearsal }: Pacing) {
    super(grant.name, port)
    this.#lease = lease
    this.#port = port
    const { value = 0, slew = 0, min = 0, max = 1 } = grant
    this.#value = value
    this.#least = min
    this.#most = max
    const drive = (next: number) => this.#drive(next)
    // in a rehearsal no value moves by itself (HANDLES 15.6)
    const live = () => this.#lease.live && rehearsal !== true
    const retry = (error: unknown) => {
      if ((error as { kind?: unknown }).kind === 'busy') return true
      throw error
    }
    this.#slew = slew > 0 ? new Slew({ rate: slew, side: 'program', value, clock, drive, live, retry }) : null
  }

  get value(): number {
    return this.#value
  }

  write(value: number): void {
    if (!this.#lease.live || !this.open) throw revoked(this.name, this.open)
    this.check(value)
    // a value beyond the limits goes to the limit (HANDLES 6.5)
    const within = Math.min(this.#most, Math.max(this.#least, value))
    if (this.#slew === null) this.#drive(within)
    else this.#slew.moveTo(within)
  }

  /** Throws `other` for an invalid value (HANDLES 6.4). */
  protected abstract check(value: number): void

  override close(): void {
    this.#slew?.stop()
    super.close()
  }

  #drive(value: number): void {
    this.#port.write(value)
    this.#value = value
  }

  [CARRY](value: number): void {
    this.#value = value
    // the first write moves from this value, without a jump (HANDLES 15.4)
    this.#slew?.set(value)
  }
}

class AttachedPwm extends AttachedValue implements Pwm {
  readonly kind = 'pwm'
  readonly periodNs: number

  constructor(grant: Grant, lease: Lease, port: HandlePort, pacing: Pacing) {
    super(grant, lease, port, pacing)
    this.periodNs = grant.periodNs ?? 0
  }

  protected override check(duty: number): void {
    // in this form the test also refuses NaN
    if (duty >= 0 && duty <= 1) return
    throw new HardwareError('other', `${this.name}: expected a duty cycle from 0 to 1, got ${duty}`)
  }
}

class AttachedServo extends AttachedValue implements Servo {
  readonly kind = 'servo'
  readonly range: readonly [number, number]

  constructor(grant: Grant, lease: Lease, port: HandlePort, pacing: Pacing) {
    super(grant, lease, port, pacing)
    this.range = rangeOf(grant)
  }

  protected override check(degrees: number): void {
    if (Number.isFinite(degrees)) return
    throw new HardwareError('other', `${this.name}: expected degrees, got ${degrees}`)
  }
}

class AttachedInput extends Attached implements Input {
  readonly kind = 'input'
  readonly #port: HandlePort
  readonly #listeners = new Set<(edge: Edge) => void>();
  [LAST_EDGE]: LastEdge | null = null

  constructor(grant: Grant, port: HandlePort) {
    super(grant.name, port)
    this.#port = port
  }

  read(): Level {
    if (!this.open) throw revoked(this.name, false)
    return this.#port.read() ? 1 : 0
  }

  onEdge(listener: (edge: Edge) => void): () => void {
    if (!this.open) throw revoked(this.name, false)
    // a wrapper for each subscription, so that the same listener can subscribe twice
    const entry = (edge: Edge) => listener(edge)
    this.#listeners.add(entry)
    return () => this.#listeners.delete(entry)
  }

  override close(): void {
    this.#listeners.clear()
    super.close()
  }

  [RENEW](): void {
    this.#listeners.clear()
  }

  [DELIVER](edge: Edge): void {
    this[LAST_EDGE] = { level: edge.level, ns: Number(edge.ns) }
    for (const listener of [...this.#listeners]) listener(edge)
  }
}

/** Makes the handle. Throws `unsupported` for a kind that has no port, such as i2c. */
export function attach(grant: Grant, lease: Lease, port: HandlePort, pacing: Pacing = {}): Handle {
  const kind: SupportedKind = grant.kind
  if (kind === 'output') return new AttachedOutput(grant, lease, port)
  if (kind === 'pwm') return new AttachedPwm(grant, lease, port, pacing)
  if (kind === 'servo') return new AttachedServo(grant, lease, port, pacing)
  if (kind === 'input') return new AttachedInput(grant, port)
  throw new HardwareError('unsupported', `${grant.name}: kind ${kind} cannot be handed over via ${grant.via}`)
}
