/**
 * The handle interfaces: a program uses hardware only through the handles it was granted, and drives it only while its
 * lease is live.
 *
 * Calls are synchronous. They throw {@link HardwareError}; a call after `close()` or without a live lease throws kind
 * `revoked`. Levels are 0 or 1, duty cycles 0..1, times are nanoseconds of CLOCK_MONOTONIC.
 */

/** The kinds of handles that a program can request (HANDLES 1.1). */
export const HANDLE_KINDS = [
  'output',
  'input',
  'pwm',
  'servo',
  'i2c',
  'spi',
  'serial',
  'analog',
  'temperature',
  'listen',
] as const
export type HandleKind = (typeof HANDLE_KINDS)[number]

/** True for kinds that are driven to a value, and so have an initial and a safe value. */
export function isDriven(kind: HandleKind): boolean {
  return kind === 'output' || kind === 'pwm' || kind === 'servo'
}

/** True for kinds that are a device on an I2C bus. */
export function isOnI2c(kind: HandleKind): boolean {
  return kind === 'i2c' || kind === 'analog'
}

export type Level = 0 | 1

/**
 * The right to write, shared by all handles of one program. `live` false means every write throws `revoked`.
 * The owner (the SDK, or the broker) flips it; handles only read it.
 */
export interface Lease {
  live: boolean
  /** Fencing number: rises with each change of the writing program, and is never reused. */
  fence: number
}

export interface Handle {
  readonly name: string
  readonly kind: HandleKind
  /** Closes the program's copy; the hardware stays open in the body. Idempotent. */
  close(): void
}

/** A digital output. `value` is the last level written by any program (carried across swaps), not a readback. */
export interface Output extends Handle {
  readonly kind: 'output'
  readonly value: Level
  write(level: Level | boolean): void
}

export interface Edge {
  readonly level: Level
  /** CLOCK_MONOTONIC at the edge, in ns. */
  readonly ns: bigint
  /** Number of the edge on this line, from 1. A gap shows how many edges were lost. */
  readonly seqno: number
}

/** The last edge of an input, which a program hands over to its successor. */
export interface LastEdge {
  readonly level: Level
  /** ns of CLOCK_MONOTONIC; a number, since JSON has no bigint */
  readonly ns: number
  /** Seconds since the edge, as counted by a `Button` of the program; absent: none counted. */
  readonly counted?: number
}

/** A digital input. Edges arrive on the event loop, in order; the returned function unsubscribes. */
export interface Input extends Handle {
  readonly kind: 'input'
  read(): Level
  onEdge(listener: (edge: Edge) => void): () => void
}

/** A PWM channel: `write` takes a duty cycle 0..1. The board file sets the period. */
export interface Pwm extends Handle {
  readonly kind: 'pwm'
  readonly value: number
  readonly periodNs: number
  write(duty: number): void
}

/** A servo, in degrees. The board file sets pulses, limits and period. An angle beyond `range` goes to its end. */
export interface Servo extends Handle {
  readonly kind: 'servo'
  readonly value: number
  readonly range: readonly [lowest: number, highest: number]
  write(degrees: number): void
}

/** One I2C device; the board file sets bus and address. `writeRead` is one combined transfer. */
export interface I2cDevice extends Handle {
  readonly kind: 'i2c'
  /** Address on the bus; 0, which no device has, when no board is known (`describe`). */
  readonly address: number
  read(length: number): Uint8Array
  write(bytes: Uint8Array): void
  writeRead(bytes: Uint8Array, length: number): Uint8Array
}

/** One SPI device, at the mode and speed of the board file. Bytes go out and come in at the same time. */
export interface SpiDevice extends Handle {
  readonly kind: 'spi'
  /** One message of at most 4096 bytes, with the chip selected throughout. The answer has the same length. */
  transfer(bytes: Uint8Array): Uint8Array
}

/** A serial line, at the speed and framing of the board file. Bytes that are not read wait for the successor. */
export interface SerialPort extends Handle {
  readonly kind: 'serial'
  /** Bytes that have arrived, at most `most`. Never waits. */
  read(most: number): Uint8Array
  /** Throws `busy` when the line's buffer is full; `written` of the error is the number of bytes that were taken. */
  write(bytes: Uint8Array): void
}

