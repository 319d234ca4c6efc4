import { createCipheriv, randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { chacha20poly1305 } from '@noble/ciphers/chacha.js'
import { expect, test } from 'vitest'
import { Sealer } from '../../../../deploy/shared/channel/frame.ts'
import { Handshake, nonce, PATTERN_NAMES, type PatternName } from '../../../../deploy/shared/channel/noise.ts'
import { dh, generateKeyPair, keyPair } from '../../../../deploy/shared/channel/x25519.ts'

interface Vector {
  protocol_name: string
  init_prologue: string
  init_psks?: string[]
  init_static?: string
  init_ephemeral: string
  init_remote_static?: string
  resp_prologue: string
  resp_psks?: string[]
  resp_static?: string
  resp_ephemeral: string
  resp_remote_static?: string
  handshake_hash?: string
  messages: { payload: string; ciphertext: string }[]
}

const hex = (text: string) => Buffer.from(text, 'hex')
/** Public vectors: the folder that may lie beside the project, and the files of MEDULLA_NOISE_VECTORS, separated by `:`. */
function vectorFiles(): string[] {
  const folder = fileURLToPath(new URL('../../../../../shared/vectors/noise/', import.meta.url))
  const beside = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.json')) : []
  const named = (process.env.MEDULLA_NOISE_VECTORS ?? '').split(delimiter).filter((path) => path !== '')
  return [...beside.map((name) => join(folder, name)), ...named]
}
const files = vectorFiles()

/** The pattern of a vector, or null when the project does not offer it. */
function patternOf({ protocol_name }: Vector): PatternName | null {
  const [, name = ''] = /^Noise_(\w+?)_25519_ChaChaPoly_SHA256$/.exec(protocol_name) ?? []
  return PATTERN_NAMES.find((known) => known === name) ?? null
}

function side(vector: Vector, who: 'init' | 'resp'): Handshake {
  const own = vector[`${who}_static`]
  const remote = vector[`${who}_remote_static`]
  const psk = vector[`${who}_psks`]?.[0]
  return new Handshake({
    pattern: patternOf(vector) ?? 'IK',
    initiator: who === 'init',
    prologue: hex(vector[`${who}_prologue`]),
    ephemeral: keyPair(hex(vector[`${who}_ephemeral`])),
    ...(own && { static: keyPair(hex(own)) }),
    ...(remote && { remoteStatic: hex(remote) }),
    ...(psk && { psk: hex(psk) }),
  })
}

test.skipIf(files.length === 0)('noise vectors: S5: every public vector of our patterns is met, both ways', () => {
  const all = files.flatMap((path) => (JSON.parse(readFileSync(path, 'utf8')) as { vectors: Vector[] }).vectors)
  const vectors = all.filter((vector) => patternOf(vector) !== null)
  console.info(`noise vectors: ${vectors.length} checked, ${all.length - vectors.length} skipped: not offered`)
  expect(vectors.length).toBeGreaterThan(0)
  for (const vector of vectors) {
    const sides = [side(vector, 'init'), side(vector, 'resp')] as const
    let turn = 0
    const messages = [...vector.messages]
    while (!sides[0].done) {
      const message = messages.shift()
      if (!message) throw new Error('too few messages')
      const [writer, reader] = turn++ % 2 === 0 ? sides : [sides[1], sides[0]]
      const written = writer.write(hex(message.payload))
      expect(Buffer.from(written).toString('hex'), vector.protocol_name).toBe(message.ciphertext)
      expect(Buffer.from(reader.read(written)).toString('hex')).toBe(message.payload)
    }
    const [first, second] = [sides[0].split(), sides[1].split()]
    if (vector.handshake_hash !== undefined) expect(Buffer.from(first.hash).toString('hex')).toBe(vector.handshake_hash)
    expect(second).toEqual({ send: first.receive, receive: first.send, hash: first.hash })
    const counters = [0, 0]
    for (const message of messages) {
      const who = turn++ % 2
      const key = who === 0 ? first.send : first.receive
      const counter = counters[who] ?? 0
      counters[who] = counter + 1
      const cipher = createCipheriv('chacha20-poly1305', key, nonce(counter), { authTagLength: 16 })
      const sealed = Buffer.concat([cipher.update(hex(message.payload)), cipher.final(), cipher.getAuthTag()])
      expect(sealed.toString('hex'), `${vector.protocol_name} transport`).toBe(message.ciphertext)
    }
  }
})

test('the cipher of the handshake and the cipher of the transport give the same bytes', () => {
  for (const length of [0, 1, 15, 16, 17, 64, 1000, 65518]) {
    const key = randomBytes(32)
    const data = randomBytes(length)
    const ours = Buffer.concat(length ? new Sealer(key).data([data]) : [new Sealer(key).confirm()]).subarray(2)
    const plain = length ? Buffer.concat([Buffer.of(0), data]) : data
    expect(Buffer.compare(ours, chacha20poly1305(key, nonce(0)).encrypt(plain))).toBe(0)
  }
})

test('CHANNEL 4.2: counters become nonces of 32 zero bits and 64 little endian', () => {
  expect(nonce(1).toString('hex')).toBe('000000000100000000000000')
  expect(nonce(2 ** 32 + 2).toString('hex')).toBe('000000000200000001000000')
})

const kit = (pattern: PatternName = 'IK') => {
  const [a, b] = [generateKeyPair(), generateKeyPair()]
  const prologue = Buffer.from('p')
  return {
    a,
    b,
    init: () => new Handshake({ pattern, initiator: true, prologue, static: a, remoteStatic: b.public }),
    resp: (over: { prologue?: Buffer } = {}) =>
      new Handshake({ pattern, initiator: false, prologue, static: b, ...over }),
  }
}

test('every flipped bit of an IK message is refused, and the refusal is final', () => {
  const { init, resp } = kit()
  const writer = init()
  const message = Buffer.from(writer.write(Buffer.from('card')))
  for (let bit = 0; bit < message.length * 8; bit++) {
    const bent = Buffer.from(message)
    bent[bit >> 3] = (bent[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    const reader = resp()
    const again = () => reader.read(message)
    // the top bit of a public key is not part of it (RFC 7748 5), but it is part of the transcript
    expect(() => reader.read(bent), `bit ${bit}`).toThrow(/refused/)
    expect(again).toThrow(/not its turn/)
    expect(() => reader.split()).toThrow()
  }
  const reader = resp()
  reader.read(message)
  const answer = Buffer.from(reader.write(new Uint8Array()))
  answer[40] = (answer[40] ?? 0) ^ 1
  expect(() => writer.read(answer)).toThrow(/refused/)
})

test('another prologue, another static, a truncated or a repeated message are refused', () => {
  const { init, resp } = kit()
  const message = init().write(Buffer.from('card'))
  expect(() => resp({ prologue: Buffer.from('q') }).read(message)).toThrow(/refused/)
  expect(() => kit().resp().read(message)).toThrow(/refused/)
  for (const length of [0, 31, 32, 79, 80, 95])
    expect(() => resp().read(message.subarray(0, length))).toThrow(/refused/)
  const reader = resp()
  reader.read(message)
  expect(() => reader.read(message)).toThrow(/not its turn/)
})

test('CHANNEL 3.4: points of low order give no shared secret', () => {
  const own = generateKeyPair()
  const one = Buffer.alloc(32)
  one[0] = 1
  for (const point of [Buffer.alloc(32), one]) expect(() => dh(own, point)).toThrow()
  const { resp } = kit()
  const message = Buffer.alloc(200)
  expect(() => resp().read(message)).toThrow(/refused/)
})

test('a psk must fit its pattern, a static must be there when the pattern needs it', () => {
  const prologue = Buffer.alloc(0)
  const statics = { static: generateKeyPair(), remoteStatic: generateKeyPair().public }
  expect(() => new Handshake({ pattern: 'IKpsk2', initiator: true, prologue, ...statics })).toThrow(/psk/)
  expect(() => new Handshake({ pattern: 'IK', initiator: true, prologue, ...statics, psk: randomBytes(32) })).toThrow(
    /psk/,
  )
  expect(() => new Handshake({ pattern: 'IK', initiator: true, prologue })).toThrow(/static/)
})
