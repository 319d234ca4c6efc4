/**
 * The interface of the package i2c-bus 5.2.3 over i2c handles, for chip drivers that expect a bus: synchronous, with
 * callbacks, and with promises. Every call is made at once; only the callback comes later.
 *
 * Invariant: only the addresses of the given handles answer (test/drivers/program/devices/i2cbus.test.ts). Any other address
 * fails as an absent device does, with `code` ENXIO, which drivers written for i2c-bus know.
 */
import { HardwareError } from '../../errors.ts'
import type { I2cDevice } from '../handle.ts'

type Bytes = Uint8Array
type Done = (error: Error | null) => void
type Got = (error: Error | null, value: number) => void
type Moved = (error: Error | null, count: number, buffer: Bytes) => void
type Found = (error: Error | null, addresses: number[]) => void
type Read = { bytesRead: number; buffer: Bytes }
type Written = { bytesWritten: number; buffer: Bytes }

export interface I2cFuncs {
  readonly i2c: boolean
  readonly smbusQuick: boolean
  readonly smbusReceiveByte: boolean
  readonly smbusSendByte: boolean
  readonly smbusReadByte: boolean
  readonly smbusWriteByte: boolean
  readonly smbusReadWord: boolean
  readonly smbusWriteWord: boolean
  readonly smbusReadI2cBlock: boolean
  readonly smbusWriteI2cBlock: boolean
}

const FUNCS: I2cFuncs = /* @__PURE__ */ Object.freeze({
  i2c: true,
  smbusQuick: true,
  smbusReceiveByte: true,
  smbusSendByte: true,
  smbusReadByte: true,
  smbusWriteByte: true,
  smbusReadWord: true,
  smbusWriteWord: true,
  smbusReadI2cBlock: true,
  smbusWriteI2cBlock: true,
})

const FIRST = 0x03
const LAST = 0x77
const SMBUS_BLOCK = 32

/** A bus with the devices of the given handles. Throws `other` when two handles have the same address. */
export function i2cBus(...handles: I2cDevice[]): I2cBus {
  return new I2cBus(handles)
}

/** Made by {@link i2cBus}. The handles stay the program's: `close` closes nothing. */
export class I2cBus {
  readonly #devices = new Map<number, I2cDevice>()
  readonly #promised: PromisifiedI2cBus = new PromisifiedI2cBus(this)

  constructor(handles: readonly I2cDevice[]) {
    for (const handle of handles) {
      const other = this.#devices.get(handle.address)
      // address 0: no board is known (`describe`)
      if (other !== undefined && handle.address !== 0) {
        throw new HardwareError('other', `${handle.name}: has the same address as ${other.name}, on another bus`)
      }
      this.#devices.set(handle.address, handle)
    }
  }

  promisifiedBus(): PromisifiedI2cBus {
    return this.#promised
  }

