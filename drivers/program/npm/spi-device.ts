/**
 * Replaces the package spi-device 3.1 in bundles, for dependencies that open a device themselves. Whatever bus and
 * device they open, they get the program's `spi` handle. Mode and speed are those of the board file; their options are
 * ignored.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { grantedOne, useScope } from '../granted.ts'
import type { SpiDevice as SpiHandle } from '../handle.ts'

useScope(new AsyncLocalStorage())

export const MODE0 = 0
export const MODE1 = 1
export const MODE2 = 2
export const MODE3 = 3

export interface SpiTransfer {
  byteLength: number
  sendBuffer?: Uint8Array
  receiveBuffer?: Uint8Array
  /** true: the chip is deselected for a moment after this transfer. */
  chipSelectChange?: boolean
}
export type SpiMessage = SpiTransfer[]
type Done = (error: Error | null, message?: SpiMessage) => void

class SpiDevice {
  readonly #handle: SpiHandle

  constructor(handle: SpiHandle) {
    this.#handle = handle
  }

  /** Throws what the handle throws. */
  transferSync(message: SpiMessage): this {
    let parts: SpiTransfer[] = []
    for (const transfer of message) {
      parts.push(transfer)
      if (transfer.chipSelectChange !== true) continue
      this.#transferSelected(parts)
      parts = []
    }
    if (parts.length > 0) this.#transferSelected(parts)
    return this
  }

  transfer(message: SpiMessage, done: Done): this {
    try {
      this.transferSync(message)
      setImmediate(() => done(null, message))
    } catch (error) {
      setImmediate(() => done(error as Error))
    }
    return this
  }

  getOptionsSync(): object {
    return {}
  }

  getOptions(done: (error: null, options: object) => void): this {
    setImmediate(() => done(null, {}))
    return this
  }

  setOptionsSync(_options: object): this {
    return this
  }

  setOptions(_options: object, done: (error: null) => void): this {
    setImmediate(() => done(null))
    return this
  }

  closeSync(): null {
    return null
  }

  close(done: (error: null) => void): null {
    setImmediate(() => done(null))
    return null
  }

  /** One message of the handle, in which the chip stays selected from the first byte to the last. */
  #transferSelected(parts: readonly SpiTransfer[]): void {
    const sent = Buffer.alloc(parts.reduce((sum, { byteLength }) => sum + byteLength, 0))
    let at = 0
    for (const { byteLength, sendBuffer } of parts) {
      if (sendBuffer !== undefined) sent.set(sendBuffer.subarray(0, byteLength), at)
      at += byteLength
    }
    const got = this.#handle.transfer(sent)
    at = 0
    for (const { byteLength, receiveBuffer } of parts) {
      receiveBuffer?.set(got.subarray(at, at + byteLength))
      at += byteLength
    }
  }
}

export function openSync(bus: number, device: number, _options?: object): SpiDevice {
  return new SpiDevice(grantedOne('spi', 'spi-device', `${bus}.${device}`))
}

export function open(bus: number, device: number, ...rest: [Done] | [object, Done]): SpiDevice {
  const opened = openSync(bus, device)
  const done = rest.at(-1) as (error: null) => void
  setImmediate(() => done(null))
  return opened
}
