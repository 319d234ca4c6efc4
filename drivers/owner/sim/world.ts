/**
 * Invariant: a level changes only by a write whose fence is allowed, by a wire, or by a pull, and each is in the trace.
 *
 * The simulated lines, buses and chips of one board (HANDLES 9). It outlives the backends that are opened on it.
 */
import { placeOf, slewOf } from '../../board/places.ts'
import type { BoardHandle } from '../../board/types.ts'
import { type Clock, monotonicClock } from '../../clock.ts'
import { HardwareError } from '../../errors.ts'
import type { Edge, Level } from '../../program/handle.ts'
import { Slew } from '../../program/slew.ts'
import type { Kept } from '../backend.ts'
import { checkedValue } from '../values.ts'
import { I2cBus } from './i2c.ts'
import { kindOf, newPin, type Pin } from './pin.ts'
import { SpiChips } from './spi.ts'
import { Thermometers } from './thermometers.ts'
import { Trace } from './trace.ts'

export type { Change } from './trace.ts'

export interface WorldOptions {
  clock?: Clock
  /** Pairs of handle names: an output that drives an input. */
  wires?: readonly (readonly [output: string, input: string])[]
  /** Entries of the trace that are kept. */
  ring?: number
}

export class World {
  readonly clock: Clock
  readonly trace: Trace
  readonly #wires: readonly (readonly [string, string])[]
  readonly #pins = new Map<string, Pin>()
  readonly #buses = new Map<number, I2cBus>()
  readonly #spi = new SpiChips()
  readonly #thermometers = new Thermometers()
  #allowed = 0

  constructor(options: WorldOptions = {}) {
    this.clock = options.clock ?? monotonicClock
    this.trace = new Trace(options.ring ?? 4096)
    this.#wires = options.wires ?? []
  }

  /** Every entry of the trace as it is made: writes, also refused ones, and levels of inputs. */
  onChange(listener: Parameters<Trace['listen']>[0]): () => void {
    return this.trace.listen(listener)
  }

  /** HANDLES 3.5: programs may use fencing numbers up to this one. It never falls. */
  allowFence(fence: number): void {
    this.#allowed = Math.max(this.#allowed, fence)
  }

  /** HANDLES 3.5: programs may not use fencing numbers below this one on the handle any more. */
  raise(name: string, fence: number): void {
    const pin = this.#held(name)
    if (fence <= pin.fence) return
    pin.fence = fence
    pin.slew?.settle()
  }

  /** Holds a line for a handle. `kept` continues a handle: nothing is written (HANDLES 3.9). Throws `busy`. */
  attach(name: string, entry: BoardHandle, kept?: Omit<Kept, 'fds'>): void {
    const line = placeOf(entry)
    for (const other of this.#pins.values()) {
      if (other.held && (other.name === name || other.line === line)) {
        throw new HardwareError('busy', `${name}: ${line} is held by ${other.name}`)
      }
    }
    if (entry.kind === 'i2c') this.#bus(entry.bus).place(entry.address, entry.simulate)
    if (entry.kind === 'analog') this.#bus(entry.bus).place(entry.address, entry.adc)
    if (entry.kind === 'spi') this.#spi.place(line, entry.simulate)
    if (entry.kind === 'temperature') this.#thermometers.place(entry.device)
    let pin = this.#pins.get(name)
    if (pin === undefined || pin.line !== line) {
      pin = newPin(name, entry)
      this.#pins.set(name, pin)
    }
    pin.entry = entry
    pin.held = true
    if (kept === undefined) pin.opens++
    else {
      pin.fence = kept.fence
      if (kept.value !== undefined) pin.value = kept.value
      if (kept.seqno !== undefined) pin.edges = kept.seqno
    }
    if (entry.kind === 'input') pin.value = this.#sensed(pin)
    else if ('initial' in entry && kept === undefined) {
      // HANDLES 3.2, 6.1
      pin.initWrites++
      this.#apply(pin, checkedValue(pin.name, pin.entry, entry.initial), pin.fence, this.clock.now())
      pin.edges = 0
    }
    pin.slew = this.#slew(pin)
  }

  detach(name: string): void {
    const pin = this.#pins.get(name)
    if (pin === undefined) return
    pin.held = false
    pin.pending?.()
    pin.pending = null
    pin.slew?.stop()
    pin.listeners.clear()
    this.#follow(name)
  }

