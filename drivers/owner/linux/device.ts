/**
 * LinuxHandle: checks fence and value for every kind of handle, then calls the device module that opened the resource.
 *
 * Each device module in this folder exports functions `open…(context): OpenDevice`.
 */
import { placeOf, slewOf } from '../../board/places.ts'
import type { Board, BoardHandle } from '../../board/types.ts'
import { monotonicClock } from '../../clock.ts'
import { HardwareError } from '../../errors.ts'
import { decodeNumber, encodeNumber, OP } from '../../program/broker/protocol.ts'
import { type Edge, isDriven, type SupportedKind } from '../../program/handle.ts'
import { Slew } from '../../program/slew.ts'
import type { GrantSource, HandleInfo, KeptHandle, Lateness, OwnedHandle } from '../backend.ts'
import { checkedValue } from '../values.ts'
import type { EdgeReader } from './edges.ts'
import type { LinuxSystem } from './system.ts'

/** The part of the board that device modules use. */
export type LinuxBoard = Pick<Board, 'model' | 'chip'> & Partial<Pick<Board, 'realtime'>>

export interface OpenContext<E extends BoardHandle = BoardHandle> {
  readonly name: string
  readonly entry: E
  readonly board: LinuxBoard
  readonly system: LinuxSystem
  /** Reads the edges of inputs. */
  readonly edges: EdgeReader
  /** Folder for socket files. */
  readonly sockets?: string | undefined
  /** When present, the module continues on these descriptors: it opens, configures and writes nothing (HANDLES 3.9). */
  readonly kept?: KeptHandle
}

/** An open resource, as a device module returns it. Methods throw HardwareError; none is called after `close`. */
export interface OpenDevice {
  /** How programs reach the resource, unless the board file says `broker`. */
  readonly source: GrantSource
  /** Descriptors that must stay open for `kept` (HANDLES 3.9), in the order that `open…` expects. */
  readonly fds: readonly number[]
  /** Logical level or duty cycle; absent for devices on a bus. */
  value?(): number | undefined
  /** As `value`, but throws HardwareError when there is no value. */
  measured?(): number
  /** Drives a value that was checked: 0 or 1, or a duty cycle within its limits. */
  drive?(value: number): void
  /** Runs a transfer ({@link OP}) for a program; fence and handle were checked. */
  request?(op: number, payload: Uint8Array): Uint8Array
  /** Inputs: subscribes to edges. */
  onEdge?(listener: (edge: Edge) => void): () => void
  /** Inputs: number of the last edge; 0 before the first. */
  seqno?(): number
  /** Called when the fence rises: from now on there is a new writer. */
  raised?(): void
  /** Software PWM only. */
  lateness?(): Lateness
  /** How often the initial value was written. Default: 1 for a driven kind that was opened anew, else 0. */
  readonly initWrites?: number
  /** Releases the resource; called once. */
  close(): void
}

/** What a handle needs of its backend. */
export interface HandleOwner {
  /** The highest fence that programs may use. */
  readonly allowed: number
  /** Called when a handle is closed: its name and line are free again. */
  closed(name: string): void
}

export class LinuxHandle implements OwnedHandle {
  readonly name: string
  readonly id: number
  readonly kind: SupportedKind
  readonly entry: BoardHandle
  readonly #opened: OpenDevice
  readonly #owner: HandleOwner
  readonly #adopted: boolean
  #fence: number
  #staleWrites = 0
  readonly #slew: Slew | null
  #open = true

  constructor(id: number, { name, entry, kept }: OpenContext, opened: OpenDevice, owner: HandleOwner) {
    this.name = name
    this.id = id
    this.kind = entry.kind
    this.entry = entry
    this.#opened = opened
    this.#owner = owner
    this.#adopted = kept !== undefined
    this.#fence = kept?.fence ?? 0
    this.#slew = slewOf(entry) > 0 ? this.#slewed(slewOf(entry)) : null
  }

