/**
 * How robots are found: multicast DNS (RFC 6762) with DNS-SD (RFC 6763). Bytes in, bytes out. Invariant: nothing of a packet of
 * strangers is passed on but texts of the patterns below (CHANNEL 11.6; test/deploy/shared/discovery.test.ts).
 */
import { createHash } from 'node:crypto'
import { AUTHORITATIVE_ANSWER, decode, encode, type Packet } from 'dns-packet'
import type { Greeting } from './api.ts'
import { NAME_PATTERN } from './names.ts'

export const MDNS = { group: '224.0.0.251', port: 5353 } as const
export const SERVICE = '_medulla._tcp.local'

/** What a robot says of itself: the greeting that it gives to strangers anyway (CHANNEL 2.1), and its port. */
export interface Announced extends Pick<Greeting, 'name' | 'id' | 'version'> {
  protocol: string
  port: number
}

/** Lifetime of the records in s: that of RFC 6762 10 for records with a host. */
const TTL = 120
/** RFC 6762 17: a packet fits into one Ethernet frame, or is of 9,000 bytes at most. */
const MAX_PACKET = 9000
/** Most records of a packet that is read; a robot sends four. */
const MAX_RECORDS = 64
/** Pointers of a packet that may point at another pointer, although RFC 1035 4.1.4 gives no reason for one. */
const MAX_CHAIN = 64
/** The labels of {@link SERVICE} as they are in a packet that is not compressed; the first use of a name never is. */
const SERVICE_LABELS = '\x08_medulla\x04_tcp\x05local'

const ID = /^SHA256:[A-Za-z0-9+/]{43}$/
const VERSION = /^[0-9A-Za-z][0-9A-Za-z.+-]{0,31}$/
const ANNOUNCED_PROTOCOL = /^medulla\/\d{1,9}$/

/** The robot's own packet; `address`: the one of the interface on which it is sent. */
export function encodeAnnouncement({ port, ...told }: Announced, address: string): Buffer {
  const tag = createHash('sha256').update(told.id).digest('hex').slice(0, 8)
  // unique by the id, so that two robots of one name need not argue about it (RFC 6762 9)
  const instance = `${told.name.replaceAll('.', '-').slice(0, 48)}-${tag}.${SERVICE}`
  const target = `medulla-${tag}.local`
  const data = Object.entries(told).map(([key, value]) => `${key}=${value}`)
  const own = { ttl: TTL, class: 'IN', flush: true } as const
  return encode({
    type: 'response',
    flags: AUTHORITATIVE_ANSWER,
    answers: [{ type: 'PTR', name: SERVICE, ttl: TTL, class: 'IN', data: instance }],
    additionals: [
      { ...own, type: 'SRV', name: instance, data: { port, target, priority: 0, weight: 0 } },
      { ...own, type: 'TXT', name: instance, data },
      { ...own, type: 'A', name: target, data: address },
    ],
  })
}

/** Whether a packet asks for robots. Looks at the bytes first: most packets of a network ask for something else. */
export function asksForRobots(packet: Buffer): boolean {
  if (!mayDecode(packet) || ((packet[2] ?? 0) & 0x80) !== 0) return false
  // Without the answers that the sender knows already: nothing in them matters here.
  const asked = Buffer.from(packet).fill(0, 6, 12)
  try {
    const { questions = [] } = decode(asked)
    return questions.some(({ type, name }: { type: string; name: string }) => {
      const wanted = name.toLowerCase()
      return (wanted === SERVICE && (type === 'PTR' || type === 'ANY')) || wanted.endsWith(`.${SERVICE}`)
    })
  } catch {
    return false
  }
}

/**
 * Whether a packet is about robots, and costs little to decode: dns-packet makes arrays as long as the packet says, and follows every
 * pointer again for every name.
 */
export function mayDecode(packet: Buffer): boolean {
  if (packet.length < 12 || packet.length > MAX_PACKET) return false
  if ([4, 6, 8, 10].some((at) => packet.readUInt16BE(at) > MAX_RECORDS)) return false
  return packet.toString('latin1').toLowerCase().includes(SERVICE_LABELS) && !hasLongChain(packet)
}

/**
 * Whether more pointers point at a pointer than an honest sender writes. A name is at most 255 bytes long, so only such pointers
 * make a chain of thousands.
 */
function hasLongChain(packet: Buffer): boolean {
  const isPointer = (at: number) => (packet[at] ?? 0) >= 0xc0
  let left = MAX_CHAIN
  for (let at = 12; at + 1 < packet.length; at++) {
    if (isPointer(at) && isPointer(packet.readUInt16BE(at) & 0x3fff) && left-- === 0) return true
  }
  return false
}

/** The robots that an answer announces whole: with SRV and TXT record. Everything else in it is dropped. */
export function readAnnouncements({
  answers = [],
  additionals = [],
}: Pick<Packet, 'answers' | 'additionals'>): Announced[] {
  const records = [...answers, ...additionals].slice(0, MAX_RECORDS)
  return records.flatMap((record) => {
    if (record.type !== 'SRV' || !record.name.toLowerCase().endsWith(`.${SERVICE}`)) return []
    const text = records.find(({ type, name }) => type === 'TXT' && name === record.name)
    const robot = text?.type === 'TXT' ? robotOf(text.data, record.data.port) : null
    return robot === null ? [] : [robot]
  })
}

/** Null for values that no robot has. */
function robotOf(data: string | Buffer | readonly (string | Buffer)[], port: number): Announced | null {
  const texts = (Array.isArray(data) ? data : [data]).slice(0, MAX_RECORDS).map(String)
  const value = (key: string) => texts.find((text) => text.startsWith(`${key}=`))?.slice(key.length + 1) ?? ''
  const [name, id, version, protocol] = ['name', 'id', 'version', 'protocol'].map(value) as [
    string,
    string,
    string,
    string,
  ]
  const isRobot = NAME_PATTERN.test(name) && ID.test(id) && VERSION.test(version) && ANNOUNCED_PROTOCOL.test(protocol)
  return isRobot && port > 0 && port <= 65535 ? { name, id, version, protocol, port } : null
}
