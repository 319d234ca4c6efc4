/**
 * Model of the display controller SSD1306, after the data sheet "SSD1306, 128 x 64 Dot Matrix OLED/PLED Segment/Common
 * Driver with Controller" (Solomon Systech, revision 1.1; section numbers are those of the data sheet).
 *
 * Modelled: control bytes, the three addressing modes, on and off, inversion, all-on, start line, the two flips. Not
 * modelled: scrolling, contrast and the analogue settings; their commands and arguments are accepted.
 */
import { type ChipModel, type ChipState, NO_BYTES, type TransferResult } from './chip.ts'

const WIDTH = 128
const HEIGHT = 64
const PAGES = HEIGHT / 8

/** 8.1.5.2: the bits of a control byte. */
const ONE_BYTE = 0x80
const IS_DATA = 0x40
/** Table 9-1: the number of arguments, of commands that have any. */
const ARGUMENTS: Record<number, number> = {
  32: 1, // 20h, addressing mode
  33: 2, // 21h, columns
  34: 2, // 22h, pages
  38: 6, // 26h and 27h, horizontal scroll
  39: 6,
  41: 5, // 29h and 2Ah, diagonal scroll
  42: 5,
  129: 1, // 81h, contrast
  141: 1, // 8Dh, charge pump (application note 5)
  163: 2, // A3h, scroll area
  168: 1, // A8h, multiplex ratio
  211: 1, // D3h, display offset
  213: 1, // D5h, clock
  217: 1, // D9h, pre-charge
  218: 1, // DAh, COM pins
  219: 1, // DBh, VCOMH
}

interface Ssd1306 {
  readonly ram: Uint8Array
  /** 10.1.3: 0 horizontal, 1 vertical, 2 page. */
  readonly mode: number
  readonly columns: readonly [first: number, last: number]
  readonly pages: readonly [first: number, last: number]
  readonly column: number
  readonly page: number
  readonly on: boolean
  readonly allOn: boolean
  readonly inverted: boolean
  readonly chargePump: boolean
  readonly startLine: number
  /** 10.1.8 and 10.1.13: the picture is mirrored, left to right and top to bottom. */
  readonly remap: boolean
  readonly upward: boolean
  /** A command whose arguments have not all arrived. */
  readonly begun: readonly number[]
  /** Number of commands that set no address: a test sees here whether the chip was initialised again. */
  readonly initWrites: number
  /** Number of bytes written to the RAM. */
  readonly dataWrites: number
}

/** Table 9-1: the values after a reset. */
const initial: Ssd1306 = {
  ram: new Uint8Array(WIDTH * PAGES),
  mode: 2,
  columns: [0, WIDTH - 1],
  pages: [0, PAGES - 1],
  column: 0,
  page: 0,
  on: false,
  allOn: false,
  inverted: false,
  chargePump: false,
  startLine: 0,
  remap: false,
  upward: false,
  begun: [],
  initWrites: 0,
  dataWrites: 0,
}

/** 8.1.5: control bytes and their payload. A control byte without the top bit applies to all further bytes. */
function write(chip: Ssd1306, bytes: Uint8Array): TransferResult<Ssd1306> {
  let next: Ssd1306 = { ...chip, ram: chip.ram.slice() }
  for (let at = 0; at < bytes.length; ) {
    const control = bytes[at++] as number
    const end = control & ONE_BYTE ? Math.min(at + 1, bytes.length) : bytes.length
    for (; at < end; at++) next = control & IS_DATA ? put(next, bytes[at] as number) : take(next, bytes[at] as number)
  }
  return { next, bytes: NO_BYTES }
}

/** Stores a byte in the RAM, which `write` has copied, and advances the pointers by the mode (10.1.1 to 10.1.3). */
function put(chip: Ssd1306, byte: number): Ssd1306 {
  const { ram, mode, columns, pages } = chip
  ram[chip.page * WIDTH + chip.column] = byte
  const dataWrites = chip.dataWrites + 1
  if (mode === 2) return { ...chip, dataWrites, column: (chip.column + 1) % WIDTH }
  const after = (now: number, [first, last]: readonly [number, number]) => (now === last ? first : now + 1)
  const [column, page] = [after(chip.column, columns), after(chip.page, pages)]
  if (mode === 0) return { ...chip, dataWrites, column, page: column === columns[0] ? page : chip.page }
  return { ...chip, dataWrites, page, column: page === pages[0] ? column : chip.column }
}

function take(chip: Ssd1306, byte: number): Ssd1306 {
  const begun = [...chip.begun, byte]
  const [command = 0, first = 0, second = 0] = begun
  if (begun.length <= (ARGUMENTS[command] ?? 0)) return { ...chip, begun }
  const next = { ...chip, begun: [] }
  // address of the next byte: 10.1.1, 10.1.2 and 10.1.13 in page mode, 10.1.4 and 10.1.5 in the other modes
  if (command < 0x10) return { ...next, column: (chip.column & 0xf0) | command }
  if (command < 0x20) return { ...next, column: ((command & 0x07) << 4) | (chip.column & 0x0f) }
  if (command >= 0xb0 && command <= 0xb7) return { ...next, page: command & 7 }
  if (command === 0x20) return { ...next, mode: Math.min(2, first & 3) }
  if (command === 0x21) return { ...next, columns: [first & 0x7f, second & 0x7f], column: first & 0x7f }
  if (command === 0x22) return { ...next, pages: [first & 7, second & 7], page: first & 7 }
  return { ...next, ...settingOf(command, first), initWrites: chip.initWrites + 1 }
}

function settingOf(command: number, first: number): Partial<Ssd1306> {
  if (command >= 0x40 && command <= 0x7f) return { startLine: command & 0x3f }
  if (command === 0x8d) return { chargePump: (first & 0x04) !== 0 }
  if (command === 0xa0 || command === 0xa1) return { remap: command === 0xa1 }
  if (command === 0xa4 || command === 0xa5) return { allOn: command === 0xa5 }
  if (command === 0xa6 || command === 0xa7) return { inverted: command === 0xa7 }
  if (command === 0xae || command === 0xaf) return { on: command === 0xaf }
  if (command === 0xc0 || command === 0xc8) return { upward: command === 0xc8 }
  return {}
}

/** 8.1.5.1 and the status register of table 9-2: bit 6 is set while the display is off. */
function read(chip: Ssd1306, length: number): TransferResult<Ssd1306> {
  return { next: chip, bytes: new Uint8Array(length).fill(chip.on ? 0 : 0x40) }
}

/** Modules are mounted so that the picture is upright with both flips. */
function isLit(chip: Ssd1306, x: number, y: number): boolean {
  if (!chip.on || !chip.chargePump) return false
  const column = chip.remap ? x : WIDTH - 1 - x
  const row = ((chip.upward ? y : HEIGHT - 1 - y) + chip.startLine) % HEIGHT
  const bit = ((chip.ram[(row >> 3) * WIDTH + column] as number) >> (row & 7)) & 1
  return chip.allOn || (bit === 1) !== chip.inverted
}

/** `rows`: the picture from the top, `#` for a lit pixel. */
function snapshot(chip: Ssd1306): ChipState {
  const { on, inverted, initWrites, dataWrites } = chip
  const across = Array.from({ length: WIDTH }, (_, x) => x)
  const rows = Array.from({ length: HEIGHT }, (_, y) => across.map((x) => (isLit(chip, x, y) ? '#' : '.')).join(''))
  return { on, inverted, initWrites, dataWrites, rows }
}

export const ssd1306: ChipModel<Ssd1306> = { initial, write, read, snapshot, poke: () => null }
