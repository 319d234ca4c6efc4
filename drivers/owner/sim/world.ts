/**
 * The simulated lines, buses and chips of one board (HANDLES 9). A world outlives the backends that are opened on it.
 *
 * Invariant: a level changes only by a write whose fence is allowed, by a wire or by a pull, and every change is in the
 * trace (test/drivers/owner/sim/world.test.ts).
 */
import { placeOf, slewOf } from '../../board/places.ts'
import type { BoardHandle } from '../../board/types.ts'
import { type Clock, monotonicClock } from '../../clock.ts'
import { HardwareError } from '../../errors.ts'
import type { Edge, Level } from '../../program/handle.ts'
import { Slew } from '../../program/slew.ts'
import type { KeptHandle } from '../backend.ts'
import { checkedValue } from '../values.ts'
import { type SavedChips, SimulatedI2cBus } from './i2c.ts'
import { kindOf, newPin, type Pin } from './pin.ts'
import { type SavedSpiChips, SpiChips } from './spi.ts'
import { Thermometers } from './thermometers.ts'
import { Trace } from './trace.ts'

export type { TraceEntry } from './trace.ts'

export interface WorldOptions {
  clock?: Clock
  /** Pairs of handle names: the output drives the input. */
  wires?: readonly (readonly [output: string, input: string])[]
  /** Number of trace entries to keep. */
  ring?: number
  /** From {@link World.save}: the world goes on where it was. */
  saved?: SavedWorld
}

type SavedPin = Pick<Pin, 'name' | 'line' | 'writer' | 'opens' | 'initWrites' | 'edges' | 'staleWrites' | 'pulled'>

/** The chips, and what is not in the `kept` of a handle; for node:v8's serialize. */
export interface SavedWorld {
  readonly pins: readonly SavedPin[]
  readonly buses: readonly (readonly [number, SavedChips])[]
  readonly spi: SavedSpiChips
  readonly thermometers: ReturnType<Thermometers['save']>
}

export class World {
  readonly clock: Clock
  readonly trace: Trace
  readonly #wires: readonly (readonly [string, string])[]
  readonly #pins = new Map<string, Pin>()
  readonly #buses = new Map<number, SimulatedI2cBus>()
  readonly #spi: SpiChips
  readonly #thermometers: Thermometers
  #allowed = 0
  /** Pins of the world before, until their handles are adopted. */
  readonly #saved = new Map<string, SavedPin>()

  constructor(options: WorldOptions = {}) {
    this.clock = options.clock ?? monotonicClock
    this.trace = new Trace(options.ring ?? 4096)
    this.#wires = options.wires ?? []
    const { saved } = options
    this.#spi = new SpiChips(saved?.spi)
    this.#thermometers = new Thermometers(saved?.thermometers)
    for (const [bus, chips] of saved?.buses ?? []) this.#buses.set(bus, new SimulatedI2cBus(bus, chips))
    for (const pin of saved?.pins ?? []) this.#saved.set(pin.name, pin)
  }

  /** Levels and fences are in the `kept` of the handles. */
  save(): SavedWorld {
    return {
      pins: [...this.#pins.values()].map(({ name, line, writer, opens, initWrites, edges, staleWrites, pulled }) => {
        return { name, line, writer, opens, initWrites, edges, staleWrites, pulled }
      }),
      buses: [...this.#buses].map(([number, bus]) => [number, bus.save()]),
      spi: this.#spi.save(),
      thermometers: this.#thermometers.save(),
    }
  }

  /** Calls `listener` with each new trace entry: writes, also refused ones, and changes of inputs. */
  onChange(listener: Parameters<Trace['listen']>[0]): () => void {
    return this.trace.listen(listener)
  }

  /** From now on programs may use fences up to this one (HANDLES 3.5). A lower number changes nothing. */
  allowFence(fence: number): void {
    this.#allowed = Math.max(this.#allowed, fence)
  }

  /** From now on programs may not use a fence below this one on the handle (HANDLES 3.5). */
  raise(name: string, fence: number): void {
    const pin = this.#held(name)
    if (fence <= pin.fence) return
    pin.fence = fence
    pin.slew?.settle()
  }

