/**
 * The established sessions with their operators. Invariant: after a change of the operators, a session has no request served
 * before the body has confirmed it again, and the sessions of removed operators are closed
 * (test/runtime/endpoint/endpoint.test.ts).
 */
import type { Identity, SecureSocket } from '../../deploy/shared/channel/index.ts'
import type { OperatorCache } from './operators.ts'

/** ms until the session of a removed operator is closed; it has no request served meanwhile. */
const GOODBYE_MS = 250

export class Sessions {
  readonly #operators: OperatorCache
  readonly #identities = new Map<SecureSocket, Identity>()
  #checked: Promise<unknown> = Promise.resolve()

  constructor(operators: OperatorCache) {
    this.#operators = operators
  }

  add(socket: SecureSocket, identity: Identity): void {
    this.#identities.set(socket, identity)
    socket.on('error', () => {}) // a lost session is seen by its close
    socket.on('close', () => this.#identities.delete(socket))
    // The operators may have changed during the handshake; if not, the answer is cached.
    this.#checked = Promise.all([this.#checked, this.#check(socket, identity)]).then(() => {})
  }

  /** Resolves when every session's role is the present one. */
  current(): Promise<unknown> {
    return this.#checked
  }

  /** The operators have changed: checks every session again, before its next request (CHANNEL 6.5). */
  recheck(): void {
    this.#operators.forget()
    const all = [...this.#identities]
    this.#checked = this.#checked.then(() =>
      Promise.all(all.map(([socket, identity]) => this.#check(socket, identity))),
    )
  }

  async #check(socket: SecureSocket, { noise, card }: Identity): Promise<void> {
    const peer = await this.#operators.who(noise, card).catch(() => null)
    if (peer) {
      socket.peer = peer
      return
    }
    // Answers under way are still sent: an operator who removed himself gets the result.
    socket.peer = undefined
    setTimeout(() => socket.destroy(), GOODBYE_MS).unref()
  }
}
