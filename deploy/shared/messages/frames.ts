/** The frames of a message channel between a laptop and a program (CHANNEL 12.3). Pure: bytes in, bytes out. */

import { MAX_INSTANCES, type Origins } from './origins.ts'

/** The longest payload of a frame. */
export const MAX_FRAME = 64 * 1024
/** The longest message. */
export const MAX_MESSAGE = 1024 * 1024
/** What a message counts beside its bytes, so that many small messages are bounded, too. */
export const MESSAGE_COST = 64
/** What may wait in the receiver of a direction: the largest message fits. */
export const WINDOW = MAX_MESSAGE + MESSAGE_COST
export const MESSAGES_TOKEN = 'medulla-channel'
export const CHANNEL_NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/

/** A program hands over 32 KiB of messages, so they are of fewer instances. */
const MAX_ORIGINS = 1024
const INSTANCE = /^[0-9a-f]{12}$/
const HEADER = 4
const KINDS = ['hello', 'welcome', 'wait', 'end', 'text', 'text-end', 'bytes', 'bytes-end', 'ack'] as const
export type FrameKind = (typeof KINDS)[number]

export interface Frame {
  kind: FrameKind
  payload: Buffer
}

/** Laptop to program, first: who it is, the number of the first message that it holds, and the last number that it has. */
export interface Hello {
  name: string
  /** 32 hex digits, drawn for each channel that a laptop opens */
  id: string
  /** It has talked with a program under this id. */
  again: boolean
  first: number
  received: number
  room: number
  /** how many messages of each program instance it has, at most MAX_INSTANCES */
  had: [instance: string, count: number][]
}

/** Program to laptop: what it has and holds. `resumed`: it goes on where this laptop's last program stopped. */
export interface Welcome {
  resumed: boolean
  first: number
  received: number
  room: number
  /** of the messages from `first` on */
  origins: Origins
}

export interface Ack {
  /** number of the last message that the receiver needs no more */
  received: number
  /** further bytes for which it has room */
  room: number
}

/** The peer sent something outside of the protocol. */
export class MessageFault extends Error {}

function frame(kind: FrameKind, payload: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER + payload.length)
  bytes.writeUInt32BE(payload.length)
  bytes[0] = KINDS.indexOf(kind) + 1
  bytes.set(payload, HEADER)
  return bytes
}

export const helloFrame = (hello: Hello): Buffer => frame('hello', Buffer.from(JSON.stringify(hello)))
export const welcomeFrame = (welcome: Welcome): Buffer => frame('welcome', Buffer.from(JSON.stringify(welcome)))
/** The program has not opened a channel of this name; `names` are those that it has. */
export const waitFrame = (names: readonly string[]): Buffer => frame('wait', Buffer.from(JSON.stringify({ names })))
/** The channel is over, as its laptop has closed it, or another one has it now. */
export const endFrame = (why: 'closed' | 'taken'): Buffer => frame('end', Buffer.from(JSON.stringify({ why })))

export function ackFrame({ received, room }: Ack): Buffer {
  const payload = Buffer.allocUnsafe(10)
  payload.writeUIntBE(received, 0, 6)
  payload.writeUInt32BE(room, 6)
  return frame('ack', payload)
}

/** A message as it is sent. */
export interface Encoded {
  readonly text: boolean
  readonly bytes: Uint8Array
}

export const costOf = ({ bytes }: Encoded): number => bytes.length + MESSAGE_COST

/** A Uint8Array is sent as it is, anything else as JSON. Throws TypeError for what JSON has not, RangeError above 1 MiB. */
export function encodeMessage(message: unknown): Encoded {
  const text = message instanceof Uint8Array ? undefined : JSON.stringify(message)
  if (!(message instanceof Uint8Array) && text === undefined) throw new TypeError(`${typeof message} is no message`)
  // a copy: the sender may change its bytes before they are sent
  const bytes = text === undefined ? Uint8Array.from(message as Uint8Array) : Buffer.from(text)
  if (bytes.length > MAX_MESSAGE)
    throw new RangeError(`a message has at most ${MAX_MESSAGE} bytes, got ${bytes.length}`)
  return { text: text !== undefined, bytes }
}

/** Throws MessageFault. */
export function decodeMessage({ text, bytes }: Encoded): unknown {
  if (!text) return bytes
  return parse(bytes)
}

