/** What a program knows of message channels with laptops (CHANNEL 12). The loader brings the rest, so that no program holds it. */

/** A channel with the laptop that has opened it by this name, one at a time. It stays open over swaps. */
export interface Channel {
  /** A laptop has the channel. It may be out of reach for a moment. */
  readonly isOpen: boolean
  /**
   * `message`: a Uint8Array, or what JSON can express; without a listener, messages wait. `open`: another laptop has the channel,
   * `close`: nobody has it. `room`: send() would take messages again.
   */
  on(event: 'message', listener: (message: unknown) => void): this
  on(event: 'open' | 'close' | 'room', listener: () => void): this
  /**
   * Sends a Uint8Array, or what JSON can express, of at most 1 MiB. False: it was not taken, because no laptop has the
   * channel, or the laptop does not keep up. What was taken comes once and in order.
   */
  send(message: unknown): boolean
  /** Messages wait until `resume`; their sender is held back when a megabyte waits. */
  pause(): void
  resume(): void
}

/** What a program hands over to its successor for the channel of a name. */
export interface SavedChannel {
  readonly id: string
  /** number of the last message that was taken */
  readonly taken: number
  /** number of the first message that the laptop has not confirmed, and these messages in base64 */
  readonly first: number
  readonly held: readonly (readonly [isText: boolean, bytes: string])[]
  /** which program instances sent these: `Origins` of deploy/shared/messages; absent: an older runtime saved them */
  readonly origins?: readonly (readonly [number: number, instance: string, nth: number])[]
  /** how many newer messages are not handed over, and so lost */
  readonly lost?: number
}
export type SavedChannels = Readonly<Record<string, SavedChannel>>

/** The loader's part, as the SDK uses it. */
export interface ChannelsPort {
  open(name: string): Channel
  /** For a stage of a rehearsal: the same code, but nobody is at the other end. Absent: an older runtime. */
  rehearsal?(): ChannelsPort
  /** For the successor, or for the predecessor after a rollback; undefined: nothing to hand over. */
  save(): SavedChannels | undefined
  restore(saved: SavedChannels | undefined): void
  /** Before a yield: resolves when what is unconfirmed can be handed over, at the latest after `ms`; null: that is so already. */
  flush?(ms: number): Promise<void> | null
}

/** In a rehearsal and in `medulla build` nobody is at the other end. */
export const inertChannel: Channel = {
  isOpen: false,
  on: () => inertChannel,
  send: () => false,
  pause() {},
  resume() {},
}
