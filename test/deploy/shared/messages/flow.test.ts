/** Both directions of a message channel over connections that are lost at random, and what they refuse. */
import { expect, test } from 'vitest'
import { Incoming, Outgoing } from '../../../../deploy/shared/messages/flow.ts'
import {
  ackFrame,
  decodeMessage,
  encodeMessage,
  type Frame,
  type FrameKind,
  FrameReader,
  helloFrame,
  MAX_FRAME,
  MAX_MESSAGE,
  MessageFault,
  messageFrames,
  parseAck,
  parseHello,
  parseWelcome,
  WINDOW,
  welcomeFrame,
} from '../../../../deploy/shared/messages/frames.ts'
import { MAX_INSTANCES, type Origins } from '../../../../deploy/shared/messages/origins.ts'
import { seeded } from '../../../fixtures/random.ts'

const INSTANCE = 'ab'.repeat(6)
const part = (kind: FrameKind, length: number): Frame => ({ kind, payload: Buffer.alloc(length) })

test('CHANNEL 12.3: messages come out of frames as they were, however the bytes are cut', () => {
  const messages = [{ a: [1, null] }, '', 0, Uint8Array.of(), new Uint8Array(MAX_MESSAGE).fill(7), 'ä'.repeat(70_000)]
  const bytes = Buffer.concat(messages.flatMap((message) => messageFrames(encodeMessage(message))))
  for (const size of [1, 1000, 65_540, bytes.length]) {
    const [reader, incoming] = [new FrameReader(), new Incoming('taken')]
    const out: unknown[] = []
    // a cut of each byte is tried on the first ones only
    const end = size === 1 ? 60 : bytes.length
    for (let at = 0; at < end; at += size) {
      for (const frame of reader.push(bytes.subarray(at, at + size))) {
        incoming.take(frame)
        for (let next = incoming.next(); next; next = incoming.next()) out.push(decodeMessage(next))
        incoming.ack()
      }
    }
    const expected = size === 1 ? messages.slice(0, 4) : messages
    expect(out.map((each) => (each instanceof Uint8Array ? Buffer.from(each).toString('latin1') : each))).toEqual(
      expected.map((each) => (each instanceof Uint8Array ? Buffer.from(each).toString('latin1') : each)),
    )
  }
})

test('S17: CHANNEL 12.3: long frames, endless messages, mixed and empty parts are refused before they are kept', () => {
  expect(() => new FrameReader().push(Buffer.from([5, 1, 0, 1]))).toThrow(`at most ${MAX_FRAME}`)
  expect(() => new FrameReader().push(Buffer.from([0, 0, 0, 0]))).toThrow('unknown kind')
  expect(() => new FrameReader().push(Buffer.from([10, 0, 0, 0]))).toThrow('unknown kind')
  const endless = new Incoming('taken')
  for (let at = 0; at < MAX_MESSAGE / MAX_FRAME; at++) endless.take(part('bytes', MAX_FRAME))
  expect(() => endless.take(part('bytes', 1))).toThrow(MessageFault)
  const mixed = new Incoming('taken')
  mixed.take(part('bytes', 1))
  expect(() => mixed.take(part('text-end', 1))).toThrow('two messages in one')
  expect(() => new Incoming('taken').take(part('text', 0))).toThrow('empty')
  for (const message of [() => {}, undefined, Symbol('x')]) expect(() => encodeMessage(message)).toThrow(TypeError)
  expect(() => decodeMessage({ text: true, bytes: Buffer.from('{') })).toThrow(MessageFault)
  const hello = {
    name: 'tune',
    id: '0'.repeat(32),
    again: false,
    first: 1,
    received: 0,
    room: WINDOW,
    had: [[INSTANCE, 2]] as [string, number][],
  }
  const parsed = (change: object) => parseHello(new FrameReader().push(helloFrame({ ...hello, ...change }))[0] as Frame)
  expect(parsed({})).toEqual(hello)
  for (const change of [
    { name: '../x' },
    { id: 'x' },
    { first: 0 },
    { received: -1 },
    { room: 2 ** 40 },
    { room: 1.5 },
    { had: {} },
    { had: [INSTANCE] },
    { had: [['x', 1]] },
    { had: [[INSTANCE, -1]] },
    { had: Array.from({ length: MAX_INSTANCES + 1 }, () => [INSTANCE, 1]) },
  ]) {
    expect(() => parsed(change), JSON.stringify(change)).toThrow(MessageFault)
  }
  const welcome = { resumed: true, first: 1, received: 0, room: WINDOW, origins: [[1, INSTANCE, 1]] as Origins }
  const heard = (origins: unknown) =>
    parseWelcome(new FrameReader().push(welcomeFrame({ ...welcome, origins: origins as Origins }))[0] as Frame)
  expect(heard(welcome.origins)).toEqual(welcome)
  for (const origins of [
    undefined,
    [[1, INSTANCE]],
    [[-1, INSTANCE, 1]],
    [[2, INSTANCE, 1], [1, INSTANCE, 1]], // biome-ignore format: one line
    Array.from({ length: 1025 }, (_, at) => [at + 1, INSTANCE, 1]),
  ]) {
    expect(() => heard(origins), JSON.stringify(origins)?.slice(0, 60)).toThrow(MessageFault)
  }
})

