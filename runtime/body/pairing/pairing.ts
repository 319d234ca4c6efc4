/**
 * The pairing window: the body draws the code, holds it, counts wrong ones, and decides who becomes an operator. Invariant: at most
 * three wrong confirmations are judged in a window, a code serves once, and nothing that the endpoint sends opens a window
 * (CHANNEL 9.2 to 9.8; test/runtime/body/pairing/pairing.test.ts).
 */
import { randomInt, timingSafeEqual } from 'node:crypto'
import { hostname } from 'node:os'
import type { OperatorInfo, PairingReport, Role } from '../../../deploy/shared/api.ts'
import { type SignedCertificate, verifyCertificate } from '../../../deploy/shared/cert.ts'
import { readBytes, readCode, sealAnswer, showCode, toText } from '../../../deploy/shared/channel/pairing.ts'
import { CONFIRM_LENGTH, SHARE_LENGTH } from '../../../deploy/shared/channel/spake2.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import { timeScale } from '../../../deploy/shared/timescale.ts'
import type { EndpointMessage } from '../../ipc.ts'
import type { Home } from '../../store/home.ts'
import { CodeFiles, readShownCode } from '../../store/pairingfiles.ts'
import type { Responded, RespondTo } from './respond.ts'

/** How long a window is open (CHANNEL 9.3). ms, before MEDULLA_TIME_SCALE */
const WINDOW_MS = 15 * 60_000
/** Wrong confirmations that close a window (CHANNEL 9.7). */
export const TRIES = 3
/** The number of codes: 8 decimal digits (CHANNEL 9.4). */
const CODES = 10 ** 8
/** Attempts that wait for the laptop's confirmation, and that wait for their share (CHANNEL 9.11). */
const MAX_ATTEMPTS = 8
const MAX_WAITING = 4

const ON_THE_ROBOT = 'on the robot: sudo medulla pair --allow'

export type PairMessage = Extract<EndpointMessage, { op: 'pair-card' | 'pair-share' | 'pair-confirm' }>

export interface PairingParts {
  home: Pick<Home, 'dir' | 'name' | 'card'>
  operators: {
    readonly hasOwner: boolean
    /** Writes the operator to the list; `role` null: the first is owner, later ones are operators. */
    letIn(card: SignedCertificate, role: Role | null): Promise<OperatorInfo & { first: boolean }>
  }
  responder: { prepare(): void; respond(request: RespondTo): Promise<Responded>; close(): Promise<void> }
  /** Further files for the code. */
  files: readonly string[]
  report: { info(text: string): void; warn(text: string): void }
  windowMs?: number
}

interface Attempt {
  readonly card: SignedCertificate
  readonly hash: Uint8Array
  readonly agreed: Responded
}

interface OpenWindow {
  readonly code: string
  readonly role: Role | null
  /** Of the request on the robot; null: the body opened the window, because there is no owner. */
  readonly nonce: string | null
  readonly until: Date
  /** performance.now() */
  readonly endsAt: number
  readonly timer: NodeJS.Timeout
  readonly attempts: Map<number, Attempt>
  wrong: number
}

export class Pairing {
  readonly #parts: PairingParts
  readonly #windowMs: number
  readonly #files: CodeFiles
  #window: OpenWindow | null = null
  #waiting = 0
  #lastAttempt = 0
  #changed: () => void = () => {}

  constructor(parts: PairingParts) {
    this.#parts = parts
    this.#windowMs = parts.windowMs ?? WINDOW_MS * timeScale()
    const failed = (problem: string) => parts.report.warn(`a file with the pairing code: ${problem}`)
    this.#files = new CodeFiles(parts.home.dir, parts.files, failed)
  }

  get isOpen(): boolean {
    return this.#window !== null
  }