export function messageFrames({ text, bytes }: Encoded): Buffer[] {
  const frames: Buffer[] = []
  const [more, last] = text ? (['text', 'text-end'] as const) : (['bytes', 'bytes-end'] as const)
  for (let at = 0; ; at += MAX_FRAME) {
    const isLast = at + MAX_FRAME >= bytes.length
    frames.push(frame(isLast ? last : more, bytes.subarray(at, at + MAX_FRAME)))
    if (isLast) return frames
  }
}

/** Splits what comes into frames; at most one frame is buffered. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0)

  /** Throws MessageFault for a frame that is too long, or of an unknown kind, before its payload has come. */
  push(chunk: Buffer): Frame[] {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    const frames: Frame[] = []
    let at = 0
    while (bytes.length - at >= HEADER) {
      const kind = KINDS[(bytes[at] as number) - 1]
      const length = bytes.readUIntBE(at + 1, 3)
      if (kind === undefined) throw new MessageFault(`frame of unknown kind ${bytes[at]}`)
      if (length > MAX_FRAME) throw new MessageFault(`frame of ${length} bytes, at most ${MAX_FRAME}`)
      if (bytes.length - at < HEADER + length) break
      frames.push({ kind, payload: bytes.subarray(at + HEADER, at + HEADER + length) })
      at += HEADER + length
    }
    // a copy, so that a few bytes do not keep a whole chunk
    this.#rest = Buffer.from(bytes.subarray(at))
    return frames
  }
}

export function parseHello({ payload }: Frame): Hello {
  const { name, id, again, had, ...numbers } = fields(payload)
  if (typeof name !== 'string' || !CHANNEL_NAME.test(name)) throw new MessageFault('hello without a name')
  if (typeof id !== 'string' || !/^[0-9a-f]{32}$/.test(id)) throw new MessageFault('hello without an id')
  const pairs = rows(had, MAX_INSTANCES).map(([instance, count]) => pair(instance, count))
  return { name, id, again: again === true, ...counts(numbers), had: pairs }
}

export function parseWelcome({ payload }: Frame): Welcome {
  const { resumed, origins, ...numbers } = fields(payload)
  const entries = rows(origins, MAX_ORIGINS).map(
    ([number, instance, nth]) => [count(number, 'number'), ...pair(instance, nth)] as const,
  )
  if (entries.some(([number], at) => number <= (entries[at - 1]?.[0] ?? 0)))
    throw new MessageFault('origins disordered')
  return { resumed: resumed === true, ...counts(numbers), origins: entries }
}

export function parseNames({ payload }: Frame): string[] {
  const { names } = fields(payload)
  if (!Array.isArray(names)) throw new MessageFault('wait without names')
  return names.slice(0, 64).filter((name): name is string => typeof name === 'string' && CHANNEL_NAME.test(name))
}

export function parseEnd({ payload }: Frame): 'closed' | 'taken' {
  return fields(payload).why === 'taken' ? 'taken' : 'closed'
}

export function parseAck({ payload }: Frame): Ack {
  if (payload.length !== 10) throw new MessageFault(`ack of ${payload.length} bytes`)
  return { received: payload.readUIntBE(0, 6), room: payload.readUInt32BE(6) }
}

function counts({ first, received, room }: Record<string, unknown>): { first: number; received: number; room: number } {
  const all = { first, received, room }
  for (const [name, value] of Object.entries(all)) count(value, name)
  if ((room as number) > WINDOW || first === 0) throw new MessageFault('impossible counts')
  return all as { first: number; received: number; room: number }
}

function count(value: unknown, name: string): number {
  if (Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 48) return value as number
  throw new MessageFault(`${name}: expected a count`)
}

/** A list of at most `max` lists. */
function rows(value: unknown, max: number): unknown[][] {
  if (!Array.isArray(value) || value.length > max || !value.every(Array.isArray))
    throw new MessageFault('expected rows')
  return value
}

function pair(instance: unknown, nth: unknown): [string, number] {
  if (typeof instance !== 'string' || !INSTANCE.test(instance)) throw new MessageFault('expected an instance')
  return [instance, count(nth, 'of an instance')]
}

function fields(payload: Uint8Array): Record<string, unknown> {
  return Object(parse(payload)) as Record<string, unknown>
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString())
  } catch {
    throw new MessageFault('expected JSON')
  }
}
