/**
 * Fresh handshakes in a session (CHANNEL 4.11). Rekey() keeps old traffic closed when a key is stolen; after a fresh handshake, the
 * traffic that follows is closed again, too. Pure: messages in, messages and keys out.
 * Invariant: a message 1 opens only in the session that it was made for, and only if its maker has the static key of that session
 * (test/deploy/shared/channel/freshkeys.test.ts).
 */
import { Handshake, type HandshakeOptions, type Split } from './noise.ts'
import type { KeyPair } from './x25519.ts'

const PROLOGUE = Buffer.from('medulla/2 fresh')
const EMPTY = new Uint8Array(0)

export interface FreshKeysOptions {
  initiator: boolean
  form: Pick<HandshakeOptions, 'pattern' | 'psk'>
  static: KeyPair
  /** the static key of the peer, which proved it when the session began */
  remoteStatic: Uint8Array
  /** the hash of the handshake that began the session */
  hash: Uint8Array
  /** only for recorded vectors: otherwise each handshake makes a new one */
  ephemeral?: KeyPair
}

export class FreshKeys {
  readonly initiator: boolean
  readonly #options: FreshKeysOptions
  #hash: Uint8Array
  /** of the laptop: it waits for message 2 */
  #begun: Handshake | undefined
  /** of the robot: it waits for the laptop's confirmation */
  #receive: Uint8Array | undefined

  constructor(options: FreshKeysOptions) {
    this.initiator = options.initiator
    this.#options = options
    this.#hash = options.hash
  }

  /** Whether a handshake has begun and not ended. */
  get pending(): boolean {
    return this.#begun !== undefined || this.#receive !== undefined
  }

  /** Message 1 of the laptop. */
  begin(): Uint8Array {
    if (!this.initiator || this.pending) throw new Error('fresh handshake: not its turn')
    this.#begun = this.#handshake()
    return this.#begun.write(EMPTY)
  }

  /** The robot reads message 1. `message` is the last one under its old key; what it sends then has the key `send`. */
  answer(message1: Uint8Array): { message: Uint8Array; send: Uint8Array } {
    if (this.initiator || this.pending) throw new Error('fresh handshake: not its turn')
    const handshake = this.#handshake()
    if (handshake.read(message1).length > 0) throw new Error('fresh handshake: message 1 carries data')
    const { remoteStatic } = handshake
    if (remoteStatic === undefined || !Buffer.from(this.#options.remoteStatic).equals(remoteStatic)) {
      throw new Error('fresh handshake: another static key')
    }
    const message = handshake.write(EMPTY)
    const { send, receive } = this.#split(handshake)
    this.#receive = receive
    return { message, send }
  }

  /** The laptop reads message 2: the keys of both directions from now on. */
  finish(message2: Uint8Array): Pick<Split, 'send' | 'receive'> {
    const handshake = this.#begun
    if (handshake === undefined) throw new Error('fresh handshake: message 2 without message 1')
    this.#begun = undefined
    if (handshake.read(message2).length > 0) throw new Error('fresh handshake: message 2 carries data')
    return this.#split(handshake)
  }

  /** The robot has the laptop's confirmation: the key of what it receives from now on. */
  confirmed(): Uint8Array {
    const receive = this.#receive
    if (receive === undefined) throw new Error('fresh handshake: a confirmation without a handshake')
    this.#receive = undefined
    return receive
  }

  #handshake(): Handshake {
    const { form, static: own, remoteStatic, ephemeral } = this.#options
    return new Handshake({
      ...form,
      initiator: this.initiator,
      prologue: Buffer.concat([PROLOGUE, this.#hash]),
      static: own,
      ...(this.initiator && { remoteStatic }),
      ...(ephemeral && { ephemeral }),
    })
  }

  /** The next handshake is bound to this one. */
  #split(handshake: Handshake): Split {
    const split = handshake.split()
    this.#hash = split.hash
    return split
  }
}
