/**
 * The established sessions and whose they are. Invariant: after the operators changed, no request is served to a session
 * before the body has confirmed it again, and the sessions of those who left are closed.
 */
import type { Identity, SecureSocket } from '../../deploy/shared/channel/index.ts'
import type { OperatorCache } from './operators.ts'

/** From the end of a session's rights to its own, in ms; no request is served any more. */
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
    // they may have changed during the handshake; unchanged, this is answered from memory
    this.#checked = Promise.all([this.#checked, this.#check(socket, identity)]).then(() => {})
  }

  /** Resolves when every session's role is the present one. */
  current(): Promise<unknown> {
    return this.#checked
  }

  /** CHANNEL 6.5 */
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
    // what is being answered is still sent: whoever removed himself is to hear of it
    socket.peer = undefined
    setTimeout(() => socket.destroy(), GOODBYE_MS).unref()
  }
}
