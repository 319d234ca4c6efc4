/** One message channel at the program's end, over the connections of one laptop after another. */
import { Incoming, Outgoing } from '../../deploy/shared/messages/flow.ts'
import { ackFrame, costOf, decodeMessage, encodeMessage, endFrame, type Frame, FrameReader, type Hello, MessageFault, parseAck, welcomeFrame } from '../../deploy/shared/messages/frames.ts' // biome-ignore format: one list
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

/** The laptop that has the channel. */
interface Owner {
  readonly id: string
  readonly outgoing: Outgoing
  readonly incoming: Incoming
}

type EventName = 'message' | 'open' | 'close' | 'room'

export class ChannelEnd implements Channel {
  readonly #hooks: EndHooks
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
    const held = saved?.held.map(([text, bytes]) => ({ text, bytes: Buffer.from(bytes, 'base64') }))
    this.#owner =
      saved === undefined
        ? null
        : { id: saved.id, outgoing: new Outgoing(saved.first, held), incoming: new Incoming('taken', saved.taken) }
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
    outgoing.add(encoded)
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
    const owner = resumed
      ? (before as Owner)
      : { id: hello.id, outgoing: new Outgoing(hello.received + 1), incoming: new Incoming('taken', hello.first - 1) }
    this.#owner = owner
    owner.outgoing.resume(hello.received, hello.room)
    const room = owner.incoming.resume(hello.first - 1)
    this.#socket = socket
    const { received } = owner.incoming
    this.#write([welcomeFrame({ resumed, first: owner.outgoing.first, received, room })])
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

  /** The program no longer drives the hardware. */
  park(): void {
    this.disconnect()
    this.#owner?.outgoing.park()
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
    const channel = { id, taken: incoming.received, first: outgoing.first, held, ...(lost > 0 && { lost }) }
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