  pin(name: string): Readonly<Pin> {
    const pin = this.#pins.get(name)
    if (pin?.held) return pin
    throw new HardwareError('no-device', `${name}: is not open`)
  }

  pins(): Readonly<Pin>[] {
    return [...this.#pins.values()]
  }

  /** The body's write (HANDLES 3.3). Throws `revoked` when a later fence has written. */
  drive(name: string, value: number, fence: number): void {
    const pin = this.#held(name)
    const level = checkedValue(pin.name, pin.entry, value)
    if (fence < pin.fence) throw this.#stale(pin, level, fence, this.clock.now())
    this.#apply(pin, level, fence, this.clock.now())
    pin.slew?.set(level)
  }

  /** A program's write, stamped by it. Throws `revoked` for a fence below the highest seen or above the allowed. */
  write(name: string, value: number, fence: number, stamp?: bigint): void {
    const pin = this.#held(name)
    const level = checkedValue(pin.name, pin.entry, value)
    const ns = this.#plausible(stamp)
    if (fence < pin.fence || fence > this.#allowed) throw this.#stale(pin, level, fence, ns)
    if (pin.slew === null) return this.#apply(pin, level, fence, ns)
    pin.writer = fence
    pin.slew.to(level)
  }

  /** A program's transfer on a bus, under the same rule as a write. */
  transfer(name: string, bytes: Uint8Array | null, length: number, fence: number): Uint8Array {
    const pin = this.#held(name)
    const { entry } = pin
    if (entry.kind !== 'i2c' && entry.kind !== 'analog') {
      throw new HardwareError('unsupported', `${name}: kind ${entry.kind} has no transfers`)
    }
    this.#admit(pin, fence)
    return this.#bus(entry.bus).transfer(entry.address, bytes, length)
  }

  /** The same on SPI: one message, and an answer of its length. */
  exchange(name: string, bytes: Uint8Array, fence: number): Uint8Array {
    const pin = this.#held(name)
    this.#admit(pin, fence)
    return this.#spi.transfer(pin.line, bytes)
  }

  /** degrees C of a sensor. Throws `no-device` and `bus`. */
  measure(name: string): number {
    return this.#thermometers.read(name, this.#sensor(name))
  }

  /** The same for who only looks: uses up no fault, and undefined is that there is none. */
  measured(name: string): number | undefined {
    return this.#thermometers.look(this.#sensor(name))
  }

  #sensor(name: string): string {
    const { entry } = this.#held(name)
    if (entry.kind === 'temperature') return entry.device
    throw new HardwareError('unsupported', `${name}: kind ${entry.kind} measures no temperature`)
  }

  #admit(pin: Pin, fence: number): void {
    if (fence < pin.fence || fence > this.#allowed) {
      pin.staleWrites++
      throw new HardwareError('revoked', `${pin.name}: fence ${fence} is not the present one (${pin.fence})`)
    }
    pin.fence = fence
  }

  onEdge(name: string, listener: (edge: Edge) => void): () => void {
    const { listeners } = this.#held(name)
    const entry = (edge: Edge) => listener(edge)
    listeners.add(entry)
    return () => listeners.delete(entry)
  }

  /** Sets the level of an input's line from outside; null gives it back to the board's pull. A wire is stronger. */
  pull(name: string, level: Level | null): void {
    const pin = this.#held(name)
    if (kindOf(pin) !== 'input') throw new HardwareError('unsupported', `${name}: only an input can be pulled`)
    pin.pulled = level
    this.#sense(pin)
  }

  /** The output that drives an input's line, and is stronger than a pull; null when none does. */
  driverOf(name: string): string | null {
    const output = this.#wires.find(([, to]) => to === name)?.[0]
    return output !== undefined && this.#pins.get(output)?.held === true ? output : null
  }

  /** Changes what the chip behind a handle senses, or gives it a fault. `volts` of an analog input are its own. */
  poke(name: string, what: string, value: unknown): void {
    const { entry, line } = this.#held(name)
    if (entry.kind === 'spi') return this.#spi.poke(line, what, value)
    if (entry.kind === 'temperature') return this.#thermometers.poke(entry.device, what, value)
    if (entry.kind !== 'i2c' && entry.kind !== 'analog') {
      throw new HardwareError('unsupported', `${name}: only a chip can be poked`)
    }
    const own = entry.kind === 'analog' && what === 'volts' && typeof value === 'number'
    this.#bus(entry.bus).poke(entry.address, own ? `ain${entry.channel}` : what, value)
  }

