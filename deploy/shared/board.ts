/** Invariant: what is known of a board is plain data; the runtime makes it (it has the parser), the laptop draws it. */

/** A pin of the 40-pin header. */
export interface HeaderPin {
  readonly pin: number
  /** `GPIO17`, `3V3`, `5V` or `GND` */
  readonly label: string
  /** What the line can be besides, the most usual first, as `I2C1 SDA`. */
  readonly functions: readonly string[]
}

export interface BoardEntry {
  readonly name: string
  readonly kind: string
  /** `GPIO17`, `i2c-1@0x68`, `spi-0.1` or `/dev/serial0` */
  readonly place: string
  /** Pins of the header that carry it; none for what is elsewhere, or not known. */
  readonly pins: readonly number[]
  /** What is driven when no program runs; absent for what cannot be driven. */
  readonly safe?: number | string
  readonly via: string
}

export interface BoardReport {
  readonly name?: string
  readonly model: string
  readonly handles: readonly BoardEntry[]
  /** Empty where the header of the model is not known. */
  readonly header: readonly HeaderPin[]
}

/** What is legal and unwise. */
export interface BoardAdvice {
  /** A handle, or a key of the board. */
  readonly about: string
  readonly found: string
  readonly fix: string
}

export interface BoardMistake {
  /** Counted from 1; `length` characters from there are what it is about. */
  readonly line: number
  readonly column: number
  readonly length: number
  /** `handles.led.kind`; empty for a file that could not be read so far */
  readonly place: string
  readonly message: string
  readonly fix: string
}

export type BoardCheck =
  | { readonly board: BoardReport; readonly advice: readonly BoardAdvice[] }
  | { readonly mistake: BoardMistake }
