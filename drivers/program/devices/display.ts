/**
 * A display with an SSD1306. A display that is on is not configured again (HANDLES 12.14), and only changes are sent.
 *
 * "SSD1306, 128 x 64 Dot Matrix OLED/PLED Segment/Common Driver with Controller" (Solomon Systech, revision 1.1; section
 * numbers are its own).
 */
import { HardwareError } from '../../errors.ts'
import type { I2cDevice } from '../handle.ts'
import { GLYPH_HEIGHT, GLYPH_WIDTH, isLit } from './font.ts'

const WIDTH = 128
const HEIGHT = 64
const PAGES = 8

/** 8.1.5.2: what follows a control byte. */
const COMMANDS = 0x00
const DATA = 0x40
const DISPLAY_OFF = 0xae
const DISPLAY_ON = 0xaf
/** Table 9-2: set in the status while the display is off. */
const STATUS_OFF = 0x40

/** Table 9-1 and the application note's flow: what a module with 128 x 64 pixels and the charge pump needs. */
const SETUP = [
  0xae, 0xd5, 0x80, 0xa8, 0x3f, 0xd3, 0x00, 0x40, 0x8d, 0x14, 0xa1, 0xc8, 0xda, 0x12, 0x81, 0xcf, 0xd9, 0xf1, 0xdb,
  0x40, 0xa4, 0xa6,
] as const

export interface DisplayOptions {
  /** `shown` of the previous program's display: then even the first `flush` sends only changes. '': unknown. */
  shown?: string
  /** true: never configures the chip, also when it is off. Default false. */
  adopt?: boolean
}

/** An SSD1306 with 128 x 64 pixels. Drawing becomes visible with `flush`. */
export class Display {
  readonly width = WIDTH
  readonly height = HEIGHT
  readonly #i2c: I2cDevice
  /** The layout of the chip's RAM: pages of 128 bytes; a byte is eight pixels, the lowest bit at the top (8.7). */
  readonly #drawn = new Uint8Array(WIDTH * PAGES)
  /** The content of the chip's RAM; null while it is unknown. */
  #sent: Uint8Array | null = null

  /** Throws errors of the handle. A display that was off is configured, and the first `flush` switches it on. */
  constructor(i2c: I2cDevice, { shown = '', adopt = false }: DisplayOptions = {}) {
    this.#i2c = i2c
    if (shown !== '') {
      const bytes = Buffer.from(shown, 'base64')
      if (bytes.length !== this.#drawn.length) {
        throw new HardwareError('other', `${i2c.name}: expected ${WIDTH * PAGES} bytes shown, got ${bytes.length}`)
      }
      this.#drawn.set(bytes)
      this.#sent = this.#drawn.slice()
    }
    if (adopt || !this.#isOff()) return
    this.#sent = null
    this.#command(...SETUP)
  }

  /** The shown picture: keep it in the state, for `shown` of the next program. 1368 characters; '' before a `flush`. */
  get shown(): string {
    return this.#sent === null ? '' : Buffer.from(this.#sent).toString('base64')
  }

  clear(): void {
    this.#drawn.fill(0)
  }

  /** x from the left, y from the top, whole numbers. A pixel outside of the display is ignored. */
  pixel(x: number, y: number, lit = true): void {
    if (!(x >= 0 && x < WIDTH && y >= 0 && y < HEIGHT)) return
    const at = (y >> 3) * WIDTH + x
    const bit = 1 << (y & 7)
    this.#drawn[at] = lit ? (this.#drawn[at] as number) | bit : (this.#drawn[at] as number) & ~bit
  }

  /** A filled rectangle. */
  fill(x: number, y: number, width: number, height: number, lit = true): void {
    for (let row = y; row < y + height; row++) {
      for (let column = x; column < x + width; column++) this.pixel(column, row, lit)
    }
  }

  /**
   * Text with its upper left corner at x, y: 21 characters of 6 x 8 pixels in a line, enlarged by `scale`. It
   * overwrites the background. Printable ASCII; any other character is drawn as a question mark. `\n` begins a new line
   * at x.
   */
  text(x: number, y: number, text: string, scale = 1): void {
    const [width, height] = [(GLYPH_WIDTH + 1) * scale, (GLYPH_HEIGHT + 1) * scale]
    for (const [row, line] of text.split('\n').entries()) {
      for (const [column, character] of [...line].entries()) {
        const [left, top] = [x + column * width, y + row * height]
        for (let at = 0; at < width * height; at++) {
          const [across, down] = [at % width, Math.floor(at / width)]
          this.pixel(left + across, top + down, isLit(character, Math.floor(across / scale), Math.floor(down / scale)))
        }
      }
    }
  }

  /** Sends the changes since the last `flush`: two transfers for each of the eight pages that has any. */
  flush(): void {
    const known = this.#sent
    const sent = known ?? this.#drawn.map((byte) => ~byte)
    for (let page = 0; page < PAGES; page++) {
      const from = page * WIDTH
      const now = this.#drawn.subarray(from, from + WIDTH)
      const first = now.findIndex((byte, column) => byte !== sent[from + column])
      if (first < 0) continue
      const last = now.findLastIndex((byte, column) => byte !== sent[from + column])
      // 10.1.3 to 10.1.5; sets the mode too, as another program may have set up another one
      this.#command(0x20, 0x00, 0x21, first, last, 0x22, page, page)
      this.#i2c.write(Uint8Array.of(DATA, ...now.subarray(first, last + 1)))
      sent.set(now, from)
    }
    if (known === null) {
      this.#sent = sent
      if (this.#isOff()) this.on()
    }
  }

  on(): void {
    this.#command(DISPLAY_ON)
  }

  /** Switches the display off and puts it to sleep. `on` brings the picture back. */
  off(): void {
    this.#command(DISPLAY_OFF)
  }

  #isOff(): boolean {
    return ((this.#i2c.read(1)[0] ?? 0) & STATUS_OFF) !== 0
  }

  #command(...bytes: number[]): void {
    this.#i2c.write(Uint8Array.of(COMMANDS, ...bytes))
  }
}
