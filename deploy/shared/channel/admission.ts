/**
 * Limits how many connections may wait for their handshake, and how many sessions there are. Pure: no sockets, no clock.
 * Invariant: connections with unknown keys never take the places reserved for known keys, and a new connection is never
 * refused because strangers are idle (CHANNEL 5.2, CHANNEL 5.3; test/channel/listener.test.ts).
 */

export interface Limits {
  /** connections between TCP accept and established session */
  handshakes: number
  /** how many of these places are for known static keys only */
  reserved: number
  sessions: number
  /** sessions of one operator */
  sessionsEach: number
}

/** CHANNEL 5.2, CHANNEL 5.3, CHANNEL 5.4, CHANNEL 5.5 */
export const LIMITS: Readonly<Limits> = { handshakes: 64, reserved: 16, sessions: 32, sessionsEach: 16 }

type Stage = 'silent' | 'presented' | 'known'

export class Admission<T> {
  readonly #limits: Limits
  readonly #waiting = new Map<T, Stage>()
  readonly #sessions = new Map<T, string>()

  constructor(limits: Limits) {
    this.#limits = limits
  }

  /** A new connection. `evict` is the stranger to close for it; `admitted` is false when known keys have all places. */
  enter(connection: T): { admitted: boolean; evict?: T } {
    const { handshakes, reserved } = this.#limits
    let evict: T | undefined
    if (this.#count('silent') + this.#count('presented') >= handshakes - reserved || this.#waiting.size >= handshakes) {
      evict = this.#oldest('silent') ?? this.#oldest('presented')
      if (evict === undefined) return { admitted: false }
      this.#waiting.delete(evict)
    }
    this.#waiting.set(connection, 'silent')
    return evict === undefined ? { admitted: true } : { admitted: true, evict }
  }

  /** Message 1 of the connection was read. False when the connection was evicted meanwhile. */
  present(connection: T, known: boolean): boolean {
    if (!this.#waiting.has(connection)) return false
    this.#waiting.set(connection, known ? 'known' : 'presented')
    return true
  }

  /**
   * The connection becomes a session. `evict` is the session to close for it: the oldest of the same operator, or of the operator
   * with the most sessions, so that no operator is ever kept out (CHANNEL 5.4).
   */
  establish(connection: T, operator: string): { admitted: boolean; evict?: T } {
    const { sessions, sessionsEach } = this.#limits
    if (!this.#waiting.delete(connection)) return { admitted: false }
    const counts = new Map<string, number>()
    for (const other of this.#sessions.values()) counts.set(other, (counts.get(other) ?? 0) + 1)
    let evict: T | undefined
    if ((counts.get(operator) ?? 0) >= sessionsEach) evict = this.#oldestOf(operator)
    else if (this.#sessions.size >= sessions) {
      const [busiest = operator] = [...counts].sort(([, one], [, other]) => other - one)[0] ?? []
      evict = this.#oldestOf(busiest)
    }
    if (evict !== undefined) this.#sessions.delete(evict)
    this.#sessions.set(connection, operator)
    return evict === undefined ? { admitted: true } : { admitted: true, evict }
  }

  leave(connection: T): void {
    this.#waiting.delete(connection)
    this.#sessions.delete(connection)
  }

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
    for (const other of this.#waiting.values()) if (other === stage) n++
    return n
  }

  #oldest(stage: Stage): T | undefined {
    for (const [connection, other] of this.#waiting) if (other === stage) return connection
    return undefined
  }
}
