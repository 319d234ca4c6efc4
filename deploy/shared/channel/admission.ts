/**
 * Limits how many connections may wait for their handshake, and how many sessions there are. Pure: no sockets, no clock.
 * Invariant: connections with unknown keys never take the places reserved for known keys, and a new connection is never
 * refused because of strangers: one of theirs is closed for it (CHANNEL 5.2, CHANNEL 5.3;
 * test/deploy/shared/channel/admission.test.ts).
 */
import { isIPv6 } from 'node:net'

export interface AdmissionLimits {
  /** connections that have not asked for the upgrade: more than wait to be accepted (511), which may all come at once */
  silent: number
  /** connections that have asked for the upgrade and not sent message 1 */
  upgraded: number
  /** connections that have sent message 1 and are not sessions yet */
  handshakes: number
  /** how many of these places are for known static keys only */
  reserved: number
  sessions: number
  /** sessions of one operator */
  sessionsEach: number
}

/** Neither strangers nor one busy operator can take every place (CHANNEL 5.2 to 5.5). */
export const ADMISSION_LIMITS: Readonly<AdmissionLimits> = {
  silent: 640,
  upgraded: 384,
  handshakes: 64,
  reserved: 16,
  sessions: 32,
  sessionsEach: 16,
}

/** What of the handshake has come: nothing, the request for an upgrade, message 1 of an unknown key, or that of a known one. */
type Stage = 'silent' | 'upgraded' | 'presented' | 'known'

interface Waiting {
  stage: Stage
  readonly source: string
}
interface Place<T> {
  admitted: boolean
  /** to be closed in its favour */
  evict?: T
}

export class Admission<T> {
  readonly #limits: AdmissionLimits
  readonly #waiting = new Map<T, Waiting>()
  readonly #sessions = new Map<T, string>()

  constructor(limits: AdmissionLimits) {
    this.#limits = limits
  }

  /** A new connection from this IP address. Returns the stranger to close for it. */
  enter(connection: T, address = ''): T | undefined {
    const evict = this.#count('silent') >= this.#limits.silent ? this.#evict('silent') : undefined
    this.#waiting.set(connection, { stage: 'silent', source: sourceOf(address) })
    return evict
  }

  /** The connection has asked for the upgrade. Returns the stranger to close for it. */
  upgrade(connection: T): T | undefined {
    const waiting = this.#waiting.get(connection)
    if (waiting?.stage !== 'silent') return undefined
    const evict = this.#count('upgraded') >= this.#limits.upgraded ? this.#evict('upgraded') : undefined
    waiting.stage = 'upgraded'
    return evict
  }

  /** Message 1 of the connection was read. Not admitted: the connection was evicted meanwhile. */
  present(connection: T, known: boolean): Place<T> {
    const waiting = this.#waiting.get(connection)
    if (waiting === undefined) return { admitted: false }
    const { handshakes, reserved } = this.#limits
    const strangers = this.#count('presented')
    let evict: T | undefined
    if (strangers + this.#count('known') >= handshakes) evict = this.#evict('presented', 'known')
    else if (!known && strangers >= handshakes - reserved) evict = this.#evict('presented')
    waiting.stage = known ? 'known' : 'presented'
    return placeOf(evict)
  }

  /**
   * The connection becomes a session. `evict` is the session to close for it: the oldest of the same operator, or of the operator
   * with the most sessions, so that no operator is ever kept out (CHANNEL 5.4).
   */
  establish(connection: T, operator: string): Place<T> {
    const { sessions, sessionsEach } = this.#limits
    if (!this.#waiting.delete(connection)) return { admitted: false }
    const counts = countsOf(this.#sessions.values())
    let evict: T | undefined
    if ((counts.get(operator) ?? 0) >= sessionsEach) evict = this.#oldestOf(operator)
    else if (this.#sessions.size >= sessions) evict = this.#oldestOf(mostOf(counts) ?? operator)
    if (evict !== undefined) this.#sessions.delete(evict)
    this.#sessions.set(connection, operator)
    return placeOf(evict)
  }

  leave(connection: T): void {
    this.#waiting.delete(connection)
    this.#sessions.delete(connection)
  }

  /** Connections that are not sessions yet. */
  get handshakes(): number {
    return this.#waiting.size
  }

  get sessions(): number {
    return this.#sessions.size
  }

  #oldestOf(operator: string): T | undefined {
    for (const [connection, other] of this.#sessions) if (other === operator) return connection
    return undefined
  }

  #count(stage: Stage): number {
    let n = 0
    for (const waiting of this.#waiting.values()) if (waiting.stage === stage) n++
    return n
  }

  /** Forgets the oldest connection of the address that has the most, of the first of these stages that anybody is in. */
  #evict(...stages: Stage[]): T | undefined {
    for (const stage of stages) {
      const there = [...this.#waiting].filter(([, waiting]) => waiting.stage === stage)
      const most = mostOf(countsOf(there.map(([, { source }]) => source)))
      const [connection] = there.find(([, { source }]) => source === most) ?? []
      if (connection === undefined) continue
      this.#waiting.delete(connection)
      return connection
    }
    return undefined
  }
}

function placeOf<T>(evict: T | undefined): Place<T> {
  return evict === undefined ? { admitted: true } : { admitted: true, evict }
}

function countsOf(names: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>()
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1)
  return counts
}

function mostOf(counts: ReadonlyMap<string, number>): string | undefined {
  let [most, name]: [number, string | undefined] = [0, undefined]
  for (const [other, count] of counts) if (count > most) [most, name] = [count, other]
  return name
}

/** An IPv4 address, or the /64 network of an IPv6 address, which one computer has for itself (RFC 4291, 2.5.4). */
export function sourceOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1]
  if (mapped !== undefined || !isIPv6(address)) return mapped ?? address
  const [head = '', tail] = (address.split('%')[0] ?? '').split('::')
  const groups = head.split(':').filter(Boolean)
  const rest = tail?.split(':').filter(Boolean) ?? []
  const zeros = Array.from({ length: Math.max(0, 8 - groups.length - rest.length) }, () => '0')
  return [...groups, ...zeros, ...rest].slice(0, 4).join(':')
}
