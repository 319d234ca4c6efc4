/**
 * The simulator's backend: opens the handles of a board on a simulated World, under the same rules as real hardware
 * (HANDLES 3, 9).
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { BoardHandle, SerialEntry } from '../../board/types.ts'
import { HardwareError } from '../../errors.ts'
import { decodeNumber, encodeNumber, MAX_PAYLOAD, OP } from '../../program/broker/protocol.ts'
import { type Edge, isDriven, isOnI2c, type Level, type SupportedKind } from '../../program/handle.ts'
import type { WriteRecord } from '../../program/inherit/record.ts'
import type { Backend, GrantSource, HandleInfo, KeptHandle, LineInfo, OwnedHandle } from '../backend.ts'
import { type Channel, LevelFile, NO_CHANNEL, RecordPipe } from './channels.ts'
import { SimulatedListener } from './listening.ts'
import { Pty } from './pty.ts'
import type { World } from './world.ts'

export interface SimOptions {
  world: World
  /**
   * A private folder for FIFOs and files, best on tmpfs; created with mode 0700. Each file is removed once it is
   * opened. null: no descriptors, every handle is brokered.
   */
  folder: string | null
  /** Folder for links to the other ends of serial lines; absent: serial lines are unsupported. */
  links?: string
  /** Folder for socket files. */
  sockets?: string
}

export class SimBackend implements Backend {
  readonly world: World
  readonly #folder: string | null
  readonly #links: string | undefined
  readonly #sockets: string | undefined
  readonly #handles = new Map<string, SimHandle>()

  constructor({ world, folder, links, sockets }: SimOptions) {
    this.world = world
    this.#folder = folder
    this.#links = links
    this.#sockets = sockets
    if (folder !== null) mkdirSync(folder, { recursive: true, mode: 0o700 })
  }

  list(): LineInfo[] {
    const held = new Map(this.world.pins().map((pin) => [pin.line, pin]))
    const lines = Array.from({ length: 54 }, (_, number) => `GPIO${number}`)
    const others = [...held.keys()].filter((line) => !lines.includes(line))
    return [...lines, ...others].map((line) => {
      const pin = held.get(line)
      return pin?.held ? { line, user: pin.name, kind: pin.entry.kind } : { line, user: null, kind: null }
    })
  }

  open(name: string, id: number, entry: BoardHandle): OwnedHandle {
    return this.#hold(name, id, entry, undefined)
  }

  adopt(name: string, id: number, entry: BoardHandle, kept: KeptHandle): OwnedHandle {
    return this.#hold(name, id, entry, kept)
  }

  info(name: string): HandleInfo | null {
    return this.#handles.get(name)?.info() ?? null
  }

  changesBetween(fromNs: number, toNs: number): string[] | null {
    return this.world.trace.changesBetween(fromNs, toNs)
  }

