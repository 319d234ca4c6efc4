/**
 * In the place of the package spi-device 3.1, for dependencies that open a device themselves: the program's `spi` handle,
 * whatever bus and device they name. Mode and speed are those of the board file, and what they ask for changes nothing.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { follow, grantedOne } from '../granted.ts'
import type { SpiDevice as SpiHandle } from '../handle.ts'

follow(new AsyncLocalStorage())

export const MODE0 = 0
export const MODE1 = 1
export const MODE2 = 2
export const MODE3 = 3

export interface SpiTransfer {
  byteLength: number
  sendBuffer?: Uint8Array
  receiveBuffer?: Uint8Array
  /** After the transfer the chip is deselected for a moment. */
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
    let together: SpiTransfer[] = []
    for (const transfer of message) {
      together.push(transfer)
      if (transfer.chipSelectChange !== true) continue
      this.#once(together)
      together = []
    }
    if (together.length > 0) this.#once(together)
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

  /** With the chip selected from the first byte to the last. */
  #once(parts: readonly SpiTransfer[]): void {
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
