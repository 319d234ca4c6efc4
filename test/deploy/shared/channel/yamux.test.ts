/** Streams in a session: beside an independent implementation of yamux, with many sizes and orders, and with broken frames. */
import { randomBytes } from 'node:crypto'
import type { Duplex } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { Client, Server } from 'yamux-js'
import { LAPTOP_MUX, Mux, type MuxOptions, ROBOT_MUX } from '../../../../deploy/shared/channel/yamux.ts'
import { encodeHeader, FLAG, HEADER_BYTES, TYPE, WINDOW } from '../../../../deploy/shared/channel/yamuxheader.ts'
import type { YamuxStream } from '../../../../deploy/shared/channel/yamuxstream.ts'
import { eventually } from '../../../e2e/eventually.ts'
import { seeded } from '../../../fixtures/random.ts'
import { closed, collect, makeOperator, muxPipe, openPair, startRobot } from './peers.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const length = (parts: readonly Buffer[]) => parts.reduce((sum, part) => sum + part.length, 0)
const quiet = { enableKeepAlive: false, logger: () => {} }

/** A multiplexer at each end of a pipe; `accepted` are the streams that the second one got. */
function pair(options: Partial<MuxOptions> = {}) {
  const [mine, its] = muxPipe()
  const accepted: YamuxStream[] = []
  const near = new Mux({ session: mine, initiator: true })
  const accept = (stream: YamuxStream) => void accepted.push(stream.on('error', () => {}) as YamuxStream)
  const far = new Mux({ session: its, initiator: false, limits: ROBOT_MUX, accept, ...options })
  return { near, far, mine, its, accepted }
}

/** The far end of a pipe, where the test writes frames by hand, and reads those of a multiplexer. */
function byHand(options: Partial<MuxOptions> = {}) {
  const [mine, its] = muxPipe()
  const accepted: YamuxStream[] = []
  const accept = (stream: YamuxStream) => void accepted.push(stream.on('error', () => {}) as YamuxStream)
  const mux = new Mux({ session: its, initiator: false, limits: ROBOT_MUX, accept, ...options })
  const heard = collect(mine)
  const frames = () => {
    const all = Buffer.concat(heard)
    const found: { type: number; flags: number; stream: number; length: number }[] = []
    for (let at = 0; at < all.length; ) {
      const [type = 0, flags, stream, size] = [all[at + 1], all.readUInt16BE(at + 2), all.readUInt32BE(at + 4), all.readUInt32BE(at + 8)] // biome-ignore format: one header
      found.push({ type, flags, stream, length: size })
      at += HEADER_BYTES + (type === TYPE.data ? size : 0)
    }
    return found
  }
  const send = (type: number, flags: number, stream: number, size: number, data = Buffer.alloc(0)) =>
    mine.write(Buffer.concat([encodeHeader({ type, flags, stream, length: size }), data]))
  return { mux, mine, its, accepted, frames, send }
}

const GOODBYE = { type: TYPE.goAway, flags: 0, stream: 0, length: 1 }

async function echoes(open: () => Duplex, sizes: readonly number[]): Promise<void> {
  await Promise.all(
    sizes.map(async (size) => {
      const stream = open().on('error', () => {})
      const heard = collect(stream)
      const sent = randomBytes(size)
      for (let at = 0; at < size; at += 50_000) stream.write(sent.subarray(at, at + 50_000))
      await eventually(() => length(heard) === size)
      expect(Buffer.concat(heard).equals(sent)).toBe(true)
      stream.end()
    }),
  )
}