  /** Opens a handle. With `kept` it is continued, and nothing is written (HANDLES 3.9). Throws `busy`. */
  attach(name: string, entry: BoardHandle, kept?: Omit<KeptHandle, 'fds'>): void {
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
      const saved = this.#saved.get(name)
      if (saved?.line === line) Object.assign(pin, saved)
      pin.fence = kept.fence
      if (kept.value !== undefined) pin.value = kept.value
      if (kept.seqno !== undefined) pin.edges = kept.seqno
    }
    if (entry.kind === 'input') pin.value = this.#levelOfLine(pin)
    else if ('initial' in entry && kept === undefined) {
      // the initial value is written once, and does not count as an edge (HANDLES 3.2, 6.1)
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
    this.#updateWired(name)
  }

  pin(name: string): Readonly<Pin> {
    const pin = this.#pins.get(name)
    if (pin?.held) return pin
    throw new HardwareError('no-device', `${name}: is not open`)
  }

  pins(): Readonly<Pin>[] {
    return [...this.#pins.values()]
  }

  /** A write by the body (HANDLES 3.3). Throws `revoked` when `fence` is below the highest seen. */
  drive(name: string, value: number, fence: number): void {
    const pin = this.#held(name)
    const level = checkedValue(pin.name, pin.entry, value)
    if (fence < pin.fence) throw this.#stale(pin, level, fence, this.clock.now())
    this.#apply(pin, level, fence, this.clock.now())
    pin.slew?.set(level)
  }

  /** A write by a program, with its time stamp. Throws `revoked` for a fence below the highest seen or not allowed. */
  write(name: string, value: number, fence: number, stamp?: bigint): void {
    const pin = this.#held(name)
    const level = checkedValue(pin.name, pin.entry, value)
    const ns = this.#plausible(stamp)
    if (fence < pin.fence || fence > this.#allowed) throw this.#stale(pin, level, fence, ns)
    if (pin.slew === null) return this.#apply(pin, level, fence, ns)
    pin.writer = fence
    pin.slew.moveTo(level)
  }

  /** An I2C transfer by a program, with the same check of its fence as a write. */
  transfer(name: string, bytes: Uint8Array | null, length: number, fence: number): Uint8Array {
    const pin = this.#held(name)
    const { entry } = pin
    if (entry.kind !== 'i2c' && entry.kind !== 'analog') {
      throw new HardwareError('unsupported', `${name}: kind ${entry.kind} has no transfers`)
    }
    this.#checkFence(pin, fence)
    return this.#bus(entry.bus).transfer(entry.address, bytes, length)
  }

  /** An SPI message of a program; the answer has the same length. */
  exchange(name: string, bytes: Uint8Array, fence: number): Uint8Array {
    const pin = this.#held(name)
    this.#checkFence(pin, fence)
    return this.#spi.transfer(pin.line, bytes)
  }

  /** Measures with a sensor: degrees C. Throws `no-device` or `bus`. */
  measure(name: string): number {
    return this.#thermometers.read(name, this.#sensor(name))
  }

  /** The temperature for a status display: uses up no injected fault. undefined when a measurement would fail. */
  measured(name: string): number | undefined {
    return this.#thermometers.look(this.#sensor(name))
  }

  #sensor(name: string): string {
    const { entry } = this.#held(name)
    if (entry.kind === 'temperature') return entry.device
    throw new HardwareError('unsupported', `${name}: kind ${entry.kind} measures no temperature`)
  }

  #checkFence(pin: Pin, fence: number): void {
    if (fence < pin.fence || fence > this.#allowed) {
      pin.staleWrites++
      throw new HardwareError('revoked', `${pin.name}: fence ${fence} is not the current one (${pin.fence})`)
    }
    pin.fence = fence
  }

  onEdge(name: string, listener: (edge: Edge) => void): () => void {
    const { listeners } = this.#held(name)
    const entry = (edge: Edge) => listener(edge)
    listeners.add(entry)
    return () => listeners.delete(entry)
  }

  /** Sets the level of an input's line. null: back to the board's pull. A wire overrides both. */
  pull(name: string, level: Level | null): void {
    const pin = this.#held(name)
    if (kindOf(pin) !== 'input') throw new HardwareError('unsupported', `${name}: only an input can be pulled`)
    pin.pulled = level
    this.#sense(pin)
  }

  /** The output that is wired to an input and overrides its pull; null when there is none. */
  driverOf(name: string): string | null {
    const output = this.#wires.find(([, to]) => to === name)?.[0]
    return output !== undefined && this.#pins.get(output)?.held === true ? output : null
  }

