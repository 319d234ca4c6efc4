/** Frames: sealed, changed on the way, in the wrong order, and as many as there may be. */
import crypto from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import { afterEach, expect, test } from 'vitest'
import { Deframer, Opener, Sealer } from '../../../../deploy/shared/channel/frame.ts'
import { encodeMessage } from '../../../../deploy/shared/channel/handshake.ts'
import { SecureSocket } from '../../../../deploy/shared/channel/index.ts'
import { eventually } from '../../../e2e/eventually.ts'
import { closed, collect, makeOperator, memoryPipe, openPair, type Robot, startRobot, tapWire } from './peers.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const ann = makeOperator()

async function robotFor(): Promise<Robot> {
  const robot = await startRobot([ann])
  cleanups.push(robot.close)
  return robot
}

async function wireTo(robot: Robot, bend?: Parameters<typeof tapWire>[1]) {
  const wire = await tapWire(robot.port, bend)
  cleanups.push(wire.close)
  return wire
}

test('CHANNEL 4.4: S9, S18: any flipped bit of a frame ends the session, nothing of it is delivered', async () => {
  const robot = await robotFor()
  const frame = 2 + 1 + 5 + 16
  for (let bit = 0; bit < frame * 8; bit++) {
    let armed = false
    const wire = await wireTo(robot, (chunk, direction) => {
      if (direction === 'down' || !armed) return chunk
      armed = false
      const bent = Buffer.from(chunk)
      bent[bit >> 3] = (bent[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      return bent
    })
    const { laptop, server } = await openPair({ ...robot, port: wire.port }, ann)
    await new Promise((resolve) => setImmediate(resolve))
    const heard = collect(server)
    const end = closed(server)
    armed = true
    laptop.write('hello')
    // a longer length waits for more: it gets it
    if (bit < 16) setTimeout(() => laptop.end(Buffer.alloc(70_000)), 5)
    expect(await end, `bit ${bit}`).toMatchObject({ code: 'ECONNRESET' })
    expect(heard).toEqual([])
    wire.close()
  }
})

test('CHANNEL 4.4: S10: a duplicated, a dropped and a reordered frame end the session', async () => {
  for (const fault of ['duplicate', 'drop', 'reorder'] as const) {
    const robot = await robotFor()
    const sealed = new Sealer(Buffer.alloc(32, 1))
    const frames = ['one', 'two', 'three'].map((text) => Buffer.concat(sealed.data([Buffer.from(text)])))
    const [one, two, three] = frames as [Buffer, Buffer, Buffer]
    const [mine, its] = memoryPipe()
    const socket = new SecureSocket({
      raw: its,
      sealer: new Sealer(Buffer.alloc(32, 2)),
      opener: new Opener(Buffer.alloc(32, 1)),
      allowHalfOpen: true,
    })
    const heard = collect(socket)
    const end = closed(socket)
    const sent = { duplicate: [one, one], drop: [one, three], reorder: [two, one] }[fault]
    for (const frame of sent) mine.write(frame)
    expect(await end).toMatchObject({ code: 'ECONNRESET' })
    expect(Buffer.concat(heard).toString()).toBe(fault === 'reorder' ? '' : 'one')
    await robot.close()
  }
})

test('CHANNEL 4.2: S8: no nonce is used twice with a key, and no key in both directions', async () => {
  const log: string[] = []
  const original = crypto.createCipheriv
  crypto.createCipheriv = ((name: string, key: Buffer, iv: Buffer, options: object) => {
    if (name === 'chacha20-poly1305') log.push(`${Buffer.from(key).toString('hex')} ${Buffer.from(iv).toString('hex')}`)
    return original(name as 'chacha20-poly1305', key, iv, options as { authTagLength: number })
  }) as typeof crypto.createCipheriv
  syncBuiltinESMExports()
  try {
    const robot = await robotFor()
    for (let session = 0; session < 3; session++) {
      const { laptop, server } = await openPair(robot, ann)
      server.pipe(server)
      let back = 0
      laptop.on('data', (chunk) => {
        back += chunk.length
      })
      for (let i = 0; i < 40; i++) {
        laptop.write(Buffer.alloc(i * 997))
        if (i % 7 === 0) await new Promise((resolve) => setImmediate(resolve))
      }
      await eventually(() => back === (997 * 40 * 39) / 2)
      laptop.end()
      await closed(laptop)
    }
  } finally {
    crypto.createCipheriv = original
    syncBuiltinESMExports()
  }
  expect(log.length).toBeGreaterThan(60)
  expect(new Set(log).size).toBe(log.length)
  expect(new Set(log.map((line) => line.split(' ')[0])).size).toBe(6) // 3 sessions, 2 directions
})

test('S15, S16: a flood of one-byte writes makes far fewer frames, and arrives in order', async () => {
  const robot = await robotFor()
  const { laptop, server } = await openPair(robot, ann)
  const heard: Buffer[] = []
  let frames = 0
  server.on('data', (chunk) => {
    frames++
    heard.push(chunk)
  })
  for (let i = 0; i < 100_000; i++) laptop.write(Buffer.of(i & 255))
  const all = await eventually(
    () => heard.reduce((sum, part) => sum + part.length, 0) === 100_000 && Buffer.concat(heard),
  )
  expect(frames).toBeLessThan(50)
  expect(all.every((byte, i) => byte === (i & 255))).toBe(true)
})

test('CHANNEL 4.5: a transport that ends without an end frame is an error, not an end', async () => {
  const robot = await robotFor()
  const wire = await wireTo(robot)
  const { server } = await openPair({ ...robot, port: wire.port }, ann)
  let ended = false
  server.on('end', () => {
    ended = true
  })
  server.resume()
  const end = closed(server)
  wire.connections[0]?.server.end()
  expect(await end).toMatchObject({ code: 'ECONNRESET' })
  expect(ended).toBe(false)
})

test('CHANNEL 4.3, 4.5: frames of unknown type, empty data, data after the end and a second confirmation are refused', async () => {
  const key = Buffer.alloc(32, 9)
  const seal = (plain: Buffer, counter = 0) => {
    const iv = Buffer.alloc(12)
    iv.writeUInt32LE(counter, 4)
    const cipher = crypto.createCipheriv('chacha20-poly1305', key, iv, { authTagLength: 16 })
    return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()])
  }
  for (const plain of [[0], [1, 0], [2, 0], [3, 0], [5], [255, 1]]) {
    expect(() => new Opener(key).open(seal(Buffer.from(plain)))).toThrow(/type/)
  }
  for (const length of [0, 1, 15]) expect(() => new Opener(key).open(Buffer.alloc(length))).toThrow(/length/)
  for (const second of [seal(Buffer.alloc(0), 1), seal(Buffer.of(0, 7), 1)]) {
    const [mine, its] = memoryPipe()
    const opener = new Opener(key)
    const socket = new SecureSocket({ raw: its, sealer: new Sealer(key), opener, allowHalfOpen: true })
    const end = closed(socket)
    const heard = collect(socket)
    for (const frame of [seal(Buffer.of(1)), second]) mine.write(encodeMessage(frame))
    expect(await end).toMatchObject({ code: 'ECONNRESET' })
    expect(heard).toEqual([])
  }
  const sealer = new Sealer(key)
  const [mine, its] = memoryPipe()
  const socket = new SecureSocket({ raw: its, sealer: new Sealer(key), opener: new Opener(key), allowHalfOpen: true })
  const end = closed(socket)
  mine.write(sealer.confirm())
  expect(await end).toMatchObject({ code: 'ECONNRESET' })
})

