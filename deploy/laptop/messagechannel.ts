/**
 * A message channel with a program, at the laptop's end. Invariant: over swaps and lost sessions each message is given once and
 * in order, in both directions (CHANNEL 12; test/e2e/messages.test.ts).
 */
import { EventEmitter } from 'node:events'
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { Refusal, type RefusalCode } from '../shared/errors.ts'
import { decodeMessage, type Encoded, encodeMessage, FrameReader, MESSAGES_TOKEN, MessageFault } from '../shared/messages/frames.ts' // biome-ignore format: one list
import { isLost, pauseBefore } from './following.ts'
import { LaptopEnd } from './laptopend.ts'

/** The program does not run, or is being replaced: the channel waits for it. */
const WAITS: readonly RefusalCode[] = ['not-running', 'in-progress', 'body-away']

/** Asks the robot for a stream that speaks another protocol. */
type Upgrade = (token: string, signal: AbortSignal) => Promise<Duplex>

interface Events {
  /** A program has the channel: the first one, and another one after a crash or a restart. Not after a swap. */
  open: []
  message: [message: unknown]
  /** The channel goes on after a swap or a lost session. */
  resumed: []
  /**
   * The program has ended without handing over, and another one has the channel. `unconfirmed` messages were sent to the one that
   * ended: whether it got them is not known, and they are not sent again.
   */
  restart: [{ unconfirmed: number }]
  /** The program that runs has no channel of this name, but these. The channel waits until it has. */
  waiting: [names: string[]]
  /** The channel is over: by close(), or for this reason. */
  close: [reason: Refusal | null]
}

export class RobotChannel extends EventEmitter<Events> {
  readonly name: string
  readonly #connect: (signal: AbortSignal) => Promise<Duplex>
  readonly #end: LaptopEnd
  /** Sends that wait for room, in order. */
  readonly #sends: { message: Encoded; taken: () => void }[] = []
  /** Called at the next change: loops that wait for a message, closes that wait for the last confirmation. */
  #waiters: (() => void)[] = []
  readonly #abort = new AbortController()
  #stream: Duplex | null = null
  #isPaused = false
  #reason: Refusal | null | undefined

