/**
 * The Linux backend: opens the handles of a board through the kernel's interfaces, one module for each.
 *
 * Each resource is opened once and stays open until its handle is closed or the body ends (HANDLES 3).
 */
import { placeOf } from '../../board/places.ts'
import type { BoardHandle } from '../../board/types.ts'
import { HardwareError } from '../../errors.ts'
import type { Backend, HandleInfo, KeptHandle, LineInfo, OwnedHandle } from '../backend.ts'
import { openSysfsInput, openSysfsOutput } from '../legacy/sysfs.ts'
import { type HandleOwner, type LinuxBoard, LinuxHandle, type OpenContext, type OpenDevice } from './device.ts'
import { EdgeReader } from './edges.ts'
import { openI2c } from './i2c.ts'
import { listLines, openInput, openOutput } from './lines.ts'
import { openListen } from './listen.ts'
import { openPigpio } from './pigpio.ts'
import { openPwm } from './pwm.ts'
import { openSerial } from './serial.ts'
import { openServo } from './servo.ts'
import { SoftPwm } from './softpwm.ts'
import { openSpi } from './spi.ts'
import { type LinuxSystem, loadSystem } from './system.ts'
import { W1Bus } from './w1.ts'

export interface LinuxOptions {
  board: LinuxBoard
  /** Default: {@link loadSystem}. */
  system?: LinuxSystem
  /** Folder for socket files; absent: `listen` with a path is unsupported. */
  sockets?: string
  /** Location of wavethread.js, when it is not beside this file. */
  waveThread?: URL
  /** Receives problems that no call reports: lost edges, a line that is gone. */
  note?: (text: string) => void
}

export class LinuxBackend implements Backend {
  readonly #board: LinuxBoard
  readonly #system: LinuxSystem
  readonly #edges: EdgeReader
  readonly #shared: Shared
  readonly #sockets: string | undefined
  readonly #handles = new Map<string, LinuxHandle>()
  readonly #owner: HandleOwner & { allowed: number }

  /** Throws `unsupported` where there is no Linux, or no koffi. */
  constructor({ board, system = loadSystem(), sockets, waveThread, note = () => {} }: LinuxOptions) {
    this.#board = board
    this.#system = system
    this.#sockets = sockets
    this.#edges = new EdgeReader(system, note)
    const { realtime = 0 } = board
    this.#shared = { w1: new W1Bus(), softPwm: new SoftPwm({ realtime, thread: waveThread, note }) }
    this.#owner = { allowed: 0, closed: (name) => this.#handles.delete(name) }
  }

  list(): LineInfo[] {
    const held = new Map(
      [...this.#handles.values()].map(({ name, kind, entry }) => {
        const line = placeOf(entry)
        return [line, { line, user: name, kind }]
      }),
    )
    const lines = listLines(this.#system, this.#board).map((info) => held.get(info.line) ?? info)
    const named = new Set(lines.map(({ line }) => line))
    return [...lines, ...[...held.values()].filter(({ line }) => !named.has(line))]
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

  advance(fence: number, names: readonly string[]): void {
    this.#owner.allowed = Math.max(this.#owner.allowed, fence)
    for (const name of names) this.#handles.get(name)?.raise(fence)
  }

  close(): void {
    for (const handle of [...this.#handles.values()]) handle.close()
  }

  #hold(name: string, id: number, entry: BoardHandle, kept: KeptHandle | undefined): OwnedHandle {
    if (!Number.isInteger(id) || id < 0 || id > 0xffff)
      throw new HardwareError('other', `${name}: id ${id} is not 16 bits`)
    const place = placeOf(entry)
    for (const other of this.#handles.values()) {
      if (other.id === id) throw new HardwareError('busy', `${name}: id ${id} is held by ${other.name}`)
      if (other.name === name || placeOf(other.entry) === place) {
        throw new HardwareError('busy', `${name}: ${place} is held by ${other.name}`)
      }
    }
    const context = { name, board: this.#board, system: this.#system, edges: this.#edges, sockets: this.#sockets }
    const openContext = { ...context, entry, ...(kept === undefined ? {} : { kept }) }
    const handle = new LinuxHandle(id, openContext, opened(openContext, this.#shared), this.#owner)
    this.#handles.set(name, handle)
    return handle
  }
}

/** Objects that several handles of a board share. */
interface Shared {
  readonly w1: W1Bus
  readonly softPwm: SoftPwm
}

function opened(context: OpenContext, { w1, softPwm }: Shared): OpenDevice {
  const { name, entry } = context
  switch (entry.kind) {
    case 'output':
      return entry.driver === 'sysfs' ? openSysfsOutput({ ...context, entry }) : openOutput({ ...context, entry })
    case 'input':
      return entry.driver === 'sysfs' ? openSysfsInput({ ...context, entry }) : openInput({ ...context, entry })
    case 'pwm':
      if (entry.driver === 'software') return softPwm.open({ ...context, entry })
      return entry.driver === 'pigpio' ? openPigpio({ ...context, entry }) : openPwm({ ...context, entry })
    case 'servo':
      return openServo({ ...context, entry })
    case 'i2c':
    case 'analog':
      return openI2c({ ...context, entry })
    case 'spi':
      return openSpi({ ...context, entry })
    case 'serial':
      return openSerial({ ...context, entry })
    case 'temperature':
      return w1.open(name, entry)
    case 'listen':
      return openListen({ ...context, entry })
  }
}