  i2cReadSync(address: number, length: number, buffer: Bytes): number {
    checkBuffer(length, buffer)
    buffer.set(this.#do(address, (device) => device.read(length)))
    return length
  }

  i2cWriteSync(address: number, length: number, buffer: Bytes): number {
    checkBuffer(length, buffer)
    this.#do(address, (device) => device.write(buffer.subarray(0, length)))
    return length
  }

  readByteSync(address: number, command: number): number {
    checkByte(command)
    return this.#do(address, (device) => device.writeRead(Uint8Array.of(command), 1))[0] as number
  }

  readWordSync(address: number, command: number): number {
    checkByte(command)
    const [low, high] = this.#do(address, (device) => device.writeRead(Uint8Array.of(command), 2))
    return (low as number) | ((high as number) << 8)
  }

  readI2cBlockSync(address: number, command: number, length: number, buffer: Bytes): number {
    checkByte(command)
    checkBuffer(length, buffer, SMBUS_BLOCK)
    buffer.set(this.#do(address, (device) => device.writeRead(Uint8Array.of(command), length)))
    return length
  }

  receiveByteSync(address: number): number {
    return this.#do(address, (device) => device.read(1))[0] as number
  }

  sendByteSync(address: number, byte: number): this {
    return this.#send(address, byte)
  }

  writeByteSync(address: number, command: number, byte: number): this {
    return this.#send(address, command, byte)
  }

  writeWordSync(address: number, command: number, word: number): this {
    if (!Number.isInteger(word) || word < 0 || word > 0xffff) throw new Error(`Invalid word ${word}`)
    return this.#send(address, command, word & 0xff, word >> 8)
  }

  /** `bit` 1 asks for a read of no bytes, which is `unsupported`. */
  writeQuickSync(address: number, bit: number): this {
    if (bit !== 0) throw new HardwareError('unsupported', `a quick command with bit ${bit} is not supported`)
    return this.#send(address)
  }

  writeI2cBlockSync(address: number, command: number, length: number, buffer: Bytes): this {
    checkBuffer(length, buffer, SMBUS_BLOCK)
    return this.#send(address, command, ...buffer.subarray(0, length))
  }

  /** The granted addresses whose devices answer. */
  scanSync(start?: number, end?: number): number[] {
    const from = start ?? FIRST
    const to = end ?? start ?? LAST
    checkAddress(from)
    checkAddress(to)
    const granted = [...this.#devices.keys()].filter((address) => address >= from && address <= to)
    return granted
      .sort((a, b) => a - b)
      .filter((address) => {
        try {
          this.receiveByteSync(address)
          return true
        } catch {
          return false
        }
      })
  }

  i2cFuncsSync(): I2cFuncs {
    return FUNCS
  }

  closeSync(): void {}

  i2cRead(address: number, length: number, buffer: Bytes, done: Moved): void {
    moved(done, buffer, () => this.i2cReadSync(address, length, buffer))
  }

  i2cWrite(address: number, length: number, buffer: Bytes, done: Moved): void {
    moved(done, buffer, () => this.i2cWriteSync(address, length, buffer))
  }

  readByte(address: number, command: number, done: Got): void {
    later(done, () => this.readByteSync(address, command))
  }

  readWord(address: number, command: number, done: Got): void {
    later(done, () => this.readWordSync(address, command))
  }

  readI2cBlock(address: number, command: number, length: number, buffer: Bytes, done: Moved): void {
    moved(done, buffer, () => this.readI2cBlockSync(address, command, length, buffer))
  }

  receiveByte(address: number, done: Got): void {
    later(done, () => this.receiveByteSync(address))
  }

  sendByte(address: number, byte: number, done: Done): void {
    later(done, () => void this.sendByteSync(address, byte))
  }

  writeByte(address: number, command: number, byte: number, done: Done): void {
    later(done, () => void this.writeByteSync(address, command, byte))
  }

  writeWord(address: number, command: number, word: number, done: Done): void {
    later(done, () => void this.writeWordSync(address, command, word))
  }

  writeQuick(address: number, bit: number, done: Done): void {
    later(done, () => void this.writeQuickSync(address, bit))
  }

  writeI2cBlock(address: number, command: number, length: number, buffer: Bytes, done: Moved): void {
    moved(done, buffer, () => {
      this.writeI2cBlockSync(address, command, length, buffer)
      return length
    })
  }

  scan(...args: [Found] | [number, Found] | [number, number, Found]): void {
    const done = args.at(-1) as Found
    later(done, () => this.scanSync(...(args.slice(0, -1) as [number?, number?])))
  }

  i2cFuncs(done: (error: Error | null, funcs: I2cFuncs) => void): void {
    later(done, () => FUNCS)
  }

  close(done: Done): void {
    later(done, () => undefined)
  }

  #send(address: number, ...bytes: number[]): this {
    for (const byte of bytes) checkByte(byte)
    this.#do(address, (device) => device.write(Uint8Array.from(bytes)))
    return this
  }

  #do<T>(address: number, call: (device: I2cDevice) => T): T {
    checkAddress(address)
    const device = this.#devices.get(address) ?? this.#devices.get(0)
    if (device === undefined) {
      const at = `0x${address.toString(16).padStart(2, '0')}`
      const text = `no handle of this program has the address ${at}: ask for the board's i2c handle that has it`
      throw Object.assign(new HardwareError('no-ack', text), { code: 'ENXIO' })
    }
    try {
      return call(device)
    } catch (error) {
      throw withCode(error)
    }
  }
}

/** Made by {@link I2cBus.promisifiedBus}. */
export class PromisifiedI2cBus {
  readonly #bus: I2cBus