test('CHANNEL 8.1: S14: streams with an independent implementation of yamux, as its client and as its server', async () => {
  const sizes = [1, 1000, 70_000, 300_000, 2_000_000]
  {
    const [mine, its] = muxPipe()
    const server = new Server((stream: Duplex) => void stream.on('error', () => {}).pipe(stream), quiet)
    its.pipe(server as unknown as Duplex).pipe(its)
    const mux = new Mux({ session: mine, initiator: true })
    await echoes(() => mux.open(), sizes)
    mux.close()
  }
  const [mine, its] = muxPipe()
  new Mux({ session: mine, initiator: false, limits: ROBOT_MUX, accept: (stream) => void stream.pipe(stream) })
  const client = new Client(quiet)
  client.on('error', () => {})
  its.pipe(client as unknown as Duplex).pipe(its)
  await echoes(() => client.open(), sizes)
})

test('CHANNEL 8.1: the bytes of each kind of frame', async () => {
  const [mine, its] = muxPipe()
  const heard = collect(its)
  const mux = new Mux({ session: mine, initiator: true })
  const stream = mux.open()
  stream.end('hi')
  const given = mux.open().on('error', () => {})
  await eventually(() => stream.writableFinished)
  given.destroy()
  its.write(Buffer.from('000200010000000001020304', 'hex')) // a ping
  await eventually(() => length(heard) >= 6 * 12 + 2) // all but the go-away
  stream.on('error', () => {})
  mux.close()
  const frames = [
    '000100010000000100000000', // opens stream 1
    '000100010000000300000000', // opens stream 3
    '000000000000000100000002', // data
    '6869',
    '000000040000000100000000', // end
    '000100080000000300000000', // reset
    '000200020000000001020304', // answer to the ping
    '000300000000000000000000', // go-away
  ]
  await eventually(() => Buffer.concat(heard).length >= frames.join('').length / 2)
  expect(Buffer.concat(heard).toString('hex')).toBe(frames.join(''))
})

test('CHANNEL 8.1: S14: streams over a real session, both directions at once, end separately and lose nothing', async () => {
  const ann = makeOperator()
  const accepted: YamuxStream[] = []
  const robot = await startRobot([ann], {
    session: (session) =>
      void new Mux({ session, initiator: false, limits: ROBOT_MUX, accept: (stream) => void accepted.push(stream) }),
  })
  cleanups.push(robot.close)
  const { laptop } = await openPair(robot, ann)
  const mux = new Mux({ session: laptop, initiator: true })
  const message = randomBytes(1_500_000)
  const streams = Array.from({ length: 8 }, () => mux.open())
  await eventually(() => accepted.length === 8)
  const ends = streams.map(async (stream, i) => {
    const far = accepted[i] as YamuxStream
    const [up, down] = [collect(far), collect(stream)]
    stream.end(message)
    await eventually(() => far.readableEnded)
    expect(Buffer.concat(up).equals(message)).toBe(true)
    far.end(message) // the other direction is still open
    await Promise.all([closed(stream), closed(far)])
    expect(Buffer.concat(down).equals(message)).toBe(true)
  })
  await Promise.all(ends)
  expect(mux.streams).toBe(0)
})

test('CHANNEL 8.4: S14, S19: a stream that is not read holds back its sender alone, and loses nothing', async () => {
  const { near, accepted } = pair()
  const [slow, fast] = [near.open(), near.open()]
  const message = randomBytes(3_000_000)
  slow.end(message)
  await eventually(() => accepted.length === 2)
  const [slowFar, fastFar] = accepted as [YamuxStream, YamuxStream]
  await eventually(() => slowFar.readableLength === WINDOW)
  for (let i = 0; i < 20; i++) {
    const heard = collect(fastFar)
    fast.write(message.subarray(0, 100_000))
    await eventually(() => length(heard) === 100_000)
    fastFar.removeAllListeners('data')
  }
  expect(slowFar.readableLength).toBe(WINDOW) // and no more than the window
  expect(slow.bytesWritten).toBe(WINDOW)
  const heard: Buffer[] = []
  slowFar.on('data', (chunk) => heard.push(chunk))
  await eventually(() => slowFar.readableEnded)
  expect(Buffer.concat(heard).equals(message)).toBe(true)
})

