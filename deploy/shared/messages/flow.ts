/**
 * The two directions of a message channel, at either end. Invariant: whatever connections are lost, each message is taken once
 * and in order, and at most a window waits in its receiver (CHANNEL 12.4, 12.5; test/deploy/shared/messages/flow.test.ts).
 */
import { type Ack, costOf, type Encoded, type Frame, MAX_MESSAGE, MESSAGE_COST, MessageFault, messageFrames, WINDOW } from './frames.ts' // biome-ignore format: one list

/** The messages that the peer has not confirmed. */
export class Outgoing<Message extends Encoded = Encoded> {
  readonly #held: Message[] = []
  /** number of the first held message */
  #first: number
  /** how many of the held messages were written in this connection, and in any one */
  #written = 0
  #everWritten = 0
  #room = 0
  #cost = 0

  constructor(first = 1, held: readonly Message[] = []) {
    this.#first = first
    for (const message of held) this.add(message)
  }

  get first(): number {
    return this.#first
  }

  get held(): readonly Message[] {
    return this.#held
  }

  /** What the held messages count. */
  get cost(): number {
    return this.#cost
  }

  /** Whether a message would be written at once. */
  hasRoomFor(message: Encoded): boolean {
    return this.#written === this.#held.length && costOf(message) <= this.#room
  }

  add(message: Message): void {
    this.#held.push(message)
    this.#cost += costOf(message)
  }

  /** The frames for which the peer has room. */
  next(): Buffer[] {
    const frames: Buffer[] = []
    for (; this.#written < this.#held.length; this.#written++) {
      const message = this.#held[this.#written] as Message
      if (costOf(message) > this.#room) break
      this.#room -= costOf(message)
      frames.push(...messageFrames(message))
    }
    this.#everWritten = Math.max(this.#everWritten, this.#written)
    return frames
  }

  /** Throws MessageFault for a message that was not written. */
  confirmed({ received, room }: Ack): void {
    if (received >= this.#first + this.#written) throw new MessageFault(`ack of ${received}, which was not sent`)
    this.#room += room
    if (this.#room > WINDOW) throw new MessageFault('room for more than a window')
    this.#drop(received - this.#first + 1)
  }

  /** Another connection: what the peer has not got is written again. `got`: how many of the held messages it has. */
  resume(received: number, room: number, got = received - this.#first + 1): void {
    this.#drop(got)
    // the numbers in between are those of a program that ran meanwhile
    this.#first = Math.max(this.#first, received + 1)
    this.#written = 0
    this.#room = room
  }

  /** The peer knows nothing of what was written: drops it, and returns how many messages that were. */
  restart(first: number, room: number): number {
    const lost = this.#everWritten
    this.#drop(lost)
    this.#first = first
    this.#written = 0
    this.#room = room
    return lost
  }

  #drop(count: number): void {
    if (count <= 0) return
    for (const message of this.#held.splice(0, count)) this.#cost -= costOf(message)
    this.#first += count
    this.#written = Math.max(0, this.#written - count)
    this.#everWritten = Math.max(0, this.#everWritten - count)
  }
}

/** The messages that have come. `confirms`: the sender may drop a message when it was `taken`, or as soon as it has `come`. */
export class Incoming {
  readonly #confirms: 'taken' | 'come'
  readonly #waiting: Encoded[] = []
  #parts: Buffer[] = []
  #partBytes = 0
  /** The kind of the message of which a part has come. */
  #partText: boolean | null = null
  #come: number
  /** number of the last message taken */
  #taken: number
  /** what the sender may still send */
  #room = WINDOW
  /** room of messages taken that the sender was not told of */
  #owed = 0
  #told: number

  constructor(confirms: 'taken' | 'come', taken = 0) {
    this.#confirms = confirms
    this.#come = this.#taken = this.#told = taken
  }

  /** number of the last message that the sender need not send again */
  get received(): number {
    return this.#confirms === 'taken' ? this.#taken : this.#come
  }

  get waits(): boolean {
    return this.#waiting.length > 0
  }

  /** Throws MessageFault for more than the room, for a message above 1 MiB, and for parts of two messages in one. */
  take({ kind, payload }: Frame): void {
    const text = kind === 'text' || kind === 'text-end'
    if (this.#partText !== null && this.#partText !== text) throw new MessageFault('two messages in one')
    this.#partBytes += payload.length
    if (this.#partBytes > MAX_MESSAGE) throw new MessageFault(`message above ${MAX_MESSAGE} bytes`)
    if (this.#partBytes + MESSAGE_COST > this.#room) throw new MessageFault('more than there is room for')
    if (payload.length === 0 && (kind === 'text' || kind === 'bytes')) throw new MessageFault('empty fragment')
    this.#parts.push(payload)
    this.#partText = text
    if (kind === 'text' || kind === 'bytes') return
    const message = { text, bytes: Buffer.concat(this.#parts) }
    this.#forgetParts()
    this.#room -= costOf(message)
    this.#come++
    this.#waiting.push(message)
  }

  next(): Encoded | undefined {
    const message = this.#waiting.shift()
    if (message === undefined) return undefined
    this.#taken++
    this.#owed += costOf(message)
    return message
  }

  /** What the sender is to be told; null: nothing new. */
  ack(): Ack | null {
    const { received } = this
    if (this.#owed === 0 && received === this.#told) return null
    const room = this.#owed
    this.#room += room
    this.#owed = 0
    this.#told = received
    return { received, room }
  }

  /** Another connection. `sent`: the number of the last message that the sender no longer holds. Returns the room. */
  resume(sent = 0): number {
    this.#forgetParts()
    if (this.#confirms === 'taken') {
      // what waits is sent again; what the sender no longer holds was taken by a program that ran in between
      this.#waiting.length = 0
      this.#come = this.#taken = Math.max(this.#taken, sent)
    } else this.#come = Math.max(this.#come, sent)
    this.#owed = 0
    this.#told = this.received
    this.#room = WINDOW - this.#waiting.reduce((sum, message) => sum + costOf(message), 0)
    return this.#room
  }

  #forgetParts(): void {
    this.#parts = []
    this.#partBytes = 0
    this.#partText = null
  }
}
