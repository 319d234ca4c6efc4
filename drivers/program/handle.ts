/**
 * Invariant: a program drives hardware only through a handle it was given, by name, and only while its lease is live.
 *
 * Calls are synchronous. They throw {@link HardwareError}; a call after `close()` or without a live lease throws kind
 * `revoked`. Levels are 0 or 1, duty cycles 0..1, times are nanoseconds of CLOCK_MONOTONIC.
 */

/** HANDLES 1.1: the closed set of kinds a program can ask for. */
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

/** The kinds that are driven to a value, which has an initial and a safe one. */
export function isDriven(kind: HandleKind): boolean {
  return kind === 'output' || kind === 'pwm' || kind === 'servo'
}

/** The kinds that are a device on an I2C bus. */
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
  /** Fencing number of the current tenure: rises with each change of writer, never reused. */
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
  /** Counts every edge of this line from 1; a jump means that edges were lost, and how many. */
  readonly seqno: number
}

/** The last edge of an input, as it goes from a program to its successor. */
export interface LastEdge {
  readonly level: Level
  /** ns of CLOCK_MONOTONIC; a number, since it travels as JSON */
  readonly ns: number
  /** Seconds since then that a device of the program has counted (`Button`); absent: none has. */
  readonly counted?: number
}

/** A digital input. Edges arrive on the event loop, in order; the returned function unsubscribes. */
export interface Input extends Handle {
  readonly kind: 'input'
  read(): Level
  onEdge(listener: (edge: Edge) => void): () => void
}

/** A PWM channel: `write` takes a duty cycle 0..1, its period was set by the body. */
export interface Pwm extends Handle {
  readonly kind: 'pwm'
  readonly value: number
  readonly periodNs: number
  write(duty: number): void
}

/** A servo, in degrees: pulses, limits and period are the board's. Angles beyond `range` go to its end. */
export interface Servo extends Handle {
  readonly kind: 'servo'
  readonly value: number
  readonly range: readonly [lowest: number, highest: number]
  write(degrees: number): void
}

/** One I2C device (bus and address were fixed by the body). `writeRead` is one combined transfer. */
export interface I2cDevice extends Handle {
  readonly kind: 'i2c'
  /** On its bus; 0, which no device has, where no board is known (`describe`). */
  readonly address: number
  read(length: number): Uint8Array
  write(bytes: Uint8Array): void
  writeRead(bytes: Uint8Array, length: number): Uint8Array
}

/** One SPI device, at the mode and speed of the board file. Bytes go out and come in at the same time. */
export interface SpiDevice extends Handle {
  readonly kind: 'spi'
  /** One message of at most 4096 bytes, chip select held; the answer is as long. */
  transfer(bytes: Uint8Array): Uint8Array
}

/** A serial line, at the speed and framing of the board file. What was not read waits for the successor. */
export interface SerialPort extends Handle {
  readonly kind: 'serial'
  /** What has arrived, up to `most` bytes; never waits. */
  read(most: number): Uint8Array
  /** Throws `busy` when the line takes no more at the moment; `written` bytes of it went out then. */
  write(bytes: Uint8Array): void
}

/** One input of a converter. Each `read` is a conversion of its own, of about 2 ms: the chip and its bus are shared. */
export interface Analog extends Handle {
  readonly kind: 'analog'
  /** V; what is more reads as this. */
  readonly fullScale: number
  /** V against ground. */
  read(): number
}

/** A DS18B20 on the 1-wire bus. The body measures by itself, every second or as the board file says. */
export interface Temperature extends Handle {
  readonly kind: 'temperature'
  /**
   * degrees C of the last measurement. Throws `no-device` when the sensor is not there, `bus` when what it sent is damaged
   * or no measurement, `busy` before the first.
   */
  read(): number
}

/** What {@link ListeningSocket.serve} takes: a Server of node:http, node:https, node:net or node:tls. */
export interface NodeServer {
  readonly listening: boolean
  listen(options: { readonly fd: number }): unknown
  close(): unknown
  on(event: string, listener: (...args: never[]) => void): unknown
}

/**
 * A port, or a socket file, on which the body listens for whichever program runs. Who connects while no program accepts
 * waits in the kernel. A program on the body's handle needs no network of its own (HANDLES 17).
 */
export interface ListeningSocket extends Handle {
  readonly kind: 'listen'
  /** null for a socket file, and where no board is known (`describe`) */
  readonly port: number | null
  /**
   * The server accepts while this program runs: from now on, until a successor takes over, and again when that swap is
   * undone. Give it instead of calling `listen`; what else listens on it (WebSockets) stays as it is. One server for each
   * handle: throws `busy` for another, `other` for one that listens already.
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
/** The kinds this release can hand over. */
export type SupportedKind = keyof HandleByKind

export type Encoding = 'record' | 'text' | 'level' | 'line' | 'i2c' | 'spi' | 'serial' | 'pty' | 'listen'

/**
 * How one handle reaches a child process: written by the body into the child's init message, read by the SDK.
 * `inherit`: `fd` is a descriptor in the child's table. `broker`: requests go over the child's broker socket.
 */
export interface Grant {
  readonly name: string
  /** Small integer, unique on the board while the body lives; keys records, broker requests and carried values. */
  readonly id: number
  readonly kind: SupportedKind
  readonly via: 'inherit' | 'broker'
  /** inherit only. */
  readonly fd?: number
  /**
   * inherit only. `record`: each write is one 24-byte record on a pipe (HANDLES 4). `text`: decimal text written at
   * position 0 (sysfs value, duty_cycle). `level`: one byte '0' or '1' read at position 0. `line`: a line request of
   * the GPIO character device, by its value ioctls. `i2c`, `spi`, `serial`: the device's own descriptor. `pty`: the master of a pseudo-terminal
   * (HANDLES 9.10). `listen`: a socket that listens.
   */
  readonly encoding?: Encoding
  /** i2c and analog: 7 bits. */
  readonly address?: number
  /** analog only: which input of which chip, and V at full scale. */
  readonly adc?: { readonly chip: 'ads1115'; readonly channel: number; readonly fullScale: number }
  /** listen, of a TCP port. */
  readonly port?: number
  /** pwm and servo. */
  readonly periodNs?: number
  /** servo only: at `min` and at `max`. */
  readonly pulsesNs?: readonly [number, number]
  /** Duties of a pwm, degrees of a servo; those outside are moved to the nearest limit (HANDLES 6.5). */
  readonly min?: number
  readonly max?: number
  /** pwm and servo: the most by which the value changes in a second; absent or 0: any (HANDLES 15). */
  readonly slew?: number
  /** Last value driven when the grant was written; superseded by the value carried in a handover. */
  readonly value?: number
}
