/** A temperature handle. The body measures, so a read takes no time and causes no transfer on the bus (HANDLES 18). */
import { type HandlePort, revoked } from './attached.ts'
import type { Grant, Temperature } from './handle.ts'

export class AttachedTemperature implements Temperature {
  readonly kind = 'temperature'
  readonly name: string
  readonly #port: HandlePort
  #open = true

  constructor({ name }: Grant, port: HandlePort) {
    this.name = name
    this.#port = port
  }

  read(): number {
    if (!this.#open) throw revoked(this.name, false)
    return this.#port.read()
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#port.close()
  }
}
