/**
 * Receives pushes. Checks come in order of their cost: role, length, lock, header, signature. Invariant: until the last one has
 * passed, no byte of a push is outside this process's memory (test/runtime/endpoint/push.test.ts).
 */
import type { Request } from 'express'
import { ORDER_HEADER, type PushEvent, type SignedOrder } from '../../deploy/shared/api.ts'
import { LIMITS } from '../../deploy/shared/bundle/limits.ts'
import { checkHeader } from '../../deploy/shared/bundle/seal.ts'
import { requestStart, type YamuxStream } from '../../deploy/shared/channel/index.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import type { BodyLink } from './bodylink.ts'
import { type Call, LengthRequired, parseOrder } from './call.ts'
import { streamItems } from './ndjson.ts'
import type { BundleOpener } from './opener.ts'
import type { OperatorCache } from './operators.ts'
import type { Staging } from './staging.ts'

/** Most pushes at once, over all slots: one more than an operator may have (CHANNEL 6.6). */
const MAX_PUSHES = 3
const MAX_OWN = 2
/** Most bytes of all pushes at once: a bundle is in memory until it is opened. */
const MAX_BYTES = 2 * LIMITS.bundle
const MAX_OWN_BYTES = LIMITS.bundle
/** Limits of an upload (CHANNEL 6.7): its whole time, and its average rate after the grace. The stream's deadline ends one that stalls. */
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

  /**
   * A push into the slot of the call, or of a runtime where the call names no slot. The route has checked the role. Refusals are
   * reported to the body, which writes the receipts.
   */
  async push(call: Call): Promise<void> {
    const { slot, peer } = call
    try {
      const length = declaredLength(call.request)
      this.#admit(slot, peer.fingerprint, length)
      this.#busy.set(slot, { pusher: peer.fingerprint, length })
      // Released once: afterwards the entry of this slot may belong to another push.
      let held = true
      const release = () => {
        if (held) this.#busy.delete(slot)
        held = false
      }
      try {
        await this.#receive(call, length, release)
      } finally {
        release()
      }
    } catch (error) {
      const { code, message } = error instanceof Refusal ? error : new Refusal('internal', 'the endpoint failed')
      if (!reported.has(error as object)) {
        this.#parts.link.tell({
          op: 'refused',
          slot: slot || 'all',
          pusher: peer.fingerprint,
          code,
          message: message.slice(0, 500),
        })
      }
      throw error
    }
  }

  /** Throws Refusal `in-progress`. */
  #admit(slot: string, pusher: string, length: number): void {
    const refuse = (message: string) => new Refusal('in-progress', message, 'try again when it has ended')
    if (this.#busy.has(slot)) throw refuse(`another push to ${slot || 'the runtime'} is in progress`)
    const all = [...this.#busy.values()]
    const bytes = (pushes: typeof all) => pushes.reduce((sum, push) => sum + push.length, length)
    if (all.length >= MAX_PUSHES || bytes(all) > MAX_BYTES) throw refuse('pushes to other slots are in progress')
    const own = all.filter((push) => push.pusher === pusher)
    if (own.length >= MAX_OWN || bytes(own) > MAX_OWN_BYTES) {
      throw refuse('your pushes to other slots are in progress')
    }
  }

  async #receive({ request, response, peer, slot }: Call, length: number, release: () => void): Promise<void> {
    const { link, opener, operators, staging } = this.#parts
    const order = orderOf(request)
    const start = Number(requestStart(request.socket as unknown as YamuxStream)) / 1e6
    const bundle = await readBody(request, length, this.#parts.scale ?? 1)
    const received = clock()
    const { inner } = await opener.open(bundle, await operators.signers())
    const staged = await staging.put(inner)
    try {
      const pushed = { staged: staged.index, length: staged.length, pusher: peer.fingerprint, order }
      const message = slot === '' ? { op: 'install-runtime' as const, ...pushed } : { op: 'install' as const, slot, ...pushed } // biome-ignore format: one statement
      const receiveMs = received - start
      // Only for the person who pushes: the receipt holds the body's own times (HANDOVER 1.4).
      const upload: PushEvent[] = [
        { event: 'phase', phase: 'receive', by: 'endpoint', startMs: 0, ms: receiveMs },
        { event: 'phase', phase: 'open', by: 'endpoint', startMs: receiveMs, ms: clock() - received },
      ]
      const settle = async () => {
        await staging.remove(staged.index)
        release()
      }
      // Not cancelled when the client disconnects: the swap goes on to its end.
      await streamItems(link, message, response, undefined, settle, upload)
    } catch (error) {
      if (error instanceof Refusal) reported.add(error) // the body has recorded it
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
 * allows; its memory is freed then.
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
    // The rest of the upload is read and dropped: the stream's next request comes after it.
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

  /** `ms` since the upload began, divided by MEDULLA_TIME_SCALE. */
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

  /** Frees the memory; bytes that still arrive are dropped. */
  drop(): void {
    this.#bundle = null
  }
}
