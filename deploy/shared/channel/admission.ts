/**
 * Who may be in the doorway at once. Pure: no sockets, no clock. Invariant: connections whose key is not known never take
 * the places reserved for known keys, and a newcomer is never refused because strangers idle (CHANNEL 5.2, CHANNEL 5.3).
 */

export interface Limits {
  /** connections between TCP accept and established session, in all */
  handshakes: number
  /** of these, for known static keys only */
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

  /** A new connection: `evict` is the stranger that has to leave for it; `admitted` is false when all places hold known keys. */
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

  /** Its message 1 was read. False when it is not waiting any more. */
  present(connection: T, known: boolean): boolean {
    if (!this.#waiting.has(connection)) return false
    this.#waiting.set(connection, known ? 'known' : 'presented')
    return true
  }

  /**
   * The connection leaves the doorway, and is a session. `evict` is the session that has to leave for it: the oldest of
   * its own operator, or of the operator that has the most, so that nobody who is known is ever kept out (CHANNEL 5.4).
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