test('CHANNEL 8.4: a reader that pauses at any place gets every byte', async () => {
  const random = seeded(11)
  const { near, accepted } = pair()
  const stream = near.open()
  const message = randomBytes(2_500_000)
  stream.end(message)
  const far = await eventually(() => accepted[0])
  const heard: Buffer[] = []
  const read = (size?: number) => {
    const part = far.read(size) as Buffer | null
    if (part !== null) heard.push(part)
  }
  while (!far.readableEnded) {
    read(random() < 0.5 ? undefined : 1 + Math.floor(random() * 200_000))
    await turn()
  }
  expect(Buffer.concat(heard).equals(message)).toBe(true)
})

test('CHANNEL 8.6: a small request does not wait for a large one', async () => {
  let [before, ahead] = [0, -1]
  const accept = (stream: YamuxStream) => {
    stream.on('data', (chunk) => {
      if (stream.id === 1) before += chunk.length
      else ahead = before
    })
  }
  const { near, far } = pair({ accept })
  const [bulk, small] = [near.open(), near.open()]
  await eventually(() => far.streams === 2).then(() => turn()) // both flow
  bulk.write(Buffer.alloc(200_000))
  small.write('stop')
  await eventually(() => before === 200_000)
  expect(ahead).toBeGreaterThanOrEqual(0)
  expect(ahead).toBeLessThanOrEqual(16 * 1024) // one frame
  // also when the large one began long before
  bulk.write(Buffer.alloc(200_000))
  await turn()
  ahead = -1
  const began = before
  small.write('stop')
  await eventually(() => before === 400_000)
  expect(ahead - began).toBeLessThanOrEqual(64 * 1024 + 2 * 16 * 1024) // what the session had taken, and a turn
})

test('S15, S16: a flood of one-byte writes shares frames', async () => {
  const { near, accepted, mine } = pair()
  let frames = 0
  const write = mine.write.bind(mine) as (...args: unknown[]) => boolean
  mine.write = ((...args: unknown[]) => {
    frames++
    return write(...args)
  }) as typeof mine.write
  const stream = near.open()
  for (let i = 0; i < 20_000; i++) stream.write(Buffer.of(i & 255))
  const far = await eventually(() => accepted[0])
  const heard = collect(far)
  await eventually(() => length(heard) === 20_000)
  expect(Buffer.concat(heard).every((byte, i) => byte === (i & 255))).toBe(true)
  expect(frames).toBeLessThan(20)
})

test('CHANNEL 8.3: a session has at most 32 streams: a further one is reset, and the others go on', async () => {
  expect([ROBOT_MUX.streams, LAPTOP_MUX.streams]).toEqual([32, 32])
  const near = pair().near
  for (let i = 0; i < 32; i++) near.open()
  expect(() => near.open()).toThrow(/at most 32 streams/)
  const { send, frames, accepted, its } = byHand()
  for (let i = 0; i < 40; i++) send(TYPE.window, FLAG.syn, 2 * i + 1, 0)
  await eventually(() => frames().length === 40)
  expect(frames().filter(({ flags }) => flags === FLAG.ack)).toHaveLength(32)
  expect(frames().filter(({ flags }) => flags === FLAG.rst)).toHaveLength(8)
  // data for a stream that was reset is dropped
  send(TYPE.data, 0, 79, 5, Buffer.from('stray'))
  send(TYPE.data, FLAG.fin, 1, 5, Buffer.from('hello'))
  const [first] = accepted
  const heard = collect(first as YamuxStream)
  await eventually(() => Buffer.concat(heard).toString() === 'hello')
  // a place that is free again is given out again
  first?.end()
  await eventually(() => first?.closed)
  send(TYPE.window, FLAG.syn, 81, 0)
  await eventually(() => accepted.length === 33)
  expect(its.destroyed).toBe(false)
})

test('CHANNEL 8.3: the laptop accepts no streams', async () => {
  const [mine, its] = muxPipe()
  new Mux({ session: its, initiator: true })
  const heard = collect(mine)
  mine.write(encodeHeader({ type: TYPE.window, flags: FLAG.syn, stream: 2, length: 0 }))
  const reset = encodeHeader({ type: TYPE.window, flags: FLAG.rst, stream: 2, length: 0 })
  await eventually(() => Buffer.concat(heard).equals(reset))
})