test('CHANNEL 4.6: a direction has no more frames than it may', () => {
  const sealer = new Sealer(Buffer.alloc(32), { total: 3 })
  sealer.confirm()
  sealer.data([Buffer.of(1)])
  sealer.end()
  expect(() => sealer.data([Buffer.of(1)])).toThrow(/as much as it may/)
  expect(() => new Sealer(Buffer.alloc(32)).data([Buffer.alloc(65519)])).toThrow(/at most 65519/)
})

test('frames are found whatever the pieces they come in', () => {
  const frames = [16, 17, 300, 65535, 16].map((length) => crypto.randomBytes(length))
  const stream = Buffer.concat(frames.map((frame) => Buffer.from(encodeMessage(frame))))
  for (const size of [1, 2, 3, 7, 1000, 65536, stream.length]) {
    const deframer = new Deframer()
    const found: Buffer[] = []
    for (let at = 0; at < stream.length; at += size) {
      deframer.push(stream.subarray(at, at + size), (frame) => found.push(Buffer.from(frame)) > 0)
    }
    expect(found.map((frame) => Buffer.compare(frame, frames[found.indexOf(frame)] ?? Buffer.alloc(0)))).toEqual([
      0, 0, 0, 0, 0,
    ])
    expect(deframer.clean).toBe(true)
  }
})
