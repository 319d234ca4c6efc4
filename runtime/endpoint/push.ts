/**
 * The door for programs. Invariant: checks come in order of their cost (role, length, lock, header, signature), and until
 * the last has passed nothing of a push is outside this process's memory.
 */
import type { Request } from 'express'
import { ORDER_HEADER, type PushEvent, type SignedOrder } from '../../deploy/shared/api.ts'
import { LIMITS } from '../../deploy/shared/bundle/limits.ts'
import { checkHeader } from '../../deploy/shared/bundle/seal.ts'
import { requestStart, type SecureSocket } from '../../deploy/shared/channel/index.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import type { BodyLink } from './bodylink.ts'
import { type Call, LengthRequired, parseOrder } from './call.ts'
import { streamed } from './ndjson.ts'
import type { BundleOpener } from './opener.ts'
import type { OperatorCache } from './operators.ts'
import type { Staging } from './staging.ts'

/** Pushes at once, over all slots: one more than an operator may have (CHANNEL 6.6). */
const MAX_PUSHES = 3
const MAX_OWN = 2
/** Bytes of the pushes at once, which are in memory until they were opened. */
const MAX_BYTES = 2 * LIMITS.bundle
const MAX_OWN_BYTES = LIMITS.bundle
/** CHANNEL 6.7: for the whole upload, and the average rate from the grace on; the session's own deadline ends one that stops. */
const UPLOAD_MS = 15 * 60_000
const GRACE_MS = 10_000
const LEAST_BYTES_PER_MS = (8 * 1024) / 1000

export interface UploadParts {
  link: BodyLink
  operators: Pick<OperatorCache, 'signers'>
  opener: Pick<BundleOpener, 'open'>
  staging: Staging
  scale?: number
}

export class Uploads {
  readonly #parts: UploadParts
  readonly #busy = new Map<string, { pusher: string; length: number }>()

  constructor(parts: UploadParts) {
    this.#parts = parts
  }

  /** The role was checked by the route. Refusals are reported to the body, which keeps the log. */
  async push(call: Call): Promise<void> {
    const { slot, peer } = call
    try {
      const length = declaredLength(call.request)
      this.#admit(slot, peer.fingerprint, length)
      this.#busy.set(slot, { pusher: peer.fingerprint, length })
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

  /** Throws Refusal `in-progress`. */
  #admit(slot: string, pusher: string, length: number): void {
    const refuse = (message: string) => new Refusal('in-progress', message, 'try again when it has ended')
    if (this.#busy.has(slot)) throw refuse(`another push to ${slot} is in progress`)
    const all = [...this.#busy.values()]
    const bytes = (pushes: typeof all) => pushes.reduce((sum, push) => sum + push.length, length)
    if (all.length >= MAX_PUSHES || bytes(all) > MAX_BYTES) throw refuse('pushes to other slots are in progress')
    const own = all.filter((push) => push.pusher === pusher)
    if (own.length >= MAX_OWN || bytes(own) > MAX_OWN_BYTES) {
      throw refuse('pushes of yours to other slots are in progress')
    }
  }

  async #receive({ request, response, peer, slot }: Call, length: number, letGo: () => void): Promise<void> {
    const { link, opener, operators, staging } = this.#parts
    const order = orderOf(request)
    const start = Number(requestStart(request.socket as unknown as SecureSocket)) / 1e6
    const bundle = await readBody(request, length, this.#parts.scale ?? 1)
    const received = clock()
    const { inner } = await opener.open(bundle, await operators.signers())
    const staged = await staging.put(inner)
    try {
      const message = { op: 'install' as const, slot, staged: staged.index, length: staged.length, pusher: peer.fingerprint, order } // biome-ignore format: one record
      const receiveMs = received - start
      // our word alone: the receipt has what the body measures (HANDOVER 1.4)
      const upload: PushEvent[] = [
        { event: 'phase', phase: 'receive', by: 'endpoint', startMs: 0, ms: receiveMs },
        { event: 'phase', phase: 'open', by: 'endpoint', startMs: receiveMs, ms: clock() - received },
      ]
      const settle = async () => {
        await staging.remove(staged.index)
        letGo()
      }
      // not cancelled when the client leaves: from here the swap has its own end
      await streamed(link, message, response, undefined, settle, upload)
    } catch (error) {
      if (error instanceof Refusal) reported.add(error) // the body said it itself
      throw error
    }
  }
}

const reported = new WeakSet<object>()

/** ms of CLOCK_MONOTONIC */
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

/**
 * Throws Refusal as soon as the age header is wrong, when the upload ends early, and when it is slower than CHANNEL 6.7
 * allows: then nothing of it is left.
 */
async function readBody(request: Request, length: number, scale: number): Promise<Uint8Array<ArrayBuffer>> {
  const began = clock()
  const upload = new Upload(length)
  let timer: NodeJS.Timeout | undefined
  const slow = new Promise<never>((_, reject) => {
    timer = setInterval(() => {
      const refusal = upload.tooSlow((clock() - began) / scale)
      if (refusal !== null) reject(refusal)
    }, 1000 * scale)
  })
  try {
    return await Promise.race([upload.read(request), slow])
  } catch (error) {
    upload.drop()
    // the rest is on its way, and the session's next request comes after it
    request.resume()
    throw error
  } finally {
    clearInterval(timer)
  }
}

class Upload {
  readonly #length: number
  #bundle: Uint8Array<ArrayBuffer> | null
  #filled = 0

  constructor(length: number) {
    this.#length = length
    this.#bundle = new Uint8Array(length)
  }

  async read(request: Request): Promise<Uint8Array<ArrayBuffer>> {
    const length = this.#length
    let headerSeen = false
    try {
      for await (const part of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
        if (this.#bundle === null) continue
        this.#bundle.set(part, this.#filled)
        this.#filled += part.length
        headerSeen ||= checkHeader(this.#bundle.subarray(0, this.#filled)) === 'ok'
      }
    } catch (error) {
      if (error instanceof Refusal) throw error
      throw new Refusal('truncated', `bundle: expected ${length} bytes, the upload ended after ${this.#filled}`)
    }
    if (this.#bundle === null || this.#filled !== length || !headerSeen)
      throw new Refusal('truncated', `bundle: expected ${length} bytes, got ${this.#filled}`)
    return this.#bundle
  }

  /** `ms` since the upload began, at the speed of a machine that is not stretched. */
  tooSlow(ms: number): Refusal | null {
    const late = ms > UPLOAD_MS
    if (!late && this.#filled >= (ms - GRACE_MS) * LEAST_BYTES_PER_MS) return null
    const rate = `${(this.#filled / 1.024 / ms).toFixed(1)} KiB/s`
    const limit = late ? `an upload has ${UPLOAD_MS / 60_000} minutes` : 'at least 8 KiB/s are expected'
    return new Refusal(
      'truncated',
      `bundle: got ${this.#filled} of ${this.#length} bytes, at ${rate}; ${limit}`,
      'push again from where the network is better',
    )
  }

  /** Nothing of it is wanted any more: its memory is given back, whatever still comes. */
  drop(): void {
    this.#bundle = null
  }
}
