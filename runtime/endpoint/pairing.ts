/**
 * The endpoint's part of a pairing: it carries messages to the body, which holds the code. Invariant: the endpoint never learns the
 * code, and takes no pairing unless the body has said that a window is open (test/e2e/pair.test.ts).
 */
import type { SignedCertificate } from '../../deploy/shared/cert.ts'
import type { PairingBody } from '../../deploy/shared/channel/index.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import type { BodyLink } from './bodylink.ts'

export class PairingDesk implements PairingBody {
  readonly #link: Pick<BodyLink, 'call'>

  constructor(link: Pick<BodyLink, 'call'>) {
    this.#link = link
  }

  async card(): Promise<SignedCertificate> {
    const { cert, sig } = await this.#ask({ op: 'pair-card' })
    return { cert: text(cert), sig: text(sig) }
  }

  async share(card: SignedCertificate, hash: Uint8Array, share: Uint8Array) {
    const about = { card: JSON.stringify({ cert: card.cert, sig: card.sig }), hash: base64(hash), share: base64(share) }
    const answer = await this.#ask({ op: 'pair-share', ...about })
    return { attempt: Number(answer.attempt), share: Buffer.from(text(answer.share), 'base64') }
  }

  async confirm(attempt: number, confirm: Uint8Array) {
    const answer = await this.#ask({ op: 'pair-confirm', attempt, confirm: base64(confirm) })
    return {
      confirm: Buffer.from(text(answer.confirm), 'base64'),
      answer: Buffer.from(text(answer.answer), 'base64'),
    }
  }

  async #ask(message: Parameters<BodyLink['call']>[0]): Promise<Record<string, unknown>> {
    return ((await this.#link.call(message)) ?? {}) as Record<string, unknown>
  }
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64')

function text(value: unknown): string {
  if (typeof value === 'string') return value
  throw new Refusal('internal', 'the body gave an answer that is not in the protocol')
}