  close(): void {
    for (const handle of [...this.#handles.values()]) handle.close()
  }

  advance(fence: number, names: readonly string[]): void {
    this.world.allowFence(fence)
    for (const name of names) {
      const handle = this.#handles.get(name)
      if (handle === undefined) continue
      // applies the records that were written before the new fence (HANDLES 4.5)
      handle.value()
      this.world.raise(name, fence)
    }
  }

  /** Allows fences up to `fence`, without raising that of any handle. */
  allowFence(fence: number): void {
    this.advance(fence, [])
  }

  /** For tests and the simulator's own commands. */
  pull(name: string, level: Level | null): void {
    this.world.pull(name, level)
  }

  poke(name: string, what: string, value: unknown): void {
    this.world.poke(name, what, value)
  }

  #hold(name: string, id: number, entry: BoardHandle, kept: KeptHandle | undefined): OwnedHandle {
    if (!Number.isInteger(id) || id < 0 || id > 0xffff)
      throw new HardwareError('other', `${name}: id ${id} is not 16 bits`)
    for (const other of this.#handles.values()) {
      if (other.id === id) throw new HardwareError('busy', `${name}: id ${id} is held by ${other.name}`)
    }
    this.world.attach(name, entry, kept)
    try {
      const onRecord = (record: WriteRecord) => handle.take(record)
      const channel = this.#channel(name, id, entry, kept?.fds, onRecord)
      const handle = new SimHandle(this.world, channel, name, id, entry, () => this.#handles.delete(name))
      this.#handles.set(name, handle)
      return handle
    } catch (error) {
      this.world.detach(name)
      throw error
    }
  }

  #channel(
    name: string,
    id: number,
    entry: BoardHandle,
    fds: readonly number[] | undefined,
    onRecord: (record: WriteRecord) => void,
  ): Channel {
    const folder = this.#folder
    const [first, second] = fds ?? []
    if (entry.kind === 'serial') return this.#line(name, entry, first)
    if (entry.via === 'broker' || folder === null) return NO_CHANNEL
    if (entry.kind === 'listen') return SimulatedListener.make(name, entry, this.#sockets, first)
    const pair = first === undefined || second === undefined ? null : ([first, second] as const)
    if (entry.kind === 'input') return pair === null ? LevelFile.make(folder, id) : new LevelFile(pair)
    return pair === null ? RecordPipe.make(folder, name, id, onRecord) : new RecordPipe(name, pair, onRecord)
  }

  #line(name: string, entry: SerialEntry, fd: number | undefined): Channel {
    if (this.#links === undefined)
      throw new HardwareError('unsupported', `${name}: serial lines are not simulated here`)
    const link = join(this.#links, name)
    return fd === undefined ? Pty.make(name, entry, link) : new Pty(fd, link)
  }
}

class SimHandle implements OwnedHandle {
  readonly name: string
  readonly id: number
  readonly kind: SupportedKind
  readonly entry: BoardHandle
  readonly #world: World
  readonly #channel: Channel
  readonly #closed: () => void
  readonly #unlisten: () => void
  #open = true

  constructor(world: World, channel: Channel, name: string, id: number, entry: BoardHandle, closed: () => void) {
    this.#world = world
    this.#channel = channel
    this.name = name
    this.id = id
    this.kind = entry.kind
    this.entry = entry
    this.#closed = closed
    this.#unlisten = () => {}
    if (entry.kind !== 'input' || channel === NO_CHANNEL) return
    channel.show(world.pin(name).value)
    this.#unlisten = world.onChange((change) => {
      if (change.name === name) channel.show(change.value)
    })
  }

  get link(): string | undefined {
    return this.#channel.link
  }

  value(): number | undefined {
    this.#check()
    this.#channel.drain()
    if (this.kind === 'temperature') return this.#world.measured(this.name)
    return hasValue(this.kind) ? this.#world.pin(this.name).value : undefined
  }

  drive(value: number, fence: number): void {
    this.#check()
    // first apply, or refuse, the records that were written before this call
    this.#channel.drain()
    this.#world.drive(this.name, value, fence)
  }

  grant(): GrantSource {
    this.#check()
    return this.#channel.source
  }

  request(op: number, payload: Uint8Array, fence: number): Uint8Array {
    this.#check()
    this.#channel.drain()
    if (isOnI2c(this.kind)) return this.#transfer(op, payload, fence)
    if (this.kind === 'temperature' && op === OP.get) return encodeNumber(this.#world.measure(this.name))
    if (this.kind === 'spi' && op === OP.spiTransfer) return this.#world.exchange(this.name, payload, fence)
    if (!hasValue(this.kind)) throw new HardwareError('unsupported', `${this.name}: kind ${this.kind} has no value`)
    if (op === OP.get) return encodeNumber(this.#world.pin(this.name).value)
    if (op !== OP.set) throw new HardwareError('unsupported', `${this.name}: no operation ${op} for kind ${this.kind}`)
    const value = decodeNumber(payload)
    if (value === null) throw new HardwareError('other', `${this.name}: expected 8 bytes, got ${payload.length}`)
    this.#world.write(this.name, value, fence)
    return new Uint8Array(0)
  }

  onEdge(listener: (edge: Edge) => void): () => void {
    this.#check()
    return this.#world.onEdge(this.name, listener)
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#unlisten()
    this.#channel.close()
    this.#world.detach(this.name)
    this.#closed()
  }

  info(): HandleInfo {
    this.#channel.drain()
    const { line, value, fence, opens, initWrites, edges, staleWrites } = this.#world.pin(this.name)
    const shown = hasValue(this.kind) ? { value } : {}
    const kept: KeptHandle = {
      fds: this.#channel.fds,
      fence,
      ...shown,
      ...(this.kind === 'input' ? { seqno: edges } : {}),
    }
    return {
      name: this.name,
      id: this.id,
      kind: this.kind,
      line,
      fence,
      opens,
      initWrites,
      edges,
      staleWrites,
      kept,
      ...shown,
    }
  }

  /** Applies a record. A refused record changes nothing (HANDLES 4.3); the world has counted and traced it. */
  take(record: WriteRecord): void {
    if (!this.#open || record.id !== this.id) return
    try {
      this.#world.write(this.name, record.value, record.fence, record.ns)
    } catch (error) {
      if (!(error instanceof HardwareError)) throw error
    }
  }

  #transfer(op: number, payload: Uint8Array, fence: number): Uint8Array {
    const reads = op === OP.i2cRead || op === OP.i2cTransfer
    const writes = op === OP.i2cWrite || op === OP.i2cTransfer
    if (!reads && !writes)
      throw new HardwareError('unsupported', `${this.name}: no operation ${op} for kind ${this.kind}`)
    const length = (payload[0] ?? 0) | ((payload[1] ?? 0) << 8)
    if (payload.length < 2 || length > MAX_PAYLOAD) {
      throw new HardwareError('other', `${this.name}: expected a length up to ${MAX_PAYLOAD}, got ${length}`)
    }
    return this.#world.transfer(this.name, writes ? payload.subarray(2) : null, reads ? length : 0, fence)
  }

  #check(): void {
    if (!this.#open) throw new HardwareError('no-device', `${this.name}: the handle is closed`)
  }
}

/** True for inputs and for driven kinds. */
function hasValue(kind: SupportedKind): boolean {
  return kind === 'input' || isDriven(kind)
}