test('CHANNEL 8.5: when too much waits to be read, the largest stream is reset, and a new one is served', async () => {
  const { near, far, accepted } = pair()
  const streams = Array.from({ length: 20 }, () => near.open().on('error', () => {}))
  for (const stream of streams) stream.write(Buffer.alloc(WINDOW))
  await eventually(() => streams.filter(({ destroyed }) => destroyed).length === 12)
  const alive = accepted.filter(({ destroyed }) => !destroyed)
  expect(alive.reduce((sum, stream) => sum + stream.readableLength, 0)).toBeLessThanOrEqual(ROBOT_MUX.unread)
  expect(far.streams).toBe(8)
  const last = near.open()
  last.write('still here')
  const twentyFirst = await eventually(() => accepted[20])
  const heard = collect(twentyFirst)
  await eventually(() => Buffer.concat(heard).toString() === 'still here')
})

test.each([
  ['another version', () => Buffer.from([1, ...new Uint8Array(11)])],
  ['an unknown type', () => Buffer.from([0, 4, ...new Uint8Array(10)])],
  ['an unknown flag', () => encodeHeader({ type: TYPE.window, flags: 16, stream: 1, length: 0 })],
  ['data on stream 0', () => encodeHeader({ type: TYPE.data, flags: FLAG.syn, stream: 0, length: 0 })],
  ['a ping on a stream', () => encodeHeader({ type: TYPE.ping, flags: FLAG.syn, stream: 1, length: 0 })],
  ['an even id', () => encodeHeader({ type: TYPE.window, flags: FLAG.syn, stream: 2, length: 0 })],
  [
    'more data than the window',
    () => encodeHeader({ type: TYPE.data, flags: FLAG.syn, stream: 1, length: WINDOW + 1 }),
  ],
  [
    'an id twice',
    () => Buffer.concat(Array(2).fill(encodeHeader({ type: TYPE.window, flags: FLAG.syn, stream: 1, length: 0 }))),
  ],
  ['too large a window', () => encodeHeader({ type: TYPE.window, flags: FLAG.syn, stream: 1, length: 2 ** 32 - 1 })],
  [
    'data after the end',
    () =>
      Buffer.concat([
        encodeHeader({ type: TYPE.window, flags: FLAG.syn | FLAG.fin, stream: 1, length: 0 }),
        encodeHeader({ type: TYPE.data, flags: 0, stream: 1, length: 1 }),
      ]),
  ],
])('CHANNEL 8.2: %s ends the session with a go-away', async (_what, bytes) => {
  for (const size of [1, 5, 1000]) {
    const { mine, its, frames } = byHand()
    const all = bytes()
    for (let at = 0; at < all.length; at += size) mine.write(all.subarray(at, at + size))
    await eventually(() => its.closed)
    expect(frames().at(-1)).toEqual(GOODBYE)
  }
})

test('CHANNEL 8.2, 8.5: S17: a message without an end is refused where its window ends, and no more than that waits', async () => {
  const { send, frames, accepted, its } = byHand()
  send(TYPE.window, FLAG.syn, 1, 0)
  const piece = Buffer.alloc(16 * 1024)
  for (let sent = 0; !its.closed; sent += piece.length, await turn()) {
    expect(sent).toBeLessThan(8 * WINDOW)
    send(TYPE.data, 0, 1, piece.length, piece)
  }
  expect(frames().at(-1)).toEqual(GOODBYE)
  expect(accepted[0]?.readableLength).toBeLessThanOrEqual(WINDOW)
})

