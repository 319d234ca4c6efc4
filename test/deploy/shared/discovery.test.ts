import { decode, encode, type Packet } from 'dns-packet'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  type Announced,
  asksForRobots,
  encodeAnnouncement,
  mayDecode,
  readAnnouncements,
  SERVICE,
} from '../../../deploy/shared/discovery.ts'

const ARM: Announced = {
  ...{ name: 'arm.left', id: `SHA256:${'A'.repeat(43)}`, version: '0.1.0', protocol: 'medulla/2', port: 7171 },
}

const read = (packet: Packet): Announced[] => readAnnouncements(decode(encode(packet)))

/** An answer as a stranger may send it. */
function answer(texts: readonly string[], port = 7171, name = `x.${SERVICE}`): Packet {
  return {
    type: 'response',
    answers: [
      { type: 'SRV', name, data: { port, target: 'victim.local' } },
      { type: 'TXT', name, data: [...texts] },
      { type: 'A', name: 'victim.local', data: '10.9.9.9' },
    ],
  }
}
const texts = (change: Partial<Record<string, string>> = {}): string[] => {
  const { port: _, ...told } = ARM
  return Object.entries({ ...told, ...change }).map(([key, value]) => `${key}=${value}`)
}

test('CHANNEL 11.2: the record has name, id, version and protocol, and nothing else', () => {
  const packet = decode(encodeAnnouncement(ARM, '192.168.1.20'))
  expect(packet).toMatchObject({ type: 'response', flag_aa: true, questions: [] })
  const records = [...(packet.answers ?? []), ...(packet.additionals ?? [])]
  expect(records.map(({ type }) => type)).toEqual(['PTR', 'SRV', 'TXT', 'A'])
  const text = records.find(({ type }) => type === 'TXT') as { data: Buffer[] }
  expect(text.data.map(String).sort()).toEqual(texts().sort())
  expect(readAnnouncements(packet)).toEqual([ARM])
  // one label, though the name has a dot
  expect(records[0]).toMatchObject({
    name: SERVICE,
    data: expect.stringMatching(/^arm-left-[0-9a-f]{8}\._medulla\._tcp\.local$/),
  })
  expect(encodeAnnouncement({ ...ARM, name: 'a'.repeat(64) }, '192.168.1.20').length).toBeLessThan(600)
})

test('CHANNEL 11.6: answers with control characters, wrong ids, other ports or huge values are dropped', () => {
  expect(read(answer(texts()))).toEqual([ARM])
  const wrong: readonly (readonly [Partial<Record<string, string>>, number?])[] = [
    [{ name: '\x1b[2Jarm' }],
    [{ name: 'arm\nmedulla: error' }],
    [{ name: '\u202earm' }],
    [{ name: 'Arm' }],
    [{ name: '' }],
    [{ name: 'a'.repeat(65) }],
    [{ id: 'SHA256:short' }],
    [{ id: `SHA256:${'\x07'.repeat(43)}` }],
    [{ version: '1.0\x1b]0;title\x07' }],
    [{ version: '9'.repeat(200) }],
    [{ protocol: 'http/1' }],
    [{}, 0],
  ]
  for (const [change, port] of wrong) expect(read(answer(texts(change), port)), JSON.stringify(change)).toEqual([])
  expect(read(answer(texts(), 7171, 'x._other._tcp.local'))).toEqual([])
  expect(read(answer([]))).toEqual([])
  // a robot cannot hide behind a thousand records
  const { answers = [] } = answer(texts())
  const many = Array.from(
    { length: 1000 },
    () => ({ type: 'TXT', name: 'other.local', data: 'x'.repeat(200) }) as const,
  )
  expect(readAnnouncements({ answers: [...many, ...answers] })).toEqual([])
})

