/** An RGB LED on three PWM. The colour is that of the PWM, so it survives a swap. */
import type { Pwm } from '../handle.ts'
import { Glide } from './glide.ts'
import { invalidValue } from './registers.ts'

/** Each value from 0 to 255. */
export interface Color {
  readonly red: number
  readonly green: number
  readonly blue: number
}

export interface RgbLedOptions {
  /** true: the LED has a common anode, so it lights while a line is low. Default false. */
  anode?: boolean
}

const PARTS = ['red', 'green', 'blue'] as const
const BLACK: Color = { red: 0, green: 0, blue: 0 }
const WHITE: Color = { red: 255, green: 255, blue: 255 }

/** Three LEDs on three PWM handles. It has no timer: effects advance in {@link tick}. */
export class RgbLed {
  readonly #pwms: { readonly red: Pwm; readonly green: Pwm; readonly blue: Pwm }
  readonly #anode: boolean
  /** The colour that `on` shows. */
  #color: Color
  #step: ((dt: number) => void) | null = null

  constructor(red: Pwm, green: Pwm, blue: Pwm, { anode = false }: RgbLedOptions = {}) {
    this.#pwms = { red, green, blue }
    this.#anode = anode
    this.#color = this.isOn ? this.value : WHITE
  }

  get isOn(): boolean {
    return PARTS.some((part) => this.value[part] > 0)
  }

  /** The current colour; also one that the previous program set. */
  get value(): Color {
    const partOf = ({ value }: Pwm) => Math.round(255 * (this.#anode ? 1 - value : value))
    const { red, green, blue } = this.#pwms
    return { red: partOf(red), green: partOf(green), blue: partOf(blue) }
  }

  get isRunning(): boolean {
    return this.#step !== null
  }

  /** `#ff8000`, or values from 0 to 255. Throws `other` for anything else. */
  color(color: string | Color): void {
    this.stop()
    this.#color = this.#parsed(color)
    this.#write(this.#color)
  }

  /** Shows the last colour that was not black; white at first. */
  on(): void {
    this.color(this.#color)
  }

  off(): void {
    this.stop()
    this.#write(BLACK)
  }

  toggle(): void {
    if (this.isOn) this.off()
    else this.on()
  }

  /** The colour and black in turn, `ms` each. */
  blink(ms = 500): void {
    if (!(ms > 0)) throw invalidValue(this.#pwms.red.name, 'a time of more than 0 ms', ms)
    let elapsed = 0
    this.#step = (dt) => {
      elapsed += dt * 1000
      if (elapsed < ms) return
      elapsed %= ms
      this.#write(this.isOn ? BLACK : this.#color)
    }
  }

  /** Changes to a colour within `ms`. */
  fade(color: string | Color, ms = 1000): void {
    if (!(ms > 0)) throw invalidValue(this.#pwms.red.name, 'a time of more than 0 ms', ms)
    const [from, to] = [this.value, this.#parsed(color)]
    const glide = new Glide(0, 1, ms / 1000)
    this.#color = to
    this.#step = (dt) => {
      const part = glide.next(dt)
      const between = (name: (typeof PARTS)[number]) => from[name] + (to[name] - from[name]) * part
      this.#write({ red: between('red'), green: between('green'), blue: between('blue') })
      if (glide.isDone) this.#step = null
    }
  }

  /** Ends a running effect; the colour stays. */
  stop(): void {
    this.#step = null
  }

  /** Advances effects by `dt` seconds; call it often. */
  tick(dt: number): void {
    this.#step?.(dt)
  }

  #write(color: Color): void {
    for (const part of PARTS) {
      const duty = color[part] / 255
      this.#pwms[part].write(this.#anode ? 1 - duty : duty)
    }
  }

  #parsed(color: string | Color): Color {
    const name = this.#pwms.red.name
    if (typeof color === 'string') {
      const found = /^#?([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(color)
      if (found === null) throw invalidValue(name, 'a colour as #ff8000', color)
      const [red = 0, green = 0, blue = 0] = found.slice(1).map((digits) => Number.parseInt(digits, 16))
      return { red, green, blue }
    }
    const bad = PARTS.find((part) => !(color[part] >= 0 && color[part] <= 255))
    if (bad !== undefined) throw invalidValue(name, `${bad} from 0 to 255`, color[bad])
    return color
  }
}
