/** One message channel at the program's end, over the connections of one laptop after another. */
import { randomBytes } from 'node:crypto'
import { Incoming, Outgoing } from '../../deploy/shared/messages/flow.ts'
import { ackFrame, costOf, decodeMessage, type Encoded, encodeMessage, endFrame, type Frame, FrameReader, type Hello, MessageFault, parseAck, welcomeFrame } from '../../deploy/shared/messages/frames.ts' // biome-ignore format: one list
import { type Origin, originOf, originsOf } from '../../deploy/shared/messages/origins.ts'
import type { Channel, SavedChannel } from '../sdk/messages.ts'
import type { Connection } from './transport.ts'

/** What unconfirmed messages of all channels may count when they are handed over (CHANNEL 12.8). */
export const CARRY = 32 * 1024
/** How long messages are given in one turn of the event loop. */
const TURN_MS = 2

export interface EndHooks {
  /** Calls code of the program. */
  act(fn: () => void): void
  /** Calls `fn` in a later turn of the event loop. */
  soon(fn: () => void): void
  mayAct(): boolean
  /** Whether a message that counts so much can be handed over beside what is held. */
  mayTake(cost: number): boolean
  isClosing(): boolean
  /** The laptop has confirmed messages. */
  changed(): void
}

interface Sent extends Encoded, Origin {}

/** The laptop that has the channel. */
interface Owner {
  readonly id: string
  readonly outgoing: Outgoing<Sent>
  readonly incoming: Incoming
}

/** `first`: the number of its next message to the laptop. `taken`: that of the last one that it took. */
function newOwner(id: string, first: number, taken: number, held: readonly Sent[] = []): Owner {
  return { id, outgoing: new Outgoing(first, held), incoming: new Incoming('taken', taken) }
}

function restored({ id, first, taken, held, origins = [] }: SavedChannel): Owner {
  const sent = held.map(([text, bytes], at) => {
    const origin = originOf(origins, first + at) ?? { instance: '', nth: 1 }
    return { text, bytes: Buffer.from(bytes, 'base64'), ...origin }
  })
  return newOwner(id, first, taken, sent)
}

type EventName = 'message' | 'open' | 'close' | 'room'

export class ChannelEnd implements Channel {
  readonly #hooks: EndHooks
  readonly #instance = randomBytes(6).toString('hex')
  /** Messages of this instance. */
  #count = 0
  readonly #listeners = new Map<EventName, ((message: unknown) => void)[]>()
  #owner: Owner | null
  #socket: Connection | null = null
  #isPaused = false
  /** A send was refused, by this program or maybe by its predecessor, so `room` is due. */
  #wasFull: boolean
  #isDelivering = false

  constructor(saved: SavedChannel | undefined, hooks: EndHooks) {
    this.#hooks = hooks
    this.#wasFull = saved !== undefined
    this.#owner = saved === undefined ? null : restored(saved)
  }

  get isOpen(): boolean {
    return this.#owner !== null
  }

  /** What the messages count that the laptop has not confirmed. */
  get cost(): number {
    return this.#owner?.outgoing.cost ?? 0
  }

