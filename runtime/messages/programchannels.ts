/**
 * A program's message channels. Invariant: a channel acts only while its program drives the hardware, and takes a bounded share of
 * memory and of each turn of the event loop (CHANNEL 12.6, 12.7; test/e2e/messages.test.ts).
 *
 * Installed by the loader, like the gate, or by a simulation.
 */
import { CHANNEL_NAME, FrameReader, type Hello, MessageFault, parseHello, waitFrame } from '../../deploy/shared/messages/frames.ts' // biome-ignore format: one list
import type { GateFollower } from '../sdk/gate.ts'
import {
  type Channel,
  type ChannelsPort,
  inertChannel,
  type SavedChannel,
  type SavedChannels,
} from '../sdk/messages.ts'
import { CARRY, ChannelEnd } from './channelend.ts'
import type { Connection, Transport } from './transport.ts'

/** Channels of a program. */
const MAX_CHANNELS = 16
/** Connections that wait for a channel, or have not said which one. */
const MAX_WAITING = 16
/** ms until a connection must have said which channel it wants. */
const HELLO_MS = 10_000

/** The part of the effects gate that channels use. */
export interface ChannelGate {
  readonly round: unknown
  act(fn: () => void): void
  aside(fn: () => void): void
  follow(follower: GateFollower): void
}

export class ProgramChannels implements ChannelsPort {
  readonly #gate: ChannelGate
  readonly #transport: Transport | null
  readonly #channels = new Map<string, ChannelEnd>()
  /** Handed over by the predecessor, and not opened by this program yet. */
  #saved = new Map<string, SavedChannel>()
  /** Connections without a channel, oldest first; null: it has not said which one it wants. */
  readonly #waiting = new Map<Connection, Hello | null>()
  #isLive = false
  /** The program is to yield: what cannot be handed over is not taken. */
  #isClosing = false
  #flushed: (() => void) | null = null

  readonly #warn: (text: string) => void

  /** `transport` null: this robot has no message channels. `warn` writes to the slot's log. */
  constructor(gate: ChannelGate, transport: Transport | null, warn: (text: string) => void) {
    this.#gate = gate
    this.#transport = transport
    this.#warn = warn
    gate.follow({
      opened: () => this.#opened(),
      closed: () => this.#closed(),
      renewed: () => this.#renewed(),
    })
  }

  rehearsal(): ChannelsPort {
    return new RehearsalChannels()
  }

