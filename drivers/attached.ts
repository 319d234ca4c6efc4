/**
 * Invariant: the handles that a program holds write only through their port, and only while their lease is live.
 *
 * The same classes serve every way a handle reaches a program; a port is the one primitive that differs.
 */
import { HardwareError } from './errors.ts'
import type { Edge, Grant, Handle, Input, Lease, Level, Output, Pwm, Servo, SupportedKind } from './handle.ts'
import { rangeOf } from './servo.ts'

/** One way to the hardware. Each method throws HardwareError. */
export interface Port {
  write(value: number): void
  read(): number
  close(): void
}

const CARRY: unique symbol = Symbol('carry')
const DELIVER: unique symbol = Symbol('deliver')

/** HANDLES 3.6: takes over the value that the predecessor left, without writing it. */
export function setCarried(handle: Handle, value: number): void {
  ;(handle as { [CARRY]?: (value: number) => void })[CARRY]?.(value)
}

/** Hands an edge, which the body read, to the listeners of an input. A listener that throws stops the delivery. */
export function deliverEdge(handle: Handle, edge: Edge): void {
  ;(handle as { [DELIVER]?: (edge: Edge) => void })[DELIVER]?.(edge)
}

abstract class Attached {
  readonly name: string
  protected open = true
  readonly #port: Port

  constructor(name: string, port: Port) {
    this.name = name
    this.#port = port
  }

  close(): void {
    if (!this.open) return
    this.open = false
    this.#port.close()
  }
}

/** HANDLES 3.4: says why a call was refused. */
export function revoked(name: string, open: boolean): HardwareError {
  return new HardwareError('revoked', `${name}: ${open ? 'this program has no lease now' : 'the handle is closed'}`)
}

class AttachedOutput extends Attached implements Output {
  readonly kind = 'output'
  readonly #lease: Lease
  readonly #port: Port
  #value: Level

  constructor(grant: Grant, lease: Lease, port: Port) {
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

class AttachedPwm extends Attached implements Pwm {
  readonly kind = 'pwm'
  readonly periodNs: number
  readonly #lease: Lease
  readonly #port: Port
  readonly #min: number
  readonly #max: number
  #value: number

  constructor(grant: Grant, lease: Lease, port: Port) {
    super(grant.name, port)
    this.#lease = lease
    this.#port = port
    this.periodNs = grant.periodNs ?? 0
    this.#min = grant.min ?? 0
    this.#max = grant.max ?? 1
    this.#value = grant.value ?? 0
  }

  get value(): number {
    return this.#value
  }

  write(duty: number): void {
    if (!this.#lease.live || !this.open) throw revoked(this.name, this.open)
    // HANDLES 6.4: written so that NaN fails it
    if (!(duty >= 0 && duty <= 1)) {
      throw new HardwareError('other', `${this.name}: expected a duty cycle from 0 to 1, got ${duty}`)
    }
    // HANDLES 6.5
    const value = Math.min(this.#max, Math.max(this.#min, duty))
    this.#port.write(value)
    this.#value = value
  }

  [CARRY](value: number): void {
    this.#value = value
  }
}

class AttachedServo extends Attached implements Servo {
  readonly kind = 'servo'
  readonly range: readonly [number, number]
  readonly #lease: Lease
  readonly #port: Port
  #value: number

  constructor(grant: Grant, lease: Lease, port: Port) {
    super(grant.name, port)
    this.#lease = lease
    this.#port = port
    this.range = rangeOf(grant)
    this.#value = grant.value ?? 0
  }

  get value(): number {
    return this.#value
  }

  write(degrees: number): void {
    if (!this.#lease.live || !this.open) throw revoked(this.name, this.open)
    if (!Number.isFinite(degrees)) throw new HardwareError('other', `${this.name}: expected degrees, got ${degrees}`)
    // HANDLES 6.5
    const [lowest, highest] = this.range
    const value = Math.min(highest, Math.max(lowest, degrees))
    this.#port.write(value)
    this.#value = value
  }

  [CARRY](value: number): void {
    this.#value = value
  }
}

class AttachedInput extends Attached implements Input {
  readonly kind = 'input'
  readonly #port: Port
  readonly #listeners = new Set<(edge: Edge) => void>()

  constructor(grant: Grant, port: Port) {
    super(grant.name, port)
    this.#port = port
  }

  read(): Level {
    if (!this.open) throw revoked(this.name, false)
    return this.#port.read() ? 1 : 0
  }

  onEdge(listener: (edge: Edge) => void): () => void {
    if (!this.open) throw revoked(this.name, false)
    // one entry for each call, also when a listener is given twice
    const entry = (edge: Edge) => listener(edge)
    this.#listeners.add(entry)
    return () => this.#listeners.delete(entry)
  }

  override close(): void {
    this.#listeners.clear()
    super.close()
  }

  [DELIVER](edge: Edge): void {
    for (const listener of [...this.#listeners]) listener(edge)
  }
}

/** Throws `unsupported` for a kind that has no port (i2c). */
export function attach(grant: Grant, lease: Lease, port: Port): Handle {
  const kind: SupportedKind = grant.kind
  if (kind === 'output') return new AttachedOutput(grant, lease, port)
  if (kind === 'pwm') return new AttachedPwm(grant, lease, port)
  if (kind === 'servo') return new AttachedServo(grant, lease, port)
  if (kind === 'input') return new AttachedInput(grant, port)
  throw new HardwareError('unsupported', `${grant.name}: kind ${kind} cannot be handed over via ${grant.via}`)
}
