/** Headers of yamux frames: `version (1) | type (1) | flags (2) | stream (4) | length (4)`. Pure: bytes in, bytes out. */

export const HEADER_BYTES = 12
/** The window that a stream has at first, in bytes. */
export const WINDOW = 256 * 1024

export const TYPE = { data: 0, window: 1, ping: 2, goAway: 3 } as const
export const FLAG = { syn: 1, ack: 2, fin: 4, rst: 8 } as const
const ALL_FLAGS = 0xf
/** Codes of a go-away. */
export const GO_AWAY = { normal: 0, protocolError: 1 } as const

export interface Header {
  type: number
  flags: number
  /** 0 is the session */
  stream: number
  /** of the data that follows; or a change of the window, the value of a ping, the code of a go-away */
  length: number
}

export function encodeHeader({ type, flags, stream, length }: Header): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER_BYTES)
  bytes[0] = 0
  bytes[1] = type
  bytes.writeUInt16BE(flags, 2)
  bytes.writeUInt32BE(stream, 4)
  bytes.writeUInt32BE(length, 8)
  return bytes
}

/** Returns what is wrong, if the header breaks the protocol (CHANNEL 8.2). */
export function decodeHeader(bytes: Buffer): Header | string {
  const type = bytes[1] ?? 0
  const flags = bytes.readUInt16BE(2)
  const stream = bytes.readUInt32BE(4)
  if (bytes[0] !== 0) return `version ${bytes[0]} of a yamux frame`
  if (type > TYPE.goAway) return `type ${type} of a yamux frame`
  if ((flags & ~ALL_FLAGS) !== 0) return `flags ${flags} of a yamux frame`
  if ((stream === 0) !== type >= TYPE.ping) return `type ${type} of a yamux frame on stream ${stream}`
  return { type, flags, stream, length: bytes.readUInt32BE(8) }
}