  open(name: string): Channel {
    const transport = this.#transport
    if (!CHANNEL_NAME.test(name)) throw new TypeError(`channel: expected a name like tune, got ${String(name)}`)
    if (this.#gate.round !== undefined || transport === null) return inertChannel
    const known = this.#channels.get(name)
    if (known !== undefined) return known
    if (this.#channels.size >= MAX_CHANNELS) throw new RangeError(`a program has at most ${MAX_CHANNELS} channels`)
    const channel = new ChannelEnd(this.#saved.get(name), {
      act: (fn) => this.#gate.act(fn),
      soon: (fn) => transport.soon(fn),
      // the callbacks of a rehearsal, or of a run that is over, reach no laptop
      mayAct: () => this.#isLive && this.#gate.round === undefined,
      mayTake: (cost) => this.#cost + cost <= CARRY,
      isClosing: () => this.#isClosing,
      changed: () => {
        if (this.#isClosing && this.#cost <= CARRY) this.#flushed?.()
      },
    })
    this.#saved.delete(name)
    this.#channels.set(name, channel)
    for (const [socket, hello] of this.#waiting) {
      if (hello?.name !== name) continue
      this.#waiting.delete(socket)
      this.#soon(() => this.#isLive && channel.accept(socket, hello))
    }
    return channel
  }

  save(): SavedChannels | undefined {
    const all: Record<string, SavedChannel> = Object.fromEntries(this.#saved)
    let room = CARRY
    for (const [name, channel] of this.#channels) {
      const saved = channel.save(room)
      if (saved === null) continue
      room -= saved.cost
      all[name] = saved.channel
    }
    return Object.keys(all).length === 0 ? undefined : all
  }

  restore(saved: SavedChannels | undefined): void {
    this.#saved = new Map(Object.entries(saved ?? {}).slice(0, MAX_CHANNELS))
    for (const [name, { lost = 0 }] of this.#saved) {
      if (lost === 0) continue
      const text = `channel ${name}: the swap lost ${lost} messages to the laptop, which had not confirmed them in time`
      this.#soon(() => this.#warn(text))
    }
  }

  /**
   * A yield is near: resolves when what laptops have not confirmed can be handed over, at the latest after `ms`; null when this
   * is so already.
   */
  flush(ms: number): Promise<void> | null {
    this.#isClosing = true
    if (this.#cost <= CARRY) return null
    return new Promise((resolve) => {
      this.#flushed = resolve
      this.#transport?.later(ms, resolve)
    })
  }

  get #cost(): number {
    let cost = 0
    for (const channel of this.#channels.values()) cost += channel.cost
    return cost
  }

  #opened(): void {
    this.#isLive = true
    this.#isClosing = false
    this.#flushed = null
    // in a turn of its own: never in the gap
    this.#soon(() => this.#isLive && this.#transport?.listen((socket) => this.#connected(socket), MAX_WAITING))
  }

  #closed(): void {
    this.#isLive = false
    for (const channel of this.#channels.values()) channel.disconnect()
    for (const socket of this.#waiting.keys()) socket.destroy()
  }

  /** `run` is called anew in this process: it opens its channels anew. */
  #renewed(): void {
    for (const [name, channel] of this.#channels) {
      channel.disconnect()
      const saved = channel.save(CARRY)
      if (saved !== null) this.#saved.set(name, saved.channel)
    }
    this.#channels.clear()
  }

  /** In a later turn of the event loop, outside of any rehearsal. */
  #soon(fn: () => void): void {
    this.#gate.aside(() => this.#transport?.soon(fn))
  }

  #connected(socket: Connection): void {
    socket.on('error', () => {}) // `close` follows
    if (!this.#isLive) return void socket.destroy()
    const reader = new FrameReader()
    this.#wait(socket, null)
    const cancel = this.#transport?.later(HELLO_MS, () => this.#waiting.get(socket) === null && socket.destroy())
    socket.once('close', () => {
      cancel?.()
      this.#waiting.delete(socket)
    })
    socket.on('data', (chunk: Buffer) => {
      try {
        const frames = reader.push(chunk)
        const [hello] = frames
        if (hello === undefined) return
        if (hello.kind !== 'hello' || frames.length > 1) throw new MessageFault('expected hello')
        socket.removeAllListeners('data')
        this.#hello(socket, parseHello(hello))
      } catch {
        socket.destroy()
      }
    })
  }

  #hello(socket: Connection, hello: Hello): void {
    this.#waiting.delete(socket)
    const channel = this.#channels.get(hello.name)
    if (channel !== undefined) return channel.accept(socket, hello)
    this.#wait(socket, hello)
    // more before the channel is there is outside of the protocol
    socket.on('data', () => socket.destroy())
    socket.write(waitFrame([...this.#channels.keys()]))
  }

  #wait(socket: Connection, hello: Hello | null): void {
    this.#waiting.set(socket, hello)
    if (this.#waiting.size <= MAX_WAITING) return
    const [oldest] = this.#waiting.keys()
    oldest?.destroy()
  }
}

const nothing = (): void => {}
const NO_GATE: ChannelGate = { round: undefined, act: nothing, aside: nothing, follow: nothing }
const NO_TRANSPORT: Transport = { listen: nothing, soon: nothing, later: () => nothing }
/** What a laptop that does not exist has left with the predecessor. */
const LEFT: SavedChannel = {
  id: '00'.repeat(16),
  taken: 1,
  first: 1,
  held: [[true, 'MQ==']],
  origins: [[1, '00'.repeat(6), 1]],
}

/**
 * The channels of a stage in a rehearsal: the code that opens, saves and restores them in the gap runs, and is compiled, for
 * a laptop that does not exist. The program gets an inert channel.
 */
class RehearsalChannels extends ProgramChannels {
  constructor() {
    super(NO_GATE, NO_TRANSPORT, nothing)
  }

  override open(name: string): Channel {
    this.restore({ [name]: LEFT })
    super.open(name)
    return inertChannel
  }
}