/** One input of an analog-to-digital converter. Each `read` starts a conversion and waits for it, about 2 ms. */
export interface Analog extends Handle {
  readonly kind: 'analog'
  /** V; a higher voltage reads as this. */
  readonly fullScale: number
  /** V against ground. */
  read(): number
}

/** A DS18B20 on the 1-wire bus. The body measures by itself, every second or as the board file says. */
export interface Temperature extends Handle {
  readonly kind: 'temperature'
  /**
   * degrees C of the last measurement. Throws `no-device` when the sensor is missing, `bus` when its answer is damaged
   * or holds no measurement, `busy` before the first one.
   */
  read(): number
}

/** A Server of node:http, node:https, node:net or node:tls, for {@link ListeningSocket.serve}. */
export interface NodeServer {
  readonly listening: boolean
  listen(options: { readonly fd: number }): unknown
  close(): unknown
  on(event: string, listener: (...args: never[]) => void): unknown
}

/**
 * A port or a socket file on which the body listens, for whichever program runs. A client that connects while no
 * program accepts waits in the kernel. The program needs no network permission for it (HANDLES 17).
 */
export interface ListeningSocket extends Handle {
  readonly kind: 'listen'
  /** null for a socket file, and when no board is known (`describe`) */
  readonly port: number | null
  /**
   * The server accepts connections while this program runs: until a successor takes over, and again if that swap is
   * rolled back. Call it instead of `server.listen`; other listeners of the server, as for WebSockets, need no change.
   * Each handle serves one server: throws `busy` for a second one, `other` for one that listens already.
   */
  serve(server: NodeServer): void
}

export interface HandleByKind {
  output: Output
  input: Input
  pwm: Pwm
  servo: Servo
  i2c: I2cDevice
  spi: SpiDevice
  serial: SerialPort
  analog: Analog
  temperature: Temperature
  listen: ListeningSocket
}
/** The kinds that this release supports. */
export type SupportedKind = keyof HandleByKind

export type Encoding = 'record' | 'text' | 'level' | 'line' | 'i2c' | 'spi' | 'serial' | 'pty' | 'listen'

/**
 * How one handle reaches a child process: written by the body into the child's init message, read by the SDK.
 * `inherit`: `fd` is a descriptor in the child's table. `broker`: requests go over the child's broker socket.
 */
export interface Grant {
  readonly name: string
  /**
   * Small integer, unique on the board while the body lives: the key in records, broker requests and carried values.
   */
  readonly id: number
  readonly kind: SupportedKind
  readonly via: 'inherit' | 'broker'
  /** inherit only. */
  readonly fd?: number
  /**
   * inherit only. `record`: each write is one 24-byte record on a pipe (HANDLES 4). `text`: decimal text written at
   * position 0 (sysfs value, duty_cycle). `level`: one byte '0' or '1' read at position 0. `line`: a line request of
   * the GPIO character device, by its value ioctls. `i2c`, `spi`, `serial`: the device's own descriptor. `pty`: the
   * master of a pseudo-terminal (HANDLES 9.10). `listen`: a listening socket.
   */
  readonly encoding?: Encoding
  /** i2c and analog: address of 7 bits. */
  readonly address?: number
  /** analog only: chip, input and V at full scale. */
  readonly adc?: { readonly chip: 'ads1115'; readonly channel: number; readonly fullScale: number }
  /** listen on a TCP port only. */
  readonly port?: number
  /** pwm and servo. */
  readonly periodNs?: number
  /** servo only: the pulses at `min` and at `max`. */
  readonly pulsesNs?: readonly [number, number]
  /** Limits: duty cycles of a pwm, degrees of a servo. A value beyond them goes to the limit (HANDLES 6.5). */
  readonly min?: number
  readonly max?: number
  /** pwm and servo: the most by which the value changes in a second; absent or 0: no limit (HANDLES 15). */
  readonly slew?: number
  /** The value when the grant was written; the value carried in a handover replaces it. */
  readonly value?: number
}