test('CHANNEL 8.7: pings are answered; a peer that causes answers and does not read them loses its session', async () => {
  const { send, frames, its } = byHand()
  send(TYPE.ping, FLAG.syn, 0, 0xdeadbeef)
  await eventually(() => frames().length === 1)
  expect(frames()).toEqual([{ type: TYPE.ping, flags: FLAG.ack, stream: 0, length: 0xdeadbeef }])
  expect(its.destroyed).toBe(false)

  const [mine, stuck] = muxPipe()
  stuck.write = (() => false) as typeof stuck.write // never taken, as when the peer does not read
  new Mux({ session: stuck, initiator: false, limits: ROBOT_MUX, accept: () => {} })
  const ping = encodeHeader({ type: TYPE.ping, flags: FLAG.syn, stream: 0, length: 1 })
  for (let i = 0; i < 10_000 && !stuck.destroyed; i++) mine.write(ping)
  await eventually(() => stuck.destroyed)
})

test('CHANNEL 8.8: a lost session ends its streams with an error, and no stream is opened on it', async () => {
  const { near, its, accepted } = pair()
  const stream = near.open()
  const end = closed(stream)
  await eventually(() => accepted.length === 1)
  its.destroy()
  expect(await end).toMatchObject({ code: 'ECONNRESET' })
  expect(near.usable).toBe(false)
  expect(() => near.open()).toThrow(/no more streams/)
})

test('CHANNEL 8.8: after a go-away no stream is opened, and those that are open go on', async () => {
  const { near, its, accepted } = pair()
  const stream = near.open()
  const far = await eventually(() => accepted[0])
  its.write(encodeHeader({ type: TYPE.goAway, flags: 0, stream: 0, length: 0 }))
  await eventually(() => !near.usable)
  const heard = collect(far)
  stream.write('on')
  await eventually(() => Buffer.concat(heard).toString() === 'on')
})

test('a reset after the end does not take back what came before: an early answer is read', async () => {
  const { near, accepted } = pair()
  const stream = near.open()
  stream.write(Buffer.alloc(1_000_000)) // more than the window
  const far = await eventually(() => accepted[0])
  far.write('refused')
  far.destroySoon()
  await eventually(() => far.closed)
  await turn()
  const heard = collect(stream)
  await eventually(() => stream.readableEnded)
  expect(Buffer.concat(heard).toString()).toBe('refused')
})

test('CHANNEL 8.2: 20,000 random headers: no crash, bounded memory, and a session that ends is ended whole', async () => {
  const random = seeded(14)
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)] as T
  let rounds = 0
  for (let count = 0; count < 20_000; rounds++) {
    const { mine, its, accepted } = byHand()
    while (!its.destroyed && !its.writableEnded && count < 20_000) {
      count++
      const type = pick([0, 0, 1, 1, 2, 3, random() < 0.05 ? 9 : 0])
      const size = pick([0, 0, 1, 5, 300, WINDOW, random() < 0.1 ? WINDOW + 1 : 2, random() < 0.1 ? 2 ** 32 - 1 : 3])
      const header = encodeHeader({
        type,
        flags: pick([0, 0, 1, 1, 2, 4, 8, 5, 9, random() < 0.05 ? 16 : 1]),
        stream: type >= 2 ? 0 : pick([1, 3, 5, 7, 2 * Math.floor(random() * 50) + 1]),
        length: type === 3 ? 0 : size,
      })
      const at = Math.floor(random() * 12)
      if (random() < 0.02) header[at] = (header[at] ?? 0) ^ (1 << Math.floor(random() * 8))
      mine.write(header)
      if (type === TYPE.data && size <= WINDOW && random() < 0.98) mine.write(Buffer.alloc(size))
      if (random() < 0.1) await turn()
      const alive = accepted.filter(({ destroyed }) => !destroyed)
      expect(alive.reduce((sum, stream) => sum + stream.readableLength, 0)).toBeLessThanOrEqual(ROBOT_MUX.unread)
    }
    mine.destroy()
    await eventually(() => its.destroyed && accepted.every(({ destroyed }) => destroyed))
  }
  expect(rounds).toBeGreaterThan(10)
})
