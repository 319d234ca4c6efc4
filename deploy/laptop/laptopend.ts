/**
 * A laptop's end of a message channel without its connections: frames in, frames out. Invariant: over all connections each message
 * is given once and in order, in both directions (CHANNEL 12; test/e2e/messages.test.ts, test/runtime/testkit/channels.test.ts).
 */
import { randomBytes } from 'node:crypto'
import { Incoming, Outgoing } from '../shared/messages/flow.ts'
import { ackFrame, costOf, type Encoded, endFrame, type Frame, helloFrame, MessageFault, parseAck, parseEnd, parseNames, parseWelcome, type Welcome, WINDOW } from '../shared/messages/frames.ts' // biome-ignore format: one list
import { Had, type Origins } from '../shared/messages/origins.ts'

export interface LaptopListener {
  /** A program has the channel: the first one, or another one after a crash or a restart. */
  open(): void
  /** The channel goes on in another connection, after a swap or a lost session. */
  resumed(): void
  /** The program has ended without handing over; whether it got `unconfirmed` messages is not known. `open` follows. */
  restart(unconfirmed: number): void
  /** The program that runs has no channel of this name, but these. */
  waiting(names: string[]): void
  /** Another laptop has the channel. */
  taken(): void
}

export class LaptopEnd {
  readonly #name: string
  readonly #id = randomBytes(16).toString('hex')
  readonly #on: LaptopListener
  readonly #outgoing = new Outgoing()
  readonly #incoming = new Incoming('come')
  readonly #had = new Had()
  /** of the messages in the last connection */
  #origins: Origins = []
  #write: ((frame: Buffer) => void) | null = null
  /** The program has answered in this connection. */
  #isOpen = false
  #wasOpen = false

  constructor(name: string, on: LaptopListener) {
    this.#name = name
    this.#on = on
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  /** A program has had the channel. */
  get wasOpen(): boolean {
    return this.#wasOpen
  }

  /** How many messages the program has not confirmed. */
  get unconfirmed(): number {
    return this.#outgoing.held.length
  }

  /** A connection with the program that runs; `write` sends to it. */
  connect(write: (frame: Buffer) => void): void {
    this.#write = write
    const { first } = this.#outgoing
    const room = this.#incoming.resume()
    const { received } = this.#incoming
    this.#had.add(this.#origins, received)
    this.#origins = []
    const had = this.#had.counts
    write(helloFrame({ name: this.#name, id: this.#id, again: this.#wasOpen, first, received, room, had }))
  }

  disconnect(): void {
    this.#isOpen = false
    this.#write = null
  }

  /** Throws MessageFault for what is outside of the protocol. */
  hear(frame: Frame): void {
    switch (frame.kind) {
      case 'welcome':
        return this.#welcome(parseWelcome(frame))
      case 'wait':
        return this.#on.waiting(parseNames(frame))
      case 'end':
        return parseEnd(frame) === 'taken' ? this.#on.taken() : undefined
      case 'ack':
        this.#outgoing.confirmed(parseAck(frame))
        return this.#flush()
      case 'hello':
        throw new MessageFault('hello from a program')
      default:
        if (!this.#isOpen) throw new MessageFault('message before welcome')
        return this.#incoming.take(frame)
    }
  }

  /** Sends a message, or holds it until the program has room. False: a window of messages is held, so this one is not taken. */
  send(message: Encoded): boolean {
    const { cost } = this.#outgoing
    if (cost > 0 && cost + costOf(message) > WINDOW) return false
    this.#outgoing.add(message)
    this.#flush()
    return true
  }

  /** The next message of the program. */
  next(): Encoded | undefined {
    return this.#incoming.next()
  }

  /** Tells the program which messages have come, and gives it room for those taken by `next()`. */
  confirm(): void {
    const ack = this.#isOpen ? this.#incoming.ack() : null
    if (ack !== null) this.#write?.(ackFrame(ack))
  }

  /** Tells the program that this laptop has closed the channel. */
  end(): void {
    if (this.#isOpen) this.#write?.(endFrame('closed'))
  }

  #welcome({ resumed, first, received, room, origins }: Welcome): void {
    if (this.#isOpen) throw new MessageFault('second welcome')
    this.#origins = origins
    const again = this.#wasOpen
    this.#isOpen = this.#wasOpen = true
    const unconfirmed = resumed ? 0 : this.#outgoing.restart(received + 1, room)
    if (resumed) this.#outgoing.resume(received, room)
    this.#flush()
    if (first > this.#incoming.received + 1) throw new MessageFault('messages are missing')
    if (resumed) return this.#on.resumed()
    if (again) this.#on.restart(unconfirmed)
    this.#on.open()
  }

  #flush(): void {
    if (this.#isOpen) for (const frame of this.#outgoing.next()) this.#write?.(frame)
  }
}