test('a question for robots is told from others, and from an answer, however it is written', () => {
  const question = (name: string, type: 'PTR' | 'SRV' | 'A' = 'PTR') =>
    encode({ type: 'query', questions: [{ type, name }] })
  expect(asksForRobots(question(SERVICE))).toBe(true)
  expect(asksForRobots(question('_MEDULLA._tcp.local'))).toBe(true)
  expect(asksForRobots(question(`arm.${SERVICE}`, 'SRV'))).toBe(true)
  expect(asksForRobots(question(SERVICE, 'A'))).toBe(false)
  expect(asksForRobots(question('_http._tcp.local'))).toBe(false)
  expect(asksForRobots(encodeAnnouncement(ARM, '192.168.1.20'))).toBe(false)
  const huge = Buffer.concat([question(SERVICE), Buffer.alloc(9000)])
  expect(asksForRobots(huge)).toBe(false)
  // it claims 65,535 questions
  const many = question(SERVICE)
  many.writeUInt16BE(0xffff, 4)
  expect(asksForRobots(many)).toBe(false)
})

test('no bytes make the reader of questions throw', () => {
  const asked = encode({ type: 'query', questions: [{ type: 'PTR', name: SERVICE }] })
  const bent = fc.tuple(fc.nat(asked.length - 1), fc.nat(255)).map(([at, byte]) => {
    const copy = Buffer.from(asked)
    copy[at] = byte
    return copy
  })
  const any = fc
    .uint8Array({ maxLength: 300 })
    .map((bytes) => Buffer.concat([asked.subarray(0, 12), Buffer.from(bytes), asked]))
  fc.assert(
    fc.property(fc.oneof(bent, any), (bytes) => typeof asksForRobots(bytes) === 'boolean'),
    { numRuns: 2000 },
  )
})

/** About robots: a record whose data are pointers, each at the one before, and `names` records whose names begin at the last one. */
function chain(pointers: number, names: number, type: 'query' | 'response'): Buffer {
  const first = encode({ type, questions: [{ type: 'PTR', name: SERVICE }] })
  const record = (name: Buffer, data: Buffer) => {
    const fixed = Buffer.from([0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0]) // a type that is not decoded
    fixed.writeUInt16BE(data.length, 8)
    return Buffer.concat([name, fixed, data])
  }
  const at = first.length + 11
  const targets = Array.from({ length: pointers }, (_, n) => (n === 0 ? 12 : at + 2 * (n - 1)))
  const pointer = (target: number) => Buffer.from([0xc0 | (target >> 8), target & 0xff])
  const last = pointer(at + 2 * (pointers - 1))
  const records = Array.from({ length: names }, () => record(last, Buffer.alloc(0)))
  const packet = Buffer.concat([first, record(Buffer.of(0), Buffer.concat(targets.map(pointer))), ...records])
  packet.writeUInt16BE(names + 1, 6)
  return packet
}

test('CHANNEL 11.5: a packet that takes long to decode is dropped by robot and laptop before it is decoded', () => {
  for (const type of ['query', 'response'] as const) {
    expect(decode(chain(1000, 60, type)).answers?.at(-1)?.name).toBe(SERVICE)
    expect(mayDecode(chain(60, 4, type))).toBe(true)
    expect(mayDecode(chain(62, 4, type))).toBe(false)
    expect(mayDecode(chain(4000, 60, type))).toBe(false)
    expect(mayDecode(Buffer.concat([chain(3, 3, type), Buffer.alloc(9000)]))).toBe(false)
    expect(mayDecode(chain(3, 64, type))).toBe(false)
  }
  expect(asksForRobots(chain(60, 4, 'query'))).toBe(true)
  expect(asksForRobots(chain(4000, 60, 'query'))).toBe(false)
  // a pointer at itself, and one that leads further on
  for (const target of [12, 14]) {
    const loop = Buffer.concat([encode({ type: 'query' }), Buffer.from([0xc0, target, 0xc0, 12, 0, 12, 0, 1])])
    loop.writeUInt16BE(1, 4)
    expect(asksForRobots(Buffer.concat([loop, Buffer.from('\x08_medulla\x04_tcp\x05local\0', 'latin1')]))).toBe(false)
  }
  expect(mayDecode(encodeAnnouncement(ARM, '192.192.192.192'))).toBe(true)
  expect(mayDecode(Buffer.alloc(11))).toBe(false)
})