  /** Without the code, which no message may hold (CHANNEL 9.4). Null: no window is open. */
  get status(): PairingReport | null {
    if (this.#window === null) return null
    return { until: this.#window.until.toISOString(), tries: TRIES - this.#window.wrong }
  }

  /** Called when a window was opened or closed. */
  onChange(listener: () => void): void {
    this.#changed = listener
  }

  /**
   * The runtime has started: a robot without an owner waits for one, with the code that it waited with before, which a person may have
   * read from its card (CHANNEL 9.3). Files of any other window are removed.
   */
  begin(): void {
    if (this.#parts.operators.hasOwner) return this.#files.remove()
    const left = readShownCode(this.#parts.home.dir)
    const goesOn = left?.nonce === null && readCode(left.code) === left.code && left.tries > 0 && left.tries <= TRIES
    this.#show({
      code: goesOn ? left.code : drawCode(),
      role: null,
      nonce: null,
      wrong: goesOn ? TRIES - left.tries : 0,
    })
  }

  /** Opens a window with a fresh code; one that is open is replaced. `nonce` is that of a request on the robot. */
  open(role: Role | null, nonce: string): void {
    this.#show({ code: drawCode(), role, nonce, wrong: 0 })
  }

  #show(about: Pick<OpenWindow, 'code' | 'role' | 'nonce' | 'wrong'>): void {
    if (this.#window !== null) clearTimeout(this.#window.timer)
    const until = new Date(Date.now() + this.#windowMs)
    this.#window = {
      ...about,
      until,
      endsAt: performance.now() + this.#windowMs,
      timer: setTimeout(() => this.#end('its time is over'), this.#windowMs).unref(),
      attempts: new Map(),
    }
    // The log is read on the robot only: no route of the endpoint sends it (CHANNEL 9.4).
    this.#parts.report.info(this.#writeFiles(this.#window))
    this.#changed()
  }

  /** The list of operators has changed: a window for the first owner closes when there is one (CHANNEL 9.3). */
  operatorsChanged(): void {
    if (this.#window?.nonce === null && this.#parts.operators.hasOwner) this.#end('the robot has an owner')
  }

  /** Returns what a person on the robot is shown. */
  #writeFiles({ code, nonce, wrong, until: end }: OpenWindow): string {
    const until = end.toISOString()
    const words = `pairing code of ${this.#parts.home.name}: ${showCode(code)}; on a laptop, until ${until}: medulla pair ${hostname()}.local`
    this.#files.write({ code, until, tries: TRIES - wrong, nonce }, words)
    return words
  }

  /** Throws Refusal, which the laptop is told; outside a window always `not-pairing`. */
  async answer(message: PairMessage): Promise<unknown> {
    switch (message.op) {
      case 'pair-card':
        this.#opened()
        this.#parts.responder.prepare()
        return this.#parts.home.card
      case 'pair-share':
        return this.#share(message)
      case 'pair-confirm':
        return this.#confirm(message)
    }
  }

  async close(): Promise<void> {
    // The files of a window for the first owner stay for the next start.
    if (this.#window !== null) this.#end('the runtime ends', this.#window.nonce === null)
    await this.#parts.responder.close()
    await this.#files.settle()
  }

  async #share(message: Extract<PairMessage, { op: 'pair-share' }>): Promise<{ attempt: number; share: string }> {
    const window = this.#opened()
    const card = readCard(message.card)
    const [hash, share] = [bytesOf(message.hash, 32), bytesOf(message.share, SHARE_LENGTH)]
    if (this.#waiting >= MAX_WAITING) throw new Refusal('in-progress', 'too many laptops pair at once', 'try again')
    this.#waiting++
    let agreed: Responded
    try {
      const robot = this.#parts.home.card.cert
      agreed = await this.#parts.responder.respond({ code: window.code, share, operator: card.cert, robot, hash })
    } finally {
      this.#waiting--
    }
    if (this.#opened() !== window) throw notPairing()
    const attempt = ++this.#lastAttempt
    window.attempts.set(attempt, { card, hash, agreed })
    const [oldest] = window.attempts.keys()
    if (window.attempts.size > MAX_ATTEMPTS && oldest !== undefined) window.attempts.delete(oldest)
    return { attempt, share: toText(agreed.share) }
  }

  async #confirm(message: Extract<PairMessage, { op: 'pair-confirm' }>): Promise<{ confirm: string; answer: string }> {
    const window = this.#opened()
    const attempt = window.attempts.get(message.attempt)
    // Each attempt is judged once: a second confirmation would be a second guess with the same share (CHANNEL 9.7).
    window.attempts.delete(message.attempt)
    if (attempt === undefined)
      throw new Refusal('not-pairing', 'this attempt to pair is over', 'try again: medulla pair')
    const { card, hash, agreed } = attempt
    if (!timingSafeEqual(bytesOf(message.confirm, CONFIRM_LENGTH), agreed.confirmA)) throw this.#countWrong(window)
    // Closed before anything is awaited: the code serves once (CHANNEL 9.8).
    this.#end('a laptop was paired')
    const operator = await this.#parts.operators.letIn(card, window.role)
    this.#parts.report.info(`paired: ${operator.name} (${operator.fingerprint}) is ${operator.role} of this robot`)
    return { confirm: toText(agreed.confirmB), answer: toText(sealAnswer(agreed.key, hash, operator)) }
  }

  #countWrong(window: OpenWindow): Refusal {
    const left = TRIES - ++window.wrong
    this.#parts.report.warn(`a wrong pairing code; ${left} tries are left`)
    if (left > 0) {
      this.#writeFiles(window)
      const tries = left === 1 ? '1 try is left' : `${left} tries are left`
      return new Refusal(
        'wrong-code',
        `the code is wrong; ${tries}`,
        'read the code again, and try again: medulla pair',
      )
    }
    this.#end(`after ${TRIES} wrong codes`)
    return new Refusal(
      'wrong-code',
      `the code is wrong, and the window is closed after ${TRIES} wrong codes`,
      ON_THE_ROBOT,
    )
  }

  #opened(): OpenWindow {
    // A body that was busy may be late with the timer.
    if (this.#window !== null && performance.now() >= this.#window.endsAt) this.#end('its time is over')
    if (this.#window === null) throw notPairing()
    return this.#window
  }

  #end(why: string, keepFiles = false): void {
    if (this.#window === null) return
    clearTimeout(this.#window.timer)
    this.#window = null
    this.#parts.report.info(`the pairing window is closed: ${why}`)
    if (!keepFiles) this.#files.remove()
    // Attempts that wait for their share are refused by the thread that ends, or find the window closed.
    void this.#parts.responder.close()
    this.#changed()
  }
}

/** Each of the codes has the same chance: randomInt() has no bias (CHANNEL 9.4). */
export const drawCode = (): string => String(randomInt(CODES)).padStart(8, '0')

const notPairing = () => new Refusal('not-pairing', 'the pairing window of this robot is closed', ON_THE_ROBOT)

/** The endpoint may be hostile: the body checks the card again (CHANNEL 9.11). */
function readCard(text: string): SignedCertificate {
  let card: SignedCertificate
  try {
    const { cert, sig } = JSON.parse(text) as SignedCertificate
    card = { cert, sig }
  } catch {
    throw new Refusal('usage', "expected an operator's card")
  }
  const { subject } = verifyCertificate(card)
  if (subject !== 'operator') throw new Refusal('usage', `this is the card of a ${subject}, expected an operator's`)
  return card
}

function bytesOf(text: string, length: number): Buffer {
  try {
    return readBytes(text, length)
  } catch {
    throw new Refusal('usage', `expected ${length} bytes in base64`)
  }
}