  constructor(bus: I2cBus) {
    this.#bus = bus
  }

  bus(): I2cBus {
    return this.#bus
  }

  async i2cRead(address: number, length: number, buffer: Bytes): Promise<Read> {
    return { bytesRead: this.#bus.i2cReadSync(address, length, buffer), buffer }
  }

  async i2cWrite(address: number, length: number, buffer: Bytes): Promise<Written> {
    return { bytesWritten: this.#bus.i2cWriteSync(address, length, buffer), buffer }
  }

  async readByte(address: number, command: number): Promise<number> {
    return this.#bus.readByteSync(address, command)
  }

  async readWord(address: number, command: number): Promise<number> {
    return this.#bus.readWordSync(address, command)
  }

  async readI2cBlock(address: number, command: number, length: number, buffer: Bytes): Promise<Read> {
    return { bytesRead: this.#bus.readI2cBlockSync(address, command, length, buffer), buffer }
  }

  async receiveByte(address: number): Promise<number> {
    return this.#bus.receiveByteSync(address)
  }

  async sendByte(address: number, byte: number): Promise<void> {
    this.#bus.sendByteSync(address, byte)
  }

  async writeByte(address: number, command: number, byte: number): Promise<void> {
    this.#bus.writeByteSync(address, command, byte)
  }

  async writeWord(address: number, command: number, word: number): Promise<void> {
    this.#bus.writeWordSync(address, command, word)
  }

  async writeQuick(address: number, bit: number): Promise<void> {
    this.#bus.writeQuickSync(address, bit)
  }

  async writeI2cBlock(address: number, command: number, length: number, buffer: Bytes): Promise<Written> {
    this.#bus.writeI2cBlockSync(address, command, length, buffer)
    return { bytesWritten: length, buffer }
  }

  async scan(start?: number, end?: number): Promise<number[]> {
    return this.#bus.scanSync(start, end)
  }

  async i2cFuncs(): Promise<I2cFuncs> {
    return FUNCS
  }

  async close(): Promise<void> {}
}

/** Passes hardware errors to the callback, and throws at once for invalid arguments, as i2c-bus does. */
function later<T>(done: (error: Error | null, value: T) => void, call: () => T): void {
  let value: T
  try {
    value = call()
  } catch (error) {
    if (!(error instanceof HardwareError)) throw error
    setImmediate(done as (error: Error) => void, error)
    return
  }
  setImmediate(() => done(null, value))
}

function moved(done: Moved, buffer: Bytes, call: () => number): void {
  later<number>((error, count) => (error === null ? done(null, count, buffer) : (done as Done)(error)), call)
}

function checkAddress(address: number): void {
  if (!Number.isInteger(address) || address < 0 || address > 0x7f) throw new Error(`Invalid I2C address ${address}`)
}

function checkByte(byte: number): void {
  if (!Number.isInteger(byte) || byte < 0 || byte > 0xff) throw new Error(`Invalid byte ${byte}`)
}

function checkBuffer(length: number, buffer: Bytes, most: number = Number.POSITIVE_INFINITY): void {
  if (!(buffer instanceof Uint8Array)) throw new Error(`Invalid buffer ${String(buffer)}`)
  if (!Number.isInteger(length) || length < 0 || length > most) throw new Error(`Invalid buffer length ${length}`)
  if (buffer.length < length) throw new Error(`Buffer must contain at least ${length} bytes`)
}

/** Copies the `code` of the system's error to the error: drivers written for i2c-bus test it. */
function withCode(error: unknown): unknown {
  const code = (error as { cause?: { code?: unknown } | null }).cause?.code
  if (typeof code === 'string') return Object.assign(error as Error, { code })
  return error instanceof HardwareError && error.kind === 'no-ack' ? Object.assign(error, { code: 'ENXIO' }) : error
}
