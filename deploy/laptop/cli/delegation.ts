/**
 * Signs the releases of `medulla watch` where the user's own key is in an agent, in a token or behind a passphrase: one order by that
 * key lets a key of this process sign for one robot and slot (HANDOVER 20).
 */
import { randomBytes } from 'node:crypto'
import { Refusal } from '../../shared/errors.ts'
import type { Signer } from '../../shared/keys.ts'
import { keyPath, signer } from '../config.ts'
import type { App, Globals } from './app.ts'
import type { Link } from './link.ts'

const HOURS = 8
/** A new delegation is asked for this long before the end of the old one. */
const MARGIN_MS = 5 * 60_000

export class Delegation {
  readonly #app: App
  readonly #link: Link
  readonly #slot: string
  readonly #own: Signer
  #session: { signer: Signer; until: number } | null = null

  private constructor(app: App, link: Link, slot: string, own: Signer) {
    this.#app = app
    this.#link = link
    this.#slot = slot
    this.#own = own
  }

  /** Null: the user's key is in a plain file, which signs each release itself. */
  static async open(app: App, link: Link, slot: string, { key }: Globals): Promise<Delegation | null> {
    const own = await signer(keyPath(app.dir, key, app.env))
    return own.isExternal === true ? new Delegation(app, link, slot, own) : null
  }

  /** The key of this process. At the first use, and again after 8 hours, the user's key signs an order. */
  async signer(): Promise<Signer> {
    if (this.#session !== null && performance.now() < this.#session.until) return this.#session.signer
    const { term } = this.#app
    const { seedSigner } = await import('../../shared/keys.ts')
    const made = seedSigner(randomBytes(32))
    const until = performance.now() + HOURS * 3_600_000 - MARGIN_MS
    const where = `${this.#link.robot.name}/${this.#slot}`
    term.note(`your key signs once now: then a key of this command signs the releases for ${where}, for ${HOURS} hours`)
    try {
      await this.#link.client.delegate(this.#slot, made.publicKey, HOURS)
    } catch (error) {
      // a robot of an earlier version does not know the order
      if (!(error instanceof Refusal) || error.code !== 'usage') throw error
      term.note(`${this.#link.robot.name} knows no delegation: your key signs each release`)
      return this.#own
    }
    term.event({ event: 'delegated', slot: this.#slot, key: made.fingerprint, hours: HOURS })
    this.#session = { signer: made, until }
    return made
  }

  /** The robot does not know the delegation any more: its runtime was started again. */
  forget(): void {
    this.#session = null
  }
}