  /**
   * Changes what the chip of a handle senses, or gives the chip a fault. For an analog handle `volts` sets its input.
   */
  poke(name: string, what: string, value: unknown): void {
    const { entry, line } = this.#held(name)
    if (entry.kind === 'spi') return this.#spi.poke(line, what, value)
    if (entry.kind === 'temperature') return this.#thermometers.poke(entry.device, what, value)
    if (entry.kind !== 'i2c' && entry.kind !== 'analog') {
      throw new HardwareError('unsupported', `${name}: only a chip can be poked`)
    }
    const setsInput = entry.kind === 'analog' && what === 'volts' && typeof value === 'number'
    this.#bus(entry.bus).poke(entry.address, setsInput ? `ain${entry.channel}` : what, value)
  }

  /** State of the chip of a handle; null when the handle has none. */
  chip(name: string): ReturnType<SimulatedI2cBus['snapshot']> {
    const { entry, line } = this.#held(name)
    if (entry.kind === 'spi') return this.#spi.snapshot(line)
    if (entry.kind === 'temperature') return this.#thermometers.snapshot(entry.device)
    return entry.kind === 'i2c' || entry.kind === 'analog' ? this.#bus(entry.bus).snapshot(entry.address) : null
  }

  #held(name: string): Pin {
    return this.pin(name) as Pin
  }

  #bus(number: number): SimulatedI2cBus {
    const bus = this.#buses.get(number) ?? new SimulatedI2cBus(number)
    this.#buses.set(number, bus)
    return bus
  }

  /** A program's time stamp counts when it lies within the last second, else the time is now (HANDLES 9.4). */
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
    return new HardwareError('revoked', `${pin.name}: fence ${fence} is not the current one (${pin.fence})`)
  }

  #apply(pin: Pin, value: number, fence: number, ns: bigint): void {
    const changed = value !== pin.value
    pin.value = value
    // a motion of an earlier writer still ends, with that writer's lower fence
    pin.fence = Math.max(pin.fence, fence)
    if (changed) pin.edges++
    this.trace.add({ name: pin.name, kind: kindOf(pin), line: pin.line, value, ns, fence, accepted: true, changed })
    if (changed || pin.entry.kind === 'output') this.#updateWired(pin.name)
  }

  /** The owner's side of the rate limit: a program cannot bypass it (HANDLES 15.3). */
  #slew(pin: Pin): Slew | null {
    const rate = slewOf(pin.entry)
    if (rate === 0) return null
    const { clock } = this
    const drive = (value: number) => this.#apply(pin, value, pin.writer, clock.now())
    return new Slew({ rate, side: 'owner', value: pin.value, clock, drive, live: () => pin.held, retry: () => false })
  }

  /** Updates the inputs that are wired to `output`. */
  #updateWired(output: string): void {
    for (const [from, to] of this.#wires) {
      const pin = from === output ? this.#pins.get(to) : undefined
      if (pin?.held) this.#sense(pin)
    }
  }

  /** Logical level of an input's line, from its wired output if that is open, else from `pull`, else from the board. */
  #levelOfLine(pin: Pin): Level {
    const { entry } = pin
    if (entry.kind !== 'input') return 0
    const wire = this.#wires.find(([, to]) => to === pin.name)
    const driver = wire === undefined ? undefined : this.#pins.get(wire[0])
    let high = pin.pulled === null ? entry.pull === 'up' : pin.pulled === 1
    if (driver?.held && driver.entry.kind === 'output') high = (driver.value === 1) !== driver.entry.activeLow
    return high !== entry.activeLow ? 1 : 0
  }

  /** Updates an input; with a debounce period, after the new level has lasted for it (HANDLES 9.3). */
  #sense(pin: Pin): void {
    const { entry } = pin
    if (entry.kind !== 'input') return
    pin.pending?.()
    pin.pending = null
    if (this.#levelOfLine(pin) === pin.value) return
    if (entry.debounceMs === 0) return this.#settle(pin)
    const wait = BigInt(Math.round(entry.debounceMs * 1e6))
    pin.pending = this.clock.after(wait, () => {
      pin.pending = null
      this.#settle(pin)
    })
  }

  #settle(pin: Pin): void {
    const level = this.#levelOfLine(pin)
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
