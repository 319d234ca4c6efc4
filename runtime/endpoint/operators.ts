/**
 * What the body said about operators, remembered until it says that they changed. Invariant: only the body's good answers
 * are kept, and never across a change of its list.
 */
import { createHash } from 'node:crypto'
import { OPERATOR_NAME, ROLE_RANK, type Role } from '../../deploy/shared/api.ts'
import { type SignedCertificate, verifyCertificate } from '../../deploy/shared/cert.ts'
import type { Peer } from '../../deploy/shared/channel/socket.ts'
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

  /** Was this Noise key found good since the last change? */
  known(noisePublic: Uint8Array): boolean {
    return this.#keys.has(hex(noisePublic))
  }

  /** Null for anyone but a present operator whose own key signed that this Noise key is its own. */
  async who(noisePublic: Uint8Array, card: SignedCertificate | null): Promise<Peer | null> {
    if (!card) return null
    const id = createHash('sha256')
      .update(noisePublic)
      .update(JSON.stringify([card.cert, card.sig]))
      .digest('hex')
    const cached = this.#peers.get(id)
    if (cached) return cached
    const noise = Buffer.from(noisePublic).toString('base64')
    // only sound certificates reach the body; it judges them again (CHANNEL 3.3)
    const certificate = verifyCertificate(card)
    // CHANNEL 1.3
    if (certificate.subject !== 'operator' || certificate.noise !== noise) return null
    for (let attempt = 0; attempt < 3; attempt++) {
      const epoch = this.#epoch
      const cert = JSON.stringify({ cert: card.cert, sig: card.sig })
      const peer = asPeer(await this.#link.call({ op: 'who', cert, noise }))
      if (epoch !== this.#epoch) continue // the list changed while it was asked
      if (peer && this.#peers.size < MAX_CACHED) {
        this.#peers.set(id, peer)
        this.#keys.add(hex(noisePublic))
      }
      return peer
    }
    return null
  }

  /** Public keys whose releases may be opened. */
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

function isRole(role: unknown): role is Role {
  return typeof role === 'string' && Object.hasOwn(ROLE_RANK, role)
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