test('CHANNEL 12.5: a sender stops at the end of the room; a receiver ends a connection that sends more', () => {
  const out = new Outgoing()
  out.resume(0, 1000)
  for (let at = 0; at < 20; at++) out.add(encodeMessage(new Uint8Array(36)))
  expect(out.next()).toHaveLength(10)
  expect(out.hasRoomFor(encodeMessage(new Uint8Array(0)))).toBe(false)
  out.confirmed({ received: 3, room: 200 })
  expect(out.next()).toHaveLength(2)
  expect(out.held).toHaveLength(17)
  expect(() => out.confirmed({ received: 13, room: 0 })).toThrow('was not sent')
  expect(() => out.confirmed({ received: 4, room: WINDOW + 1 })).toThrow('room')
  const incoming = new Incoming('come')
  for (let at = 0; at < Math.floor(WINDOW / 64); at++) incoming.take(part('bytes-end', 0))
  expect(() => incoming.take(part('bytes-end', 0))).toThrow('room')
  // given room comes only from messages that were taken
  expect(incoming.ack()?.room).toBe(0)
  incoming.next()
  expect(incoming.ack()).toEqual({ received: Math.floor(WINDOW / 64), room: 64 })
  expect(incoming.ack()).toBe(null)
})

test('CHANNEL 12.4: 300 series of messages over connections that break anywhere: each comes once and in order', () => {
  for (let seed = 0; seed < 300; seed++) {
    const random = seeded(seed)
    const below = (n: number) => Math.floor(random() * n)
    const [out, incoming] = [new Outgoing(), new Incoming(seed % 2 === 0 ? 'taken' : 'come')]
    const got: unknown[] = []
    let sent = 0
    let [there, back]: [Buffer[], Buffer[]] = [[], []]
    let [reader, acks] = [new FrameReader(), new FrameReader()]
    const connect = () => {
      ;[there, back, reader, acks] = [[], [], new FrameReader(), new FrameReader()]
      const room = incoming.resume(out.first - 1)
      out.resume(incoming.received, room)
    }
    connect()
    for (let step = 0; step < 200 || got.length < sent; step++) {
      const what = below(6)
      if (what === 0 && step < 200) out.add(encodeMessage(++sent))
      if (what === 1) there.push(...out.next())
      if (what === 2 && there.length > 0) for (const frame of reader.push(there.shift() as Buffer)) incoming.take(frame)
      const message = what === 3 ? incoming.next() : undefined
      if (message !== undefined) got.push(decodeMessage(message))
      const ack = what === 4 ? incoming.ack() : null
      if (ack !== null) back.push(ackFrame(ack))
      if (what === 5 && back.length > 0) {
        for (const frame of acks.push(back.shift() as Buffer)) out.confirmed(parseAck(frame))
      }
      if (below(40) === 0) connect()
    }
    expect(got, `seed ${seed}`).toEqual(Array.from({ length: sent }, (_, at) => at + 1))
  }
})

test('CHANNEL 12.10: after a restart of the peer, what was written is dropped and counted, and the rest is sent', () => {
  const out = new Outgoing()
  out.resume(0, 200)
  for (let at = 0; at < 5; at++) out.add(encodeMessage(at))
  expect(out.next()).toHaveLength(3)
  out.confirmed({ received: 1, room: 0 })
  expect(out.restart(2, WINDOW)).toBe(2)
  expect([out.first, out.next().length, out.held.length]).toEqual([2, 2, 2])
})
