/** The types of a parsed board, with every default filled in (board.ts parses the file). */
import type { Level } from '../program/handle.ts'
import type { Model, PwmChannel } from './models.ts'
import type { ChipName, DEFAULT_LIMITS, DEFAULT_TIMING, SpiChipName } from './schema.ts'

export type Timing = { -readonly [key in keyof typeof DEFAULT_TIMING]: number }
/** Limits of each program, in megabytes and, for `pids`, tasks (processes and threads). */
export type Limits = { -readonly [key in keyof typeof DEFAULT_LIMITS]: number }
export type Via = 'inherit' | 'broker'
/** Interface to a GPIO line: the character device, or sysfs. */
type LineDriver = 'cdev' | 'sysfs'

export interface OutputEntry {
  kind: 'output'
  /** `GPIO0` to `GPIO53` */
  line: string
  initial: Level
  safe: Level | 'hold'
  /** true: level 1 drives the line low */
  activeLow: boolean
  drive: 'push-pull' | 'open-drain' | 'open-source'
  driver: LineDriver
  via: Via
}

export interface InputEntry {
  kind: 'input'
  line: string
  pull: 'up' | 'down' | 'none'
  edges: 'rising' | 'falling' | 'both' | 'none'
  /** a change shorter than this is ignored; 0 is off */
  debounceMs: number
  /** true: a low line reads as level 1 */
  activeLow: boolean
  driver: LineDriver
  via: Via
}

export interface PwmEntry {
  kind: 'pwm'
  line: string
  frequencyHz: number
  initial: number
  safe: number | 'hold'
  /** limits of the duty cycle (HANDLES 6.5) */
  min: number
  max: number
  /** the most by which the duty cycle changes in a second; 0 is off (HANDLES 15) */
  slew: number
  /** `software`: a thread of the runtime makes the edges (HANDLES 19) */
  driver: 'kernel' | 'pigpio' | 'software'
  /** set for driver kernel, except on model sim */
  channel?: PwmChannel
  via: Via
}

export interface ServoEntry {
  kind: 'servo'
  line: string
  frequencyHz: number
  /** pulse at the lowest angle, and at the highest */
  minUs: number
  maxUs: number
  degrees: [lowest: number, highest: number]
  /** degrees; the middle of `degrees` by default */
  initial: number
  safe: number | 'hold'
  /** degrees per second; 0 is off (HANDLES 15) */
  slew: number
  driver: 'kernel' | 'pigpio'
  /** set for driver kernel, except on model sim */
  channel?: PwmChannel
  via: Via
}

export interface I2cEntry {
  kind: 'i2c'
  bus: number
  address: number
  simulate?: ChipName
  /** always `broker` on model sim */
  via: Via
}

export interface AnalogEntry {
  kind: 'analog'
  /** the converter */
  adc: 'ads1115'
  bus: number
  address: number
  channel: number
  /** V: the highest voltage that can be measured */
  fullScale: number
  /** always `broker` on model sim */
  via: Via
}

export interface SpiEntry {
  kind: 'spi'
  bus: number
  /** chip select */
  select: number
  /** 0 to 3: polarity times 2, plus phase */
  mode: number
  speedHz: number
  /** bits in a word */
  bits: number
  lsbFirst: boolean
  simulate?: SpiChipName
  /** always `broker` on model sim, `inherit` on others */
  via: Via
}

export interface SerialEntry {
  kind: 'serial'
  path: string
  baud: number
  dataBits: number
  parity: 'none' | 'even' | 'odd'
  stopBits: number
  via: 'inherit'
}

export interface TemperatureEntry {
  kind: 'temperature'
  sensor: 'ds18b20'
  /** the sensor's id on the 1-wire bus */
  device: string
  /** ms from one measurement to the next */
  everyMs: number
  via: 'broker'
}

export interface ListenEntry {
  kind: 'listen'
  /** the TCP port; absent for a socket file */
  port?: number
  /** the address that the port is bound to */
  host: string
  /** name of a socket file in the folder `sockets` of the runtime's home */
  path?: string
  via: 'inherit'
}

export type BoardHandle =
  | OutputEntry
  | InputEntry
  | PwmEntry
  | ServoEntry
  | I2cEntry
  | AnalogEntry
  | SpiEntry
  | SerialEntry
  | TemperatureEntry
  | ListenEntry

export interface Board {
  name?: string
  model: Model
  /** Label of the GPIO chip; absent on model sim, and on model linux when no line is used. */
  chip?: string
  handles: Record<string, BoardHandle>
  wires: [output: string, input: string][]
  timing: Timing
  /** SCHED_FIFO priority of programs; 0 is off */
  realtime: number
  memoryReserveMb: number
  unconfined: boolean
  /** The emergency stop: an input, and the level that stops the robot. */
  estop?: { input: string; level: Level }
  /** Slots whose programs may use the network. */
  network: string[]
  /** Only programs are started that `count` of these builders have signed; `builders` are public keys. */
  requireReproduced?: { count: number; builders: string[] }
  limits: Limits
}
