/** Keys are renewed in a session, and a lost peer is noticed. The clock of the sessions is a fake one; the sockets are real. */
import crypto from 'node:crypto'
import { readFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { setImmediate as turn } from 'node:timers/promises'
import { chacha20poly1305 } from '@noble/ciphers/chacha.js'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { connectSession } from '../../../../deploy/shared/channel/connect.ts'
import { Deframer, FRAME_LIMITS, Opener, Sealer } from '../../../../deploy/shared/channel/frame.ts'
import { SecureSocket } from '../../../../deploy/shared/channel/index.ts'
import { nonce } from '../../../../deploy/shared/channel/noise.ts'
import { eventually } from '../../../e2e/eventually.ts'
import {
  closed,
  collect,
  connectOptions,
  makeOperator,
  memoryPipe,
  OPERATOR,
  openPair,
  startRobot,
  tapWire,
} from './peers.ts'

const cleanups: (() => unknown)[] = []
beforeEach(() => void vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] }))
afterEach(async () => {
  vi.useRealTimers()
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const ann = makeOperator()
const KEY = Buffer.alloc(32, 1)
const MAX_NONCE = Buffer.concat([Buffer.alloc(4), Buffer.alloc(8, 0xff)])
const length = (parts: Buffer[]) => parts.reduce((sum, part) => sum + part.length, 0)

interface Use {
  key: string
  nonce: string
  at: number
}

/** All uses of keys by transport frames and by Rekey(), with the second of the fake clock. */
async function logKeys(run: (pass: (ms: number) => void) => Promise<void>): Promise<Use[]> {
  const log: Use[] = []
  let now = 0
  const original = crypto.createCipheriv
  crypto.createCipheriv = ((name: string, key: Buffer, iv: Buffer, options: object) => {
    if (name === 'chacha20-poly1305')
      log.push({ key: Buffer.from(key).toString('hex'), nonce: Buffer.from(iv).toString('hex'), at: now })
    return original(name as 'chacha20-poly1305', key, iv, options as { authTagLength: number })
  }) as typeof crypto.createCipheriv
  syncBuiltinESMExports()
  try {
    await run((ms) => {
      now += ms / 1000
      vi.advanceTimersByTime(ms)
    })
  } finally {
    crypto.createCipheriv = original
    syncBuiltinESMExports()
  }
  return log
}

function frames(bytes: Buffer): Buffer[] {
  const found: Buffer[] = []
  const rest = new Deframer().push(bytes, (frame) => found.push(Buffer.from(frame)) > 0)
  expect(rest).toHaveLength(0)
  return found
}

async function pair(more: Parameters<typeof startRobot>[1] = {}) {
  const robot = await startRobot([ann], more)
  cleanups.push(robot.close)
  const wire = await tapWire(robot.port)
  cleanups.push(wire.close)
  return { ...(await openPair({ ...robot, port: wire.port }, ann)), robot, wire }
}

test.each([true, false])(
  'CHANNEL 4.8: S7: both directions get a new key each minute, busy: %s, and no byte is lost',
  async (busy) => {
    const log = await logKeys(async (pass) => {
      const { laptop, server } = await pair()
      const up = collect(server)
      const down = collect(laptop)
      const sent: Buffer[] = []
      for (let beat = 0; beat < 40; beat++) {
        // bytes are under way on both sides of each renewal
        const chunks = busy ? [crypto.randomBytes(200_000), crypto.randomBytes(10)] : []
        for (const chunk of chunks) laptop.write(chunk)
        for (const chunk of chunks) server.write(chunk)
        sent.push(...chunks)
        pass(15_000)
        await eventually(() => length(up) === length(sent) && length(down) === length(sent))
        await turn()
      }
      expect(Buffer.concat(up).equals(Buffer.concat(sent))).toBe(true)
      expect(Buffer.concat(down).equals(Buffer.concat(sent))).toBe(true)
      expect([laptop.destroyed, server.destroyed]).toEqual([false, false])
    })
    const ages = new Map<string, number[]>()
    for (const { key, at } of log) ages.set(key, [...(ages.get(key) ?? []), at])
    expect(ages.size).toBe(2 * 11) // ten renewals in each direction
    for (const times of ages.values()) expect(Math.max(...times) - Math.min(...times)).toBeLessThanOrEqual(60)
  },
)

test('CHANNEL 4.2, 4.8: S8: no nonce is used twice over renewals, with a key or in a direction', async () => {
  const log = await logKeys(async (pass) => {
    const { laptop, server } = await pair()
    const up = collect(server)
    for (let i = 0; i < 100; i++) {
      laptop.write(Buffer.alloc(i))
      pass(7_000)
      await turn()
    }
    await eventually(() => length(up) === (99 * 100) / 2)
  })
  const inFrames = log.filter((use) => use.nonce !== MAX_NONCE.toString('hex'))
  expect(log.length - inFrames.length).toBe(4 * 11) // Rekey() by two ends, for two directions, in 700 s
  const uses = inFrames.map((use) => `${use.key} ${use.nonce}`)
  expect(new Set(uses).size).toBe(uses.length)
  // the counter goes on: no nonce comes more often than there are directions
  const counts = new Map<string, number>()
  for (const use of inFrames) counts.set(use.nonce, (counts.get(use.nonce) ?? 0) + 1)
  expect(Math.max(...counts.values())).toBe(2)
})

test('CHANNEL 4.8: S7: a key is renewed before 2^20 frames or 4 GiB, and a peer that does not renew is refused', () => {
  expect(FRAME_LIMITS).toEqual({ total: 2 ** 48, frames: 2 ** 20, bytes: 2 ** 32 })
  for (const [limits, size] of [
    [{ frames: 5 }, 1],
    [{ bytes: 5000 }, 999],
    [{ frames: 4, bytes: 5000 }, 1500],
    [{ bytes: 1002 }, 1000], // each frame has a key of its own
  ] as const) {
    const sealer = new Sealer(KEY, limits)
    const strict = new Opener(KEY, limits)
    const lax = new Opener(KEY)
    const kinds: string[] = []
    for (let i = 0; i < 40; i++) {
      for (const frame of frames(Buffer.concat(sealer.data([Buffer.alloc(size, i)])))) {
        kinds.push(strict.open(frame).kind)
        lax.open(frame)
      }
    }
    const each = kinds
      .join(' ')
      .split('rekey')
      .map((part) => part.trim().split(' ').length) // frames of one key
    expect(each.length).toBeGreaterThan(5)
    expect(Math.max(...each) + 1).toBeLessThanOrEqual('frames' in limits ? limits.frames : Infinity)
    expect(Math.max(...each) * (size + 1) + 1).toBeLessThanOrEqual('bytes' in limits ? limits.bytes : Infinity)
    const old = new Sealer(KEY) // never renews within these limits
    const refused = new Opener(KEY, limits)
    expect(() => {
      for (let i = 0; i < 40; i++) refused.open(Buffer.concat(old.data([Buffer.alloc(size)])).subarray(2))
    }).toThrow(/as much as it may/)
  }
})

test('CHANNEL 4.8: the frames of the recorded vector are sealed and opened, and Rekey() is that of Noise', () => {
  const vector = JSON.parse(readFileSync(new URL('rekey-vector.json', import.meta.url), 'utf8'))
  const key = Buffer.from(vector.key, 'hex')
  const sealer = new Sealer(key)
  const sealed = [sealer.confirm(), ...sealer.data([Buffer.from('one')])]
  sealer.expire()
  sealed.push(...sealer.data([Buffer.from('two')]), sealer.keepAlive())
  sealer.expire()
  sealed.push(sealer.end())
  expect(Buffer.concat(sealed).toString('hex')).toBe(vector.frames.join(''))
  const opener = new Opener(key)
  const opened = vector.frames.map((frame: string) => opener.open(Buffer.from(frame, 'hex').subarray(2)))
  expect(opened.map(({ kind }: { kind: string }) => kind)).toEqual(vector.kinds)
  // the same by the independent cipher of noble
  let present = new Uint8Array(key)
  vector.frames.forEach((frame: string, counter: number) => {
    const plain = chacha20poly1305(present, nonce(counter)).decrypt(Buffer.from(frame, 'hex').subarray(2))
    if (vector.kinds[counter] === 'rekey')
      present = chacha20poly1305(present, MAX_NONCE).encrypt(new Uint8Array(32)).slice(0, 32)
    if (plain.length > 0)
      expect(plain[0]).toBe({ data: 0, end: 1, rekey: 2, 'keep-alive': 3 }[vector.kinds[counter] as 'end'])
  })
  expect(Buffer.from(present).toString('hex')).toBe(vector.lastKey)
})

test('CHANNEL 4.4, 4.8: S10: a repeated, dropped, reordered or forged rekey frame ends the session', async () => {
  const make = () => {
    const sealer = new Sealer(KEY)
    const [one] = [Buffer.concat(sealer.data([Buffer.from('one')]))]
    sealer.expire()
    const [rekey, two] = frames(Buffer.concat(sealer.data([Buffer.from('two')]))).map((frame) => {
      const head = Buffer.alloc(2)
      head.writeUInt16BE(frame.length)
      return Buffer.concat([head, frame])
    })
    if (!rekey || !two) throw new Error('no rekey frame')
    return { one, rekey, two }
  }
  const { one, rekey, two } = make()
  const forged = Buffer.from(rekey)
  forged[2] = (forged[2] ?? 0) ^ 1
  for (const [sent, heard, ok] of [
    [[one, rekey, two], 'onetwo', true],
    [[one, rekey, rekey], 'one', false],
    [[one, two], 'one', false],
    [[one, two, rekey], 'one', false],
    [[rekey, one], '', false],
    [[one, forged, two], 'one', false],
    [[one, rekey, one], 'one', false], // sealed by the old key
  ] as const) {
    const [mine, its] = memoryPipe()
    const socket = new SecureSocket({ raw: its, sealer: new Sealer(KEY), opener: new Opener(KEY), allowHalfOpen: true })
    const all = collect(socket)
    const end = closed(socket)
    for (const frame of sent) mine.write(frame)
    if (ok) await eventually(() => Buffer.concat(all).toString() === heard)
    else expect(await end).toMatchObject({ code: 'ECONNRESET' })
    expect(Buffer.concat(all).toString()).toBe(heard)
    socket.destroy()
  }
})

test('CHANNEL 4.9: an idle session sends keep-alive frames, and they deliver nothing', async () => {
  const { laptop, server, wire } = await pair()
  const heard = [collect(laptop), collect(server)]
  const sizes = () => (['up', 'down'] as const).map((way) => length(wire.connections[0]?.[way] ?? []))
  for (let beat = 0; beat < 60; beat++) {
    const before = sizes()
    vi.advanceTimersByTime(15_000)
    await eventually(() => sizes().every((size, way) => size > (before[way] ?? 0)))
    await turn()
  }
  expect([laptop.destroyed, server.destroyed]).toEqual([false, false])
  expect(heard).toEqual([[], []])
  expect([laptop.bytesRead, server.bytesRead]).toEqual([0, 0]) // so that they extend no deadline
})

test('CHANNEL 4.10: a peer that vanished without a word is lost after 45 to 60 s, on both ends', async () => {
  const robot = await startRobot([ann])
  cleanups.push(robot.close)
  let cut = false
  const wire = await tapWire(robot.port, (chunk) => (cut ? null : chunk))
  cleanups.push(wire.close)
  const { laptop, server } = await openPair({ ...robot, port: wire.port }, ann)
  const ends = [closed(laptop.resume()), closed(server.resume())]
  vi.advanceTimersByTime(14_000)
  laptop.write('one')
  server.write('two')
  await eventually(() => laptop.bytesRead + server.bytesRead === 6)
  cut = true // as when a cable is pulled: no FIN, no RST
  vi.advanceTimersByTime(45_000)
  await turn()
  expect([laptop.destroyed, server.destroyed]).toEqual([false, false])
  vi.advanceTimersByTime(15_000)
  for (const end of await Promise.all(ends)) {
    expect(end).toMatchObject({ code: 'ECONNRESET', message: 'session: nothing came for 45 s' })
  }
})

test('CHANNEL 4.10: an end that does not read does not take its peer for lost, and is not taken for lost', async () => {
  const { laptop, server } = await pair()
  server.pause()
  laptop.resume()
  const message = crypto.randomBytes(8 * 1024 * 1024)
  laptop.write(message)
  await eventually(() => server.readableLength > 200_000)
  for (let beat = 0; beat < 40; beat++) {
    vi.advanceTimersByTime(15_000)
    for (let i = 0; i < 20; i++) await turn()
  }
  expect([laptop.destroyed, server.destroyed]).toEqual([false, false])
  const heard = collect(server)
  server.resume()
  await eventually(() => length(heard) === message.length)
  expect(Buffer.concat(heard).equals(message)).toBe(true)
})

test('S11, S12: the states of a session, and what is sent early is delivered when it is established', async () => {
  let allow = () => {}
  const allowed = new Promise<void>((resolve) => {
    allow = resolve
  })
  const who = () => allowed.then(() => OPERATOR)
  const robot = await startRobot([ann], { who })
  cleanups.push(robot.close)
  // what follows message 1 is held back, so that the confirmation and the early data arrive at once
  const held: Buffer[] = []
  let pieces = 0
  const wire = await tapWire(robot.port, (chunk, way) => {
    if (way === 'down' || ++pieces <= 2) return chunk
    held.push(chunk)
    return null
  })
  cleanups.push(wire.close)
  const trace: string[] = []
  const note = () => trace.push(`${robot.listener.handshakes} handshakes, ${robot.listener.sessions.size} sessions`)
  note()
  const opening = connectSession(connectOptions({ ...robot, port: wire.port }, ann))
  await eventually(() => pieces === 2)
  note()
  allow()
  const laptop = await opening
  laptop.on('error', () => {}).write('early')
  laptop.write(' too')
  await eventually(() => laptop.bytesWritten === 9 && length(held) > 18 + 9)
  note()
  wire.connections[0]?.server.write(Buffer.concat(held))
  const server = await eventually(() => robot.sessions[0])
  note()
  const heard = collect(server)
  await eventually(() => Buffer.concat(heard).toString() === 'early too')
  laptop.destroy()
  await closed(server)
  note()
  expect(trace).toEqual([
    '0 handshakes, 0 sessions',
    '1 handshakes, 0 sessions',
    '1 handshakes, 0 sessions',
    '0 handshakes, 1 sessions',
    '0 handshakes, 0 sessions',
  ])
})
