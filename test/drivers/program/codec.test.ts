import fc from 'fast-check'
import { expect, test } from 'vitest'
import { HardwareError } from '../../../drivers/errors.ts'
import { parseJson } from '../../../drivers/json.ts'
import {
  decodeNumber,
  encodeNumber,
  encodeReply,
  encodeRequest,
  FrameError,
  KINDS,
  MAX_PAYLOAD,
  type Reply,
  ReplyReader,
  type Request,
  RequestReader,
} from '../../../drivers/program/broker/protocol.ts'
import {
  encodeWriteRecord,
  RecordReader,
  WRITE_RECORD_SIZE,
  type WriteRecord,
} from '../../../drivers/program/inherit/record.ts'

const u16 = fc.integer({ min: 0, max: 0xffff })
const u32 = fc.integer({ min: 0, max: 0xffffffff })
const payload = fc.uint8Array({ maxLength: 300 })

function bytesOf({ id, fence, ns, value }: WriteRecord): Uint8Array {
  const bytes = new Uint8Array(WRITE_RECORD_SIZE)
  encodeWriteRecord(new DataView(bytes.buffer), id, fence, ns, value)
  return bytes
}

/** Cuts `bytes` at arbitrary places. */
function pieces(bytes: Uint8Array, cuts: number[]): Uint8Array[] {
  const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b)
  return at.slice(1).map((end, index) => bytes.subarray(at[index], end))
}

const record = fc.record({ id: u16, fence: u32, ns: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), value: fc.double() })

test('HANDLES 4.1: a record is what the table says, byte for byte', () => {
  const hex = Buffer.from(bytesOf({ id: 0x0102, fence: 0x03040506, ns: 0x0708090a0b0c0d0en, value: 1 })).toString('hex')
  expect(hex).toBe('524d0201060504030e0d0c0b0a090807000000000000f03f')
})

test('HANDLES 4.3: records are decoded however the stream is cut', () => {
  fc.assert(
    fc.property(fc.array(record, { maxLength: 5 }), fc.array(fc.nat(), { maxLength: 6 }), (records, cuts) => {
      const reader = new RecordReader()
      const found: WriteRecord[] = []
      for (const piece of pieces(Buffer.concat(records.map(bytesOf)), cuts)) {
        reader.push(piece, (each) => found.push(each))
      }
      expect(found).toEqual(records)
      expect(reader.skipped).toBe(0)
    }),
  )
})

test('HANDLES 4.4: garbage is skipped up to the next magic number, and the next record is found', () => {
  const rubbish = fc.uint8Array({ maxLength: 60 }).map((bytes) => bytes.map((byte) => byte & 0x3f))
  fc.assert(
    fc.property(rubbish, record, fc.array(fc.nat(), { maxLength: 4 }), (bytes, good, cuts) => {
      const reader = new RecordReader()
      const found: WriteRecord[] = []
      for (const piece of pieces(Buffer.concat([bytes, bytesOf(good)]), cuts)) {
        reader.push(piece, (each) => found.push(each))
      }
      expect(found).toEqual([good])
      expect(reader.skipped).toBe(bytes.length)
    }),
  )
})

test('HANDLES 7.1: requests and replies are decoded however the stream is cut', () => {
  const request: fc.Arbitrary<Request> = fc.record({
    request: u32,
    id: u16,
    op: fc.nat({ max: 255 }),
    fence: u32,
    payload,
  })
  const error = fc
    .tuple(
      fc.constantFrom(...KINDS),
      fc.string({ maxLength: 80 }).map((text) => text.replaceAll('\0', '')),
    )
    .map(([kind, message]) => new HardwareError(kind, message))
  const reply: fc.Arbitrary<Reply> = fc.record({ request: u32, result: fc.oneof(payload, error) })
  const plain = ({ request, result }: Reply) => [
    request,
    result instanceof HardwareError ? [result.kind, result.message] : [...result],
  ]
  fc.assert(
    fc.property(
      fc.array(request, { maxLength: 4 }),
      fc.array(reply, { maxLength: 4 }),
      fc.array(fc.nat()),
      (a, b, cuts) => {
        const requests = new RequestReader()
        const replies = new ReplyReader()
        expect(pieces(Buffer.concat(a.map(encodeRequest)), cuts).flatMap((piece) => requests.push(piece))).toEqual(a)
        const got = pieces(Buffer.concat(b.map(encodeReply)), cuts).flatMap((piece) => replies.push(piece))
        expect(got.map(plain)).toEqual(b.map(plain))
      },
    ),
  )
})

test('HANDLES 7.2: any bytes give frames or a FrameError, and at most one frame is buffered', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 20 }), (chunks) => {
      const reader = new RequestReader()
      try {
        for (const chunk of chunks) reader.push(chunk)
      } catch (error) {
        expect(error).toBeInstanceOf(FrameError)
      }
    }),
  )
  for (const length of [0, 10, 11 + MAX_PAYLOAD + 1, 0xffff]) {
    const head = Uint8Array.from([length & 0xff, length >> 8])
    expect(() => new RequestReader().push(head)).toThrow(FrameError)
  }
  const big = { request: 1, id: 1, op: 1, fence: 1, payload: new Uint8Array(MAX_PAYLOAD + 1) }
  expect(() => encodeRequest(big)).toThrow('expected at most 4096 bytes of payload, got 4097')
})

test('fewer than 8 bytes are no number', () => {
  fc.assert(fc.property(fc.double(), (value) => void expect(decodeNumber(encodeNumber(value))).toBe(value)))
  expect(decodeNumber(new Uint8Array(7))).toBeNull()
})

test('the parser of board files accepts exactly what JSON.parse accepts', () => {
  fc.assert(fc.property(fc.json(), (text) => void expect(parseJson(text).value).toEqual(unproto(JSON.parse(text)))))
  fc.assert(
    fc.property(fc.json({ maxDepth: 2 }), fc.nat(), fc.string({ minLength: 1, maxLength: 1 }), (text, at, char) => {
      // the extensions of HANDLES 8.7: comments and trailing commas
      fc.pre(char !== ',' && char !== '/' && !/\/[/*]|,\s*[\]}]/.test(text))
      const cut = at % (text.length + 1)
      const changed = text.slice(0, cut) + char + text.slice(cut)
      const accepts = (parse: (text: string) => unknown) => {
        try {
          parse(changed)
          return true
        } catch {
          return false
        }
      }
      // only equal names are refused in addition
      if (accepts(parseJson)) expect(accepts(JSON.parse)).toBe(true)
      if (!accepts(JSON.parse)) expect(accepts(parseJson)).toBe(false)
    }),
  )
})

/** Objects without a prototype, as the parser makes them, so that `__proto__` is an ordinary key. */
function unproto(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(unproto)
  if (value === null || typeof value !== 'object') return value
  const result: Record<string, unknown> = Object.create(null)
  for (const [key, each] of Object.entries(value)) result[key] = unproto(each)
  return result
}