  on(event: EventName, listener: (message: unknown) => void): this {
    if (typeof listener !== 'function') throw new TypeError(`on(${event}): expected a function`)
    this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), listener])
    if (event === 'message') this.#deliverSoon()
    return this
  }

  send(message: unknown): boolean {
    const encoded = encodeMessage(message)
    const outgoing = this.#owner?.outgoing
    if (outgoing === undefined || !this.#hooks.mayAct()) return false
    const isWritten = this.#socket !== null && !this.#hooks.isClosing() && outgoing.hasRoomFor(encoded)
    if (!isWritten && !this.#hooks.mayTake(costOf(encoded))) {
      this.#wasFull = true
      return false
    }
    outgoing.add({ ...encoded, instance: this.#instance, nth: ++this.#count })
    this.#pump()
    return true
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    this.#deliverSoon()
  }

  /** A laptop has connected. */
  accept(socket: Connection, hello: Hello): void {
    if (socket.destroyed) return
    socket.removeAllListeners('data')
    const before = this.#owner
    const resumed = before?.id === hello.id
    // a laptop that was away while another one opened the channel does not take it back
    if (before !== null && !resumed && hello.again) return void socket.end(endFrame('taken'))
    if (before !== null && !resumed) {
      this.#socket?.end(endFrame('taken'))
      this.#over()
    } else this.disconnect()
    const owner = resumed ? (before as Owner) : newOwner(hello.id, hello.received + 1, hello.first - 1)
    this.#owner = owner
    const { outgoing } = owner
    const had = new Map(hello.had)
    const missing = outgoing.held.findIndex(({ instance, nth }) => nth > (had.get(instance) ?? 0))
    outgoing.resume(hello.received, hello.room, missing < 0 ? outgoing.held.length : missing)
    const room = owner.incoming.resume(hello.first - 1)
    this.#socket = socket
    const { received } = owner.incoming
    const { first, held } = outgoing
    const origins = originsOf(first, [...held, { instance: this.#instance, nth: this.#count + 1 }])
    this.#write([welcomeFrame({ resumed, first, received, room, origins })])
    this.#listen(socket, owner)
    this.#pump()
    if (!resumed) this.#emit('open')
    this.#hadRoom()
  }

  /** The connection ends; the laptop keeps the channel. */
  disconnect(): void {
    this.#socket?.destroy()
    this.#socket = null
  }

  /** For a successor. What counts more than `room` is left out. Null: no laptop has the channel. */
  save(room: number): { channel: SavedChannel; cost: number } | null {
    if (this.#owner === null) return null
    const { id, outgoing, incoming } = this.#owner
    const held: [boolean, string][] = []
    let cost = 0
    for (const message of outgoing.held) {
      if (cost + costOf(message) > room) break
      cost += costOf(message)
      held.push([message.text, Buffer.from(message.bytes).toString('base64')])
    }
    const lost = outgoing.held.length - held.length
    const { first } = outgoing
    const origins = originsOf(first, outgoing.held.slice(0, held.length))
    const channel = { id, taken: incoming.received, first, held, origins, ...(lost > 0 && { lost }) }
    return { channel, cost }
  }

  #listen(socket: Connection, owner: Owner): void {
    const reader = new FrameReader()
    socket.on('close', () => {
      if (this.#socket === socket) this.#socket = null
    })
    socket.on('data', (chunk: Buffer) => {
      if (this.#socket !== socket || !this.#hooks.mayAct()) return
      try {
        for (const frame of reader.push(chunk)) this.#hear(frame, owner)
      } catch (error) {
        if (!(error instanceof MessageFault)) throw error
        this.disconnect()
      }
      this.#deliver()
    })
  }

  #hear(frame: Frame, { outgoing, incoming }: Owner): void {
    switch (frame.kind) {
      case 'text':
      case 'text-end':
      case 'bytes':
      case 'bytes-end':
        return incoming.take(frame)
      case 'ack':
        outgoing.confirmed(parseAck(frame))
        this.#pump()
        this.#hooks.changed()
        return this.#hadRoom()
      case 'end':
        this.#over()
        return this.#emit('close')
      default:
        throw new MessageFault(`${frame.kind} from a laptop`)
    }
  }

  #over(): void {
    this.#owner = null
    this.#socket?.end()
    this.#socket = null
    this.#hooks.changed()
  }

  #hadRoom(): void {
    if (!this.#wasFull || this.#hooks.isClosing()) return
    this.#wasFull = false
    this.#emit('room')
  }

  #deliverSoon(): void {
    if (this.#isDelivering) return
    this.#isDelivering = true
    this.#hooks.soon(() => {
      this.#isDelivering = false
      this.#deliver()
    })
  }

  /** Gives messages to the program, for at most TURN_MS in a turn of the event loop. */
  #deliver(): void {
    const owner = this.#owner
    if (owner === null || this.#isDelivering) return
    const until = performance.now() + TURN_MS
    const { incoming } = owner
    try {
      while (!this.#isPaused && this.#hooks.mayAct() && this.#listeners.has('message') && this.#owner === owner) {
        if (incoming.waits && performance.now() > until) return this.#deliverSoon()
        const message = incoming.next()
        if (message === undefined) return
        this.#emit('message', decodeMessage(message))
      }
    } catch (error) {
      if (!(error instanceof MessageFault)) throw error
      this.disconnect()
    } finally {
      const ack = this.#socket === null ? null : incoming.ack()
      if (ack !== null) this.#write([ackFrame(ack)])
    }
  }

  #emit(event: EventName, message?: unknown): void {
    const listeners = this.#listeners.get(event)
    if (listeners === undefined) return
    this.#hooks.act(() => {
      for (const listener of listeners) listener(message)
    })
  }

  #pump(): void {
    if (this.#socket !== null) this.#write(this.#owner?.outgoing.next() ?? [])
  }

  /** Small messages of one turn share a write. */
  #write(frames: readonly Buffer[]): void {
    const socket = this.#socket
    if (socket === null || frames.length === 0) return
    if (socket.writableCorked === 0) {
      socket.cork()
      this.#hooks.soon(() => socket.uncork())
    }
    for (const frame of frames) socket.write(frame)
  }
}
