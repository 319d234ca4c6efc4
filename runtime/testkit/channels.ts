/**
 * Message channels in simulated time: the test is the laptop. Invariant: as on a robot, over swaps each message is given once and
 * in order, in both directions (CHANNEL 12; test/runtime/testkit/channels.test.ts).
 *
 * Both ends are those of a robot and a laptop. Only the network between them is simulated: everything takes 1 ms over it.
 */
import { EventEmitter } from 'node:events'
import { LaptopEnd } from '../../deploy/laptop/laptopend.ts'
import { decodeMessage, type Encoded, encodeMessage, FrameReader } from '../../deploy/shared/messages/frames.ts'
import type { Clock } from '../../drivers/clock.ts'
import { ProgramChannels } from '../messages/programchannels.ts'
import type { Connection, Transport } from '../messages/transport.ts'
import type { GateFollower, GatePort } from '../sdk/gate.ts'
import { rehearsalGate } from './rehearsals.ts'
import type { TimerOwner } from './time.ts'

/** For bytes and closed connections, in ns. More than 0: a program that sends whenever it may must not stop the time. */
const LATENCY_NS = 1_000_000n

/** Makes a call after the latency. */
type Post = (call: () => void) => void

/** One end of a simulated connection. */
class Wire extends EventEmitter implements Connection {
  destroyed = false
  /** As if it were corked always: nothing is gained by writing less often. */
  readonly writableCorked = 1
  readonly #post: Post
  #peer: Wire | null = null

  private constructor(post: Post) {
    super()
    this.#post = post
  }

  /** The two ends; each gets what comes by its own `post`. */
  static pair(...posts: [Post, Post]): [Wire, Wire] {
    const [one, other] = [new Wire(posts[0]), new Wire(posts[1])]
    one.#peer = other
    other.#peer = one
    return [one, other]
  }

  cork(): void {}
  uncork(): void {}

  write(bytes: Uint8Array): void {
    if (!this.destroyed) this.#toPeer((peer) => peer.destroyed || peer.emit('data', bytes))
  }

  end(bytes?: Uint8Array): void {
    if (bytes !== undefined) this.write(bytes)
    this.destroy()
  }

  destroy(): void {
    if (this.destroyed) return
    this.destroyed = true
    this.#post(() => this.emit('close'))
    this.#toPeer((peer) => {
      if (peer.destroyed) return
      peer.destroyed = true
      peer.emit('close')
    })
  }

  #toPeer(call: (peer: Wire) => void): void {
    const peer = this.#peer
    if (peer !== null) peer.#post(() => call(peer))
  }
}

/** The program that drives the hardware, as far as laptops reach it. */
interface Listening {
  readonly program: TimerOwner
  accept(connection: Connection): void
  /** The program's ends of connections. */
  readonly wires: Wire[]
}

/** A laptop's channel with the program. */
export class LaptopChannel {
  readonly #end: LaptopEnd
  readonly #messages: unknown[] = []
  /** Sent by the test, and not taken by the end yet. */
  readonly #unsent: Encoded[] = []
  readonly #over: () => void
  #wire: Wire | null = null
  #isOver = false
  #isPaused = false
  #lost = 0
  #others: readonly string[] | null = null