  private constructor(name: string, upgrade: Upgrade) {
    super()
    this.name = name
    this.#connect = (signal) => upgrade(MESSAGES_TOKEN, signal)
    this.#end = new LaptopEnd(name, {
      open: () => this.emit('open'),
      resumed: () => this.emit('resumed'),
      restart: (unconfirmed) => this.emit('restart', { unconfirmed }),
      waiting: (names) => this.emit('waiting', names),
      taken: () =>
        this.#over(
          new Refusal('in-progress', `another laptop has opened channel ${name}`, 'one at a time has a channel'),
        ),
    })
    // messages that came before the first listener
    super.on(
      'newListener' as never,
      ((event: unknown) => {
        if (event === 'message') setImmediate(() => this.#deliver())
      }) as never,
    )
  }

  /**
   * Opens a channel. Throws Refusal when the robot refuses it, or does not answer; a program that does not run yet, or has not
   * opened the channel, is waited for afterwards, and gets what was sent meanwhile.
   */
  static async open(name: string, upgrade: Upgrade): Promise<RobotChannel> {
    const channel = new RobotChannel(name, upgrade)
    const first = await channel.#connect(channel.#abort.signal).catch((error) => {
      if (error instanceof Refusal && WAITS.includes(error.code)) return null
      throw error
    })
    void channel.#run(first)
    return channel
  }

  /** Whether a program has the channel now. */
  get isOpen(): boolean {
    return this.#end.isOpen
  }

  /** How many messages the program has not confirmed. */
  get unconfirmed(): number {
    return this.#sends.length + this.#end.unconfirmed
  }

  /**
   * Sends a Uint8Array, or what JSON can express, of at most 1 MiB. Resolves when there is room for the next one: `await` it, and a
   * slow or paused program holds this end back. Throws TypeError or RangeError for what is no message, Refusal when the
   * channel is over.
   */
  async send(message: unknown): Promise<void> {
    const encoded = encodeMessage(message)
    this.#check()
    await new Promise<void>((taken) => {
      this.#sends.push({ message: encoded, taken })
      this.#pump()
    })
    this.#check()
  }

  /** No further message is given to listeners and loops. The program is held back when a megabyte waits. */
  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    setImmediate(() => this.#deliver())
  }

  /** Ends the channel once the program has confirmed all messages, or at once with `now`. */
  async close({ now = false }: { now?: boolean } = {}): Promise<void> {
    while (!now && this.#reason === undefined && this.unconfirmed > 0) await this.#change()
    this.#over(null)
  }

  /** The messages, until the channel is over; throws the reason if it was not closed here. Without a listener for `message`. */
  async *[Symbol.asyncIterator](): AsyncGenerator<unknown, void> {
    for (;;) {
      const message = this.#isPaused ? undefined : this.#end.next()
      if (message !== undefined) {
        this.#end.confirm()
        yield decodeMessage(message)
      } else if (this.#reason === undefined) await this.#change()
      else if (this.#reason === null) return
      else throw this.#reason
    }
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve))
  }

  #changed(): void {
    for (const waiter of this.#waiters.splice(0)) waiter()
  }

  #check(): void {
    if (this.#reason === undefined) return
    throw this.#reason ?? new Refusal('interrupted', `the channel ${this.name} was closed`)
  }

  async #run(first: Duplex | null): Promise<void> {
    const { signal } = this.#abort
    let stream = first
    for (let attempt = 0; !signal.aborted; ) {
      try {
        stream ??= await this.#connect(signal)
        if (await this.#talk(stream)) attempt = 0
      } catch (error) {
        if (signal.aborted) return
        const waits = isLost(error) || (error instanceof Refusal && WAITS.includes(error.code))
        // a robot that was just restarted may not have the slot yet
        const isEarly = this.#end.wasOpen && error instanceof Refusal && error.code === 'not-found'
        if (!waits && !isEarly) return this.#over(error as Refusal)
      }
      stream = null
      // in a swap the next program is there within a moment
      await sleep(Math.min(5 * 2 ** attempt, pauseBefore(attempt++)), undefined, { signal }).catch(() => {})
    }
  }

  /** Talks until the connection ends. Returns whether a program has answered. */
  async #talk(stream: Duplex): Promise<boolean> {
    const reader = new FrameReader()
    this.#stream = stream
    stream.on('error', () => {}) // `close` follows
    this.#end.connect((frame) => stream.write(frame))
    stream.on('data', (chunk: Buffer) => {
      if (this.#stream !== stream) return
      try {
        for (const frame of reader.push(chunk)) this.#end.hear(frame)
        this.#pump()
        this.#deliver()
      } catch (error) {
        this.#broken(error)
      }
    })
    if (!stream.destroyed) {
      await new Promise<void>((resolve) => {
        stream.once('close', resolve).once('end', resolve)
      })
    }
    const answered = this.#end.isOpen
    this.#end.disconnect()
    this.#stream = null
    stream.destroy()
    return answered
  }

  #deliver(): void {
    try {
      while (!this.#isPaused && this.#reason === undefined && this.listenerCount('message') > 0) {
        const message = this.#end.next()
        if (message === undefined) break
        const value = decodeMessage(message)
        this.emit('message', value)
      }
    } catch (error) {
      this.#broken(error)
    }
    this.#end.confirm()
    this.#changed()
  }

  /** A program, or an endpoint, that does not keep to the protocol. */
  #broken(error: unknown): void {
    if (!(error instanceof MessageFault)) throw error
    this.#over(new Refusal('internal', `channel ${this.name}: ${error.message}`))
  }

  #pump(): void {
    for (let [send] = this.#sends; send !== undefined && this.#end.send(send.message); [send] = this.#sends) {
      this.#sends.shift()
      send.taken()
    }
    this.#changed()
  }

  #over(reason: Refusal | null): void {
    if (this.#reason !== undefined) return
    this.#reason = reason
    if (reason === null && this.#end.isOpen) {
      this.#end.end()
      this.#stream?.end()
    } else this.#stream?.destroy()
    this.#abort.abort()
    for (const { taken } of this.#sends.splice(0)) taken()
    this.#changed()
    this.emit('close', reason)
  }
}
