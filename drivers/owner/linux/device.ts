/**
 * Invariant: a device module opens, or continues, one resource; what may be done with it and by whom is decided here.
 *
 * The common shape of the modules in this folder: each exports functions `open…(context): Opened`.
 */
import { placeOf, slewOf } from '../../board/places.ts'
import type { Board, BoardHandle } from '../../board/types.ts'
import { monotonicClock } from '../../clock.ts'
import { HardwareError } from '../../errors.ts'
import { decodeNumber, encodeNumber, OP } from '../../program/broker/protocol.ts'
import { type Edge, isDriven, type SupportedKind } from '../../program/handle.ts'
import { Slew } from '../../program/slew.ts'
import type { GrantSource, HandleInfo, Kept, Lateness, OwnedHandle } from '../backend.ts'
import { checkedValue } from '../values.ts'
import type { EdgeReader } from './edges.ts'
import type { LinuxSystem } from './system.ts'

/** What device modules need to know of the board. */
export type LinuxBoard = Pick<Board, 'model' | 'chip'> & Partial<Pick<Board, 'realtime'>>

export interface OpenContext<E extends BoardHandle = BoardHandle> {
  readonly name: string
  readonly entry: E
  readonly board: LinuxBoard
  readonly system: LinuxSystem
  /** For the descriptors of inputs. */
  readonly edges: EdgeReader
  /** Folder of socket files. */
  readonly sockets?: string | undefined
  /** Present: HANDLES 3.9, open no device, request and configure nothing, write nothing. */
  readonly kept?: Kept
}

/** An open resource. Methods throw HardwareError; none is called after `close`. */
export interface Opened {
  /** How programs get it, unless the board says broker. */
  readonly source: GrantSource
  /** What has to stay open for `kept` (HANDLES 3.9), in the order in which `open` takes it back. */
  readonly fds: readonly number[]
  /** Logical level or duty cycle; absent for devices on a bus. */
  value?(): number | undefined
  /** What `value` is, or why there is none: throws HardwareError. */
  measured?(): number
  /** A value that was checked: 0 or 1, or a duty cycle within its limits. */
  drive?(value: number): void
  /** Transfers of brokered devices, {@link OP}; fence and handle were checked. */
  request?(op: number, payload: Uint8Array): Uint8Array
  /** Inputs. */
  onEdge?(listener: (edge: Edge) => void): () => void
  /** Inputs: of the last edge; 0 before the first. */
  seqno?(): number
  /** A new writer may write from now on. */
  raised?(): void
  /** Software PWM. */
  lateness?(): Lateness
  /** Writes that gave it its initial value; without it 1 for what is driven and was not kept, else 0. */
  readonly initWrites?: number
  /** Called once. */
  close(): void
}

/** The backend's side of a handle. */
export interface HandleOwner {
  /** The highest fence that programs may use now. */
  readonly allowed: number
  /** The handle is closed: its name and line are free. */
  closed(name: string): void
}

export class LinuxHandle implements OwnedHandle {
  readonly name: string
  readonly id: number
  readonly kind: SupportedKind
  readonly entry: BoardHandle
  readonly #opened: Opened
  readonly #owner: HandleOwner
  readonly #adopted: boolean
  #fence: number
  #staleWrites = 0
  readonly #slew: Slew | null
  #open = true

  constructor(id: number, { name, entry, kept }: OpenContext, opened: Opened, owner: HandleOwner) {
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
    // HANDLES 3.3
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
    // HANDLES 3.5
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
    else this.#slew.to(checked)
    return new Uint8Array(0)
  }

  onEdge(listener: (edge: Edge) => void): () => void {
    this.#check()
    return this.#opened.onEdge?.(listener) ?? (() => {})
  }

  /** HANDLES 3.5: no program may use a fence below this one any more. */
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

  /** HANDLES 15.3. A step that fails ends the motion: the program's next write says why. */
  #slewed(rate: number): Slew {
    const drive = (value: number) => this.#set(value)
    const value = this.#opened.value?.() ?? 0
    const always = { live: () => true, again: () => false }
    return new Slew({ rate, side: 'owner', value, clock: monotonicClock, drive, ...always })
  }

  #stale(fence: number): HardwareError {
    this.#staleWrites++
    return new HardwareError('revoked', `${this.name}: fence ${fence} is not the present one (${this.#fence})`)
  }

  #check(): void {
    if (!this.#open) throw new HardwareError('no-device', `${this.name}: is closed`)
  }
}