  /** Use `channel()` of a simulation. */
  constructor(name: string, over: (channel: LaptopChannel) => void) {
    this.#over = () => over(this)
    this.#end = new LaptopEnd(name, {
      open: () => {
        this.#others = null
      },
      resumed: () => {
        this.#others = null
      },
      restart: (unconfirmed) => {
        this.#lost += unconfirmed
      },
      waiting: (names) => {
        this.#others = names
      },
      taken: () => this.#close(),
    })
  }

  /** Whether a program has the channel now. */
  get isOpen(): boolean {
    return this.#end.isOpen
  }

  /** All messages of programs so far. */
  get messages(): readonly unknown[] {
    return this.#messages
  }

  /** How many sent messages no program has confirmed. */
  get unconfirmed(): number {
    return this.#unsent.length + this.#end.unconfirmed
  }

  /** How many messages were sent to programs that crashed, and may not have been taken; they are not sent again. */
  get lost(): number {
    return this.#lost
  }

  /** Names of the program's channels, if none of them is this one; else null. */
  get others(): readonly string[] | null {
    return this.#others
  }

  /** Sends a Uint8Array, or what JSON can express, of at most 1 MiB. It comes 1 ms later, or when a program has the channel. */
  send(message: unknown): void {
    if (this.#isOver) throw new Error('this channel was closed, or another one of its name was opened')
    this.#unsent.push(encodeMessage(message))
    this.#pump()
  }

  /** Takes no further message: the program is held back when a megabyte waits. */
  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    this.#take()
  }

  /** As a laptop that closes the channel: the program's `close` is called 1 ms later. */
  close(): void {
    this.#end.end()
    this.#close()
  }

  get isConnected(): boolean {
    return this.#wire !== null
  }

  /** A connection with the program that drives the hardware. */
  connect(wire: Wire): void {
    this.#wire = wire
    const reader = new FrameReader()
    wire.on('data', (chunk: Buffer) => {
      if (this.#wire !== wire) return
      for (const frame of reader.push(chunk)) this.#end.hear(frame)
      this.#pump()
      this.#take()
    })
    wire.on('close', () => {
      if (this.#wire !== wire) return
      this.#wire = null
      this.#end.disconnect()
    })
    this.#end.connect((frame) => wire.write(frame))
  }

  #close(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#end.disconnect()
    this.#wire?.destroy()
    this.#over()
  }

  #pump(): void {
    for (let [next] = this.#unsent; next !== undefined && this.#end.send(next); [next] = this.#unsent) {
      this.#unsent.shift()
    }
  }

  #take(): void {
    for (let next = this.#next(); next !== undefined; next = this.#next()) this.#messages.push(decodeMessage(next))
    this.#end.confirm()
  }

  #next(): Encoded | undefined {
    return this.#isPaused ? undefined : this.#end.next()
  }
}

/** The laptops of a simulation. */
export class Laptops {
  readonly #post: Post
  readonly #channels = new Set<LaptopChannel>()
  #listening: Listening | null = null

  constructor(clock: Clock) {
    this.#post = (call) => void clock.after(LATENCY_NS, call)
  }

  open(name: string): LaptopChannel {
    const channel = new LaptopChannel(name, (over) => this.#channels.delete(over))
    this.#channels.add(channel)
    this.#connect(channel)
    return channel
  }

  /** From now on this program drives the hardware, and accepts connections. */
  listening(program: TimerOwner, accept: Listening['accept']): void {
    // a swap that was called off before the program yielded ended no connection
    if (this.#listening?.program === program) return
    this.#listening = { program, accept, wires: [] }
    // after the last messages of the program before
    this.#post(() => {
      for (const channel of this.#channels) this.#connect(channel)
    })
  }

  /** The program no longer drives the hardware, or has ended: what it has sent still comes. */
  ended(program: TimerOwner): void {
    if (this.#listening?.program !== program) return
    for (const wire of this.#listening.wires) wire.destroy()
    this.#listening = null
  }

  #connect(channel: LaptopChannel): void {
    if (this.#listening === null || channel.isConnected) return
    const { program, accept, wires } = this.#listening
    const [near, far] = Wire.pair(this.#post, (call) => this.#post(() => program.run(call)))
    wires.push(far)
    program.run(() => accept(far))
    channel.connect(near)
  }
}

/** What a program in simulated time has of message channels. */
export function simulatedChannels(
  program: TimerOwner,
  laptops: Laptops,
  warn: (text: string) => void,
): { channels: ProgramChannels; gate: Pick<GatePort, 'open' | 'close' | 'renew'> } {
  let follower: GateFollower | null = null
  const gate = {
    get round() {
      return rehearsalGate.round
    },
    act: (fn: () => void) => program.run(fn),
    aside: (fn: () => void) => rehearsalGate.aside(fn),
    follow: (by: GateFollower) => {
      follower = by
    },
  }
  // the globals of the moment: simulated ones
  const transport: Transport = {
    listen: (connected) => laptops.listening(program, connected),
    soon: (fn) => void setImmediate(fn),
    later(ms, fn) {
      const timer = setTimeout(fn, ms)
      return () => clearTimeout(timer)
    },
  }
  const channels = new ProgramChannels(gate, transport, warn)
  return {
    channels,
    gate: {
      open: () => follower?.opened(),
      close() {
        follower?.closed()
        laptops.ended(program)
      },
      renew: () => follower?.renewed(),
    },
  }
}
