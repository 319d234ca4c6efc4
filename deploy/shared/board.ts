/** Types for what is known of a board, as plain data: the runtime makes them (it has the parser), the laptop draws them. */

/** A pin of the 40-pin header. */
export interface HeaderPin {
  readonly pin: number
  /** `GPIO17`, `3V3`, `5V` or `GND` */
  readonly label: string
  /** Other functions of the line, the most usual first, as `I2C1 SDA`. */
  readonly functions: readonly string[]
}

export interface BoardEntry {
  readonly name: string
  readonly kind: string
  /** `GPIO17`, `i2c-1@0x68`, `spi-0.1` or `/dev/serial0` */
  readonly place: string
  /** Pins of the header that carry the handle; empty if it is not on the header, or its pins are not known. */
  readonly pins: readonly number[]
  /** The level or value while no program runs; absent for handles that are not driven. */
  readonly safe?: number | string
  readonly via: string
}

export interface BoardReport {
  readonly name?: string
  readonly model: string
  readonly handles: readonly BoardEntry[]
  /** Empty if the header of the model is not known. */
  readonly header: readonly HeaderPin[]
}

/** Something in a board file that is legal but unwise. */
export interface BoardAdvice {
  /** A handle, or a key of the board. */
  readonly about: string
  readonly found: string
  readonly fix: string
}

export interface BoardMistake {
  /** Line and column count from 1; the mistake is `length` characters long. */
  readonly line: number
  readonly column: number
  readonly length: number
  /** `handles.led.kind`; empty for a mistake in the syntax of the file */
  readonly place: string
  readonly message: string
  readonly fix: string
}

export type BoardCheck =
  | { readonly board: BoardReport; readonly advice: readonly BoardAdvice[] }
  | { readonly mistake: BoardMistake }