  value(): number | undefined {
    this.#check()
    return this.#opened.value?.()
  }

  drive(value: number, fence: number): void {
    this.#check()
    const checked = checkedValue(this.name, this.entry, value)
    // a newer writer has written: the body's older write must not undo it (HANDLES 3.3)
    if (fence < this.#fence) throw this.#stale(fence)
    this.#fence = fence
    this.#set(checked)
    this.#slew?.set(checked)
  }

  grant(): GrantSource {
    this.#check()
    return this.entry.via === 'broker' ? { via: 'broker' } : this.#opened.source
  }

  request(op: number, payload: Uint8Array, fence: number): Uint8Array {
    this.#check()
    if (op === OP.get) {
      const value = this.#opened.measured?.() ?? this.value()
      if (value !== undefined) return encodeNumber(value)
      throw new HardwareError('unsupported', `${this.name}: kind ${this.kind} has no value`)
    }
    // a program whose turn is over, or has not begun, may not write (HANDLES 3.5)
    if (fence < this.#fence || fence > this.#owner.allowed) throw this.#stale(fence)
    this.#fence = fence
    if (op !== OP.set) {
      if (this.#opened.request !== undefined) return this.#opened.request(op, payload)
      throw new HardwareError('unsupported', `${this.name}: no operation ${op} for kind ${this.kind}`)
    }
    const value = decodeNumber(payload)
    if (value === null) throw new HardwareError('other', `${this.name}: expected 8 bytes, got ${payload.length}`)
    const checked = checkedValue(this.name, this.entry, value)
    if (this.#slew === null) this.#set(checked)
    else this.#slew.moveTo(checked)
    return new Uint8Array(0)
  }

  onEdge(listener: (edge: Edge) => void): () => void {
    this.#check()
    return this.#opened.onEdge?.(listener) ?? (() => {})
  }

  /** From now on no program may use a fence below `fence` (HANDLES 3.5). */
  raise(fence: number): void {
    if (fence <= this.#fence) return
    this.#fence = fence
    this.#opened.raised?.()
    this.#slew?.settle()
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#slew?.stop()
    this.#opened.close()
    this.#owner.closed(this.name)
  }

  info(): HandleInfo {
    const { name, id, kind, entry } = this
    const value = this.#opened.value?.()
    const seqno = this.#opened.seqno?.()
    const shown = value === undefined ? {} : { value }
    const driven = isDriven(kind)
    const kept = {
      fds: this.#opened.fds,
      fence: this.#fence,
      ...shown,
      ...(seqno === undefined ? {} : { seqno }),
    }
    return {
      name,
      id,
      kind,
      line: placeOf(entry),
      ...shown,
      fence: this.#fence,
      opens: this.#adopted ? 0 : 1,
      initWrites: this.#opened.initWrites ?? (driven && !this.#adopted ? 1 : 0),
      edges: seqno ?? null,
      staleWrites: this.#staleWrites,
      kept,
      ...(this.#opened.lateness === undefined ? {} : { lateness: this.#opened.lateness() }),
    }
  }

  #set(value: number): void {
    if (this.#opened.drive === undefined) {
      throw new HardwareError('unsupported', `${this.name}: kind ${this.kind} cannot be written`)
    }
    this.#opened.drive(value)
  }

  /** The owner's side of the rate limit (HANDLES 15.3). A failed step ends the motion; the next write reports why. */
  #slewed(rate: number): Slew {
    const drive = (value: number) => this.#set(value)
    const value = this.#opened.value?.() ?? 0
    const always = { live: () => true, retry: () => false }
    return new Slew({ rate, side: 'owner', value, clock: monotonicClock, drive, ...always })
  }

  #stale(fence: number): HardwareError {
    this.#staleWrites++
    return new HardwareError('revoked', `${this.name}: fence ${fence} is not the current one (${this.#fence})`)
  }

  #check(): void {
    if (!this.#open) throw new HardwareError('no-device', `${this.name}: the handle is closed`)
  }
}
