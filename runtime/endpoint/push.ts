/**
 * The door for programs. Invariant: checks come in order of their cost (role, length, lock, header, signature), and until
 * the last has passed nothing of a push is outside this process's memory.
 */
import type { Request } from 'express'
import { ORDER_HEADER, type SignedOrder } from '../../deploy/api.ts'
import { LIMITS } from '../../deploy/bundle/limits.ts'
import { checkHeader } from '../../deploy/bundle/seal.ts'
import { requestStart, type SecureSocket } from '../../deploy/channel/index.ts'
import { Refusal } from '../../deploy/errors.ts'
import type { BodyLink } from './bodylink.ts'
import { type Call, LengthRequired, parseOrder } from './call.ts'
import { streamed } from './ndjson.ts'
import type { BundleOpener } from './opener.ts'
import type { Operators } from './operators.ts'
import type { Staging } from './staging.ts'

/** pushes at once, over all slots */
const MAX_PUSHES = 2
/** for the whole upload, however steadily it drips; the session's own deadline ends one that stops */
const UPLOAD_MS = 15 * 60_000

export interface DoorParts {
  link: BodyLink
  operators: Pick<Operators, 'signers'>
  opener: Pick<BundleOpener, 'open'>
  staging: Staging
  scale?: number
}

export class Door {
  readonly #parts: DoorParts
  readonly #busy = new Set<string>()

  constructor(parts: DoorParts) {
    this.#parts = parts
  }

  /** The role was checked by the route. Refusals are reported to the body, which keeps the log. */
  async push(call: Call): Promise<void> {
    const { slot, peer } = call
    try {
      const length = declaredLength(call.request)
      if (this.#busy.has(slot) || this.#busy.size >= MAX_PUSHES) {
        throw new Refusal('in-progress', `another push to ${slot} is in progress`, 'try again when it has ended')
      }
      this.#busy.add(slot)
      // once: afterwards the slot may be another push's
      let held = true
      const letGo = () => {
        if (held) this.#busy.delete(slot)
        held = false
      }
      try {
        await this.#receive(call, length, letGo)
      } finally {
        letGo()
      }
    } catch (error) {
      const { code, message } = error instanceof Refusal ? error : new Refusal('internal', 'the endpoint failed')
      if (!reported.has(error as object)) {
        this.#parts.link.tell({ op: 'refused', slot, pusher: peer.fingerprint, code, message: message.slice(0, 500) })
      }
      throw error
    }
  }

  async #receive({ request, response, peer, slot }: Call, length: number, letGo: () => void): Promise<void> {
    const { link, opener, operators, staging } = this.#parts
    const order = orderOf(request)
    const start = Number(requestStart(request.socket as unknown as SecureSocket)) / 1e6
    const bundle = await readBody(request, length, UPLOAD_MS * (this.#parts.scale ?? 1))
    const received = clock()
    const { inner } = await opener.open(bundle, await operators.signers())
    const opened = clock()
    const staged = await staging.put(inner)
    try {
      const marks = { start, received, opened }
      const message = { op: 'install' as const, slot, staged: staged.index, length: staged.length, pusher: peer.fingerprint, order, marks } // biome-ignore format: one record
      // not cancelled when the client leaves: from here the swap has its own end
      await streamed(link, message, response, undefined, async () => {
        await staging.remove(staged.index)
        letGo()
      })
    } catch (error) {
      if (error instanceof Refusal) reported.add(error) // the body said it itself
      throw error
    }
  }
}

const reported = new WeakSet<object>()

/** ms of CLOCK_MONOTONIC, as the body's marks are. */
function clock(): number {
  return Number(process.hrtime.bigint()) / 1e6
}

function declaredLength(request: Request): number {
  const text = request.headers['content-length']
  if (text === undefined) throw new LengthRequired()
  const length = Number(text)
  if (length > LIMITS.bundle) throw new Refusal('too-large', `bundle: at most ${LIMITS.bundle} bytes, got ${length}`)
  if (length === 0) throw new Refusal('truncated', 'bundle: expected an age file, got 0 bytes')
  return length
}

function orderOf(request: Request): SignedOrder | null {
  const header = request.headers[ORDER_HEADER]
  return typeof header === 'string' ? parseOrder(Buffer.from(header, 'base64url').toString()) : null
}

/** Throws Refusal as soon as the age header is wrong, and when the upload ends early: then nothing of it is left. */
async function readBody(request: Request, length: number, deadlineMs: number): Promise<Uint8Array<ArrayBuffer>> {
  const bundle = new Uint8Array(length)
  const timer = setTimeout(() => request.destroy(), deadlineMs)
  let filled = 0
  let headerSeen = false
  try {
    for await (const part of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      bundle.set(part, filled)
      filled += part.length
      headerSeen ||= checkHeader(bundle.subarray(0, filled)) === 'ok'
    }
  } catch (error) {
    if (error instanceof Refusal) {
      // the rest is on its way, and the session's next request comes after it
      request.resume()
      throw error
    }
    throw new Refusal('truncated', `bundle: expected ${length} bytes, the upload ended after ${filled}`)
  } finally {
    clearTimeout(timer)
  }
  if (filled !== length || !headerSeen)
    throw new Refusal('truncated', `bundle: expected ${length} bytes, got ${filled}`)
  return bundle
}
