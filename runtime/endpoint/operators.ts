/**
 * Caches what the body says about operators. Invariant: only positive answers are cached, and only until the list of operators
 * changes (test/runtime/endpoint/endpoint.test.ts).
 */
import { createHash } from 'node:crypto'
import { OPERATOR_NAME, type PeerRole, ROLE_RANK } from '../../deploy/shared/api.ts'
import { type SignedCertificate, verifyCertificate } from '../../deploy/shared/cert.ts'
import type { Peer } from '../../deploy/shared/channel/index.ts'
import type { BodyLink } from './bodylink.ts'

const MAX_CACHED = 256

export class OperatorCache {
  readonly #link: BodyLink
  readonly #peers = new Map<string, Peer>()
  readonly #keys = new Set<string>()
  #signers: string[] | undefined
  #epoch = 0

  constructor(link: BodyLink) {
    this.#link = link
  }

  /** Whether the body accepted this Noise key since the last change. */
  known(noisePublic: Uint8Array): boolean {
    return this.#keys.has(hex(noisePublic))
  }

  /** The operator whose key signed a certificate for this Noise key; null for everybody else. */
  async who(noisePublic: Uint8Array, card: SignedCertificate | null): Promise<Peer | null> {
    if (!card) return null
    const id = createHash('sha256')
      .update(noisePublic)
      .update(JSON.stringify([card.cert, card.sig]))
      .digest('hex')
    const cached = this.#peers.get(id)
    if (cached) return cached
    const noise = Buffer.from(noisePublic).toString('base64')
    // Only valid certificates reach the body, which checks them again (CHANNEL 3.3).
    const certificate = verifyCertificate(card)
    // The certificate must name this very Noise key (CHANNEL 1.3).
    if (certificate.subject !== 'operator' || certificate.noise !== noise) return null
    const epoch = this.#epoch
    const cert = JSON.stringify({ cert: card.cert, sig: card.sig })
    const peer = asPeer(await this.#link.call({ op: 'who', cert, noise }))
    // An answer that comes after the news of a change is that of the new list, as the body sends both in order.
    if (peer && epoch === this.#epoch && this.#peers.size < MAX_CACHED) {
      this.#peers.set(id, peer)
      this.#keys.add(hex(noisePublic))
    }
    return peer
  }

  /** The public keys that may sign releases. */
  async signers(): Promise<string[]> {
    if (this.#signers) return this.#signers
    const epoch = this.#epoch
    const value = await this.#link.call({ op: 'signers' })
    const signers = Array.isArray(value) ? value.filter((key): key is string => typeof key === 'string') : []
    if (epoch === this.#epoch) this.#signers = signers
    return signers
  }

  forget(): void {
    this.#epoch++
    this.#peers.clear()
    this.#keys.clear()
    this.#signers = undefined
  }
}

function asPeer(value: unknown): Peer | null {
  if (typeof value !== 'object' || value === null) return null
  const { fingerprint, role, name } = value as Record<string, unknown>
  if (typeof fingerprint !== 'string' || typeof name !== 'string' || !OPERATOR_NAME.test(name)) return null
  return isRole(role) ? { fingerprint, role, name } : null
}

function isRole(role: unknown): role is PeerRole {
  return role === 'recovery' || (typeof role === 'string' && Object.hasOwn(ROLE_RANK, role))
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
