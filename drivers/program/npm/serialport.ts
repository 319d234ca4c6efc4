/**
 * Replaces the package serialport 8 to 13 in bundles, for dependencies that open a port themselves: a stream over the
 * program's `serial` handle. `path` may be the name of the handle, and must be if there are several. Speed and framing
 * are those of the board file. There are no modem lines.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { Duplex } from 'node:stream'
import { grantedOf, grantedOne, useScope } from '../granted.ts'
import type { SerialPort as SerialHandle } from '../handle.ts'

useScope(new AsyncLocalStorage())

/** Time between two reads of the line. */
const POLL_MS = 5
/** Time until bytes that did not fit into the line's buffer are written again. */
const RETRY_MS = 2
const READ_BYTES = 4096

export interface OpenOptions {
  path: string
  baudRate?: number
  autoOpen?: boolean
  highWaterMark?: number
}
type Done = (error: Error | null) => void

export class SerialPort extends Duplex {
  readonly path: string
  readonly baudRate: number
  isOpen = false
  readonly #settings: OpenOptions
  #handle: SerialHandle | null = null
  #timer: NodeJS.Timeout | null = null

  /** From version 10 on the argument is one object; before, the path came first. */
  constructor(...given: [OpenOptions, Done?] | [string, (OpenOptions | Done)?, Done?]) {
    const [first, ...rest] = given
    const options = (
      typeof first === 'string' ? { ...(isObject(rest[0]) ? rest[0] : {}), path: first } : first
    ) as OpenOptions
    super({ highWaterMark: options.highWaterMark ?? 64 * 1024 })
    const done = [...rest].find((value): value is Done => typeof value === 'function')
    this.#settings = options
    this.path = options.path
    this.baudRate = options.baudRate ?? 9600
    if (options.autoOpen !== false) this.open(done)
  }

  static async list(): Promise<{ path: string }[]> {
    return grantedOf('serial', 'serialport').map(({ name }) => ({ path: name }))
  }

  get settings(): OpenOptions {
    return this.#settings
  }

  open(done?: Done): void {
    let failed: Error | null = this.isOpen ? new Error('Port is already open') : null
    try {
      if (failed === null) this.#handle = grantedOne('serial', 'serialport', this.path)
    } catch (error) {
      failed = error as Error
    }
    this.isOpen ||= failed === null
    setImmediate(() => {
      if (failed === null) this.emit('open')
      else if (done === undefined) this.emit('error', failed)
      done?.(failed)
    })
  }

  close(done?: Done): void {
    const failed = this.isOpen ? null : new Error('Port is not open')
    this.#stopPolling()
    this.isOpen = false
    this.#handle = null
    setImmediate(() => {
      if (failed === null) this.emit('close', null)
      done?.(failed)
    })
  }

  /** Drops the bytes that arrived and were not read. */
  flush(done?: Done): void {
    while ((this.#handle?.read(READ_BYTES).length ?? 0) > 0) {
      // until nothing is left
    }
    setImmediate(() => done?.(null))
  }

  drain(done?: Done): void {
    if (this.writableLength === 0) setImmediate(() => done?.(null))
    else this.once('drain', () => done?.(null))
  }

  update(_options: object, done?: Done): void {
    setImmediate(() => done?.(null))
  }

  set(_options: object, done?: Done): void {
    setImmediate(() => done?.(new Error('serialport: a handle has no modem lines')))
  }

  get(done: Done): void {
    setImmediate(() => done(new Error('serialport: a handle has no modem lines')))
  }

  override _read(): void {
    this.#timer ??= setInterval(() => this.#poll(), POLL_MS)
  }

  override _write(bytes: Uint8Array, _encoding: string, done: (error?: Error | null) => void): void {
    // as in the package: data written before the port is open waits
    if (this.#handle === null) {
      this.once('open', () => this._write(bytes, _encoding, done))
      return
    }
    try {
      this.#handle.write(bytes)
      done()
    } catch (error) {
      const { kind, written } = error as { kind?: unknown; written?: unknown }
      if (kind !== 'busy' || typeof written !== 'number') return done(error as Error)
      setTimeout(() => this._write(bytes.subarray(written), _encoding, done), RETRY_MS)
    }
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#stopPolling()
    this.isOpen = false
    done(error)
  }

  #poll(): void {
    if (this.#handle === null) return
    try {
      const bytes = this.#handle.read(READ_BYTES)
      if (bytes.length > 0 && !this.push(Buffer.from(bytes))) this.#stopPolling()
    } catch (error) {
      this.#stopPolling()
      // revoked: this program is parked, and its successor reads the line
      if ((error as { kind?: unknown }).kind !== 'revoked') this.destroy(error as Error)
    }
  }

  #stopPolling(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }
}

const isObject = (value: unknown): value is OpenOptions => typeof value === 'object' && value !== null