  /** The chip behind a handle on a bus. */
  chip(name: string): ReturnType<I2cBus['snapshot']> {
    const { entry, line } = this.#held(name)
    if (entry.kind === 'spi') return this.#spi.snapshot(line)
    if (entry.kind === 'temperature') return this.#thermometers.snapshot(entry.device)
    return entry.kind === 'i2c' || entry.kind === 'analog' ? this.#bus(entry.bus).snapshot(entry.address) : null
  }

  #held(name: string): Pin {
    return this.pin(name) as Pin
  }

  #bus(number: number): I2cBus {
    const bus = this.#buses.get(number) ?? new I2cBus(number)
    this.#buses.set(number, bus)
    return bus
  }

  /** HANDLES 9.4: a program's own time is believed when it lies in the last second. */
  #plausible(stamp: bigint | undefined): bigint {
    const now = this.clock.now()
    return stamp !== undefined && stamp <= now && stamp > now - 1_000_000_000n ? stamp : now
  }

  #stale(pin: Pin, value: number, fence: number, ns: bigint): HardwareError {
    pin.staleWrites++
    this.trace.add({
      name: pin.name,
      kind: kindOf(pin),
      line: pin.line,
      value,
      ns,
      fence,
      accepted: false,
      changed: false,
    })
    return new HardwareError('revoked', `${pin.name}: fence ${fence} is not the present one (${pin.fence})`)
  }

  #apply(pin: Pin, value: number, fence: number, ns: bigint): void {
    const changed = value !== pin.value
    pin.value = value
    // what an earlier writer set in motion arrives
    pin.fence = Math.max(pin.fence, fence)
    if (changed) pin.edges++
    this.trace.add({ name: pin.name, kind: kindOf(pin), line: pin.line, value, ns, fence, accepted: true, changed })
    if (changed || pin.entry.kind === 'output') this.#follow(pin.name)
  }

  /** HANDLES 15.3 */
  #slew(pin: Pin): Slew | null {
    const rate = slewOf(pin.entry)
    if (rate === 0) return null
    const { clock } = this
    const drive = (value: number) => this.#apply(pin, value, pin.writer, clock.now())
    return new Slew({ rate, side: 'owner', value: pin.value, clock, drive, live: () => pin.held, again: () => false })
  }

  /** The inputs that are wired to `output` look at their lines again. */
  #follow(output: string): void {
    for (const [from, to] of this.#wires) {
      const pin = from === output ? this.#pins.get(to) : undefined
      if (pin?.held) this.#sense(pin)
    }
  }

  /** Logical level of an input's line: a wired output that is held, or the pull from outside, or the board's. */
  #sensed(pin: Pin): Level {
    const { entry } = pin
    if (entry.kind !== 'input') return 0
    const wire = this.#wires.find(([, to]) => to === pin.name)
    const driver = wire === undefined ? undefined : this.#pins.get(wire[0])
    let high = pin.pulled === null ? entry.pull === 'up' : pin.pulled === 1
    if (driver?.held && driver.entry.kind === 'output') high = (driver.value === 1) !== driver.entry.activeLow
    return high !== entry.activeLow ? 1 : 0
  }

  /** HANDLES 9.3: with a debounce period the level changes when it has lasted that long. */
  #sense(pin: Pin): void {
    const { entry } = pin
    if (entry.kind !== 'input') return
    pin.pending?.()
    pin.pending = null
    if (this.#sensed(pin) === pin.value) return
    if (entry.debounceMs === 0) return this.#settle(pin)
    const wait = BigInt(Math.round(entry.debounceMs * 1e6))
    pin.pending = this.clock.after(wait, () => {
      pin.pending = null
      this.#settle(pin)
    })
  }

  #settle(pin: Pin): void {
    const level = this.#sensed(pin)
    const { entry } = pin
    if (level === pin.value || entry.kind !== 'input') return
    pin.value = level
    const ns = this.clock.now()
    this.trace.add({
      name: pin.name,
      kind: 'input',
      line: pin.line,
      value: level,
      ns,
      fence: 0,
      accepted: true,
      changed: true,
    })
    const wanted = entry.edges === 'both' || entry.edges === (level === 1 ? 'rising' : 'falling')
    if (!wanted) return
    const edge: Edge = { level, ns, seqno: ++pin.edges }
    for (const listener of [...pin.listeners]) listener(edge)
  }
}
