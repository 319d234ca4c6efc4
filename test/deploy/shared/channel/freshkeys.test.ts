/** Fresh handshakes in a session. The clock of the sessions is a fake one; the sockets are real. */
import { randomBytes } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import { chacha20poly1305 } from '@noble/ciphers/chacha.js'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Deframer, Opener, Sealer } from '../../../../deploy/shared/channel/frame.ts'
import { FreshKeys } from '../../../../deploy/shared/channel/freshkeys.ts'
import { generateKeyPair, SecureSocket } from '../../../../deploy/shared/channel/index.ts'
import { nonce } from '../../../../deploy/shared/channel/noise.ts'
import { eventually } from '../../../e2e/eventually.ts'
import { closed, collect, makeOperator, memoryPipe, openPair, startRobot, tapWire } from './peers.ts'

const BEAT_MS = 15_000
const HOUR_MS = 3_600_000
const ann = makeOperator()
const cleanups: (() => unknown)[] = []
beforeEach(() => void vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] }))
afterEach(async () => {
  vi.useRealTimers()
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** Both ends of a session whose first handshake had this hash. */
function ends({ hash = randomBytes(32), laptop = generateKeyPair(), robot = generateKeyPair() } = {}) {
  const form = { pattern: 'IK' } as const
  return {
    laptop: new FreshKeys({ initiator: true, form, static: laptop, remoteStatic: robot.public, hash }),
    robot: new FreshKeys({ initiator: false, form, static: robot, remoteStatic: laptop.public, hash }),
  }
}

test('CHANNEL 4.11: three messages give both ends the same new keys, each time', () => {
  const { laptop, robot } = ends()
  const seen = new Set<string>()
  for (let round = 0; round < 3; round++) {
    const { message, send } = robot.answer(laptop.begin())
    const keys = laptop.finish(message)
    expect(Buffer.from(keys.receive)).toEqual(Buffer.from(send))
    expect(Buffer.from(keys.send)).toEqual(Buffer.from(robot.confirmed()))
    for (const key of [keys.send, keys.receive]) seen.add(Buffer.from(key).toString('hex'))
  }
  expect(seen.size).toBe(6)
})

test('CHANNEL 4.11: a message of another session, of another key, with data, or out of turn is refused', () => {
  const [one, other] = [ends(), ends()]
  // another session between the same two keys: its first handshake had another hash
  const [laptop, robot] = [generateKeyPair(), generateKeyPair()]
  const first = ends({ laptop, robot })
  expect(() => ends({ laptop, robot }).robot.answer(first.laptop.begin())).toThrow(/refused/)
  // another laptop, which knows everything of the session but the static key of its laptop
  const hash = randomBytes(32)
  const thief = ends({ hash, robot })
  expect(() => ends({ hash, laptop, robot }).robot.answer(thief.laptop.begin())).toThrow(/another static key/)
  expect(() => one.robot.confirmed()).toThrow(/without a handshake/)
  expect(() => one.laptop.finish(Buffer.alloc(48))).toThrow(/without message 1/)
  const message1 = one.laptop.begin()
  expect(() => one.laptop.begin()).toThrow(/not its turn/)
  expect(() => other.laptop.answer(message1)).toThrow(/not its turn/)
  const { message } = one.robot.answer(message1)
  expect(() => one.robot.answer(message1)).toThrow(/not its turn/)
  const bent = Buffer.from(message)
  bent[40] = (bent[40] ?? 0) ^ 1
  expect(() => one.laptop.finish(bent)).toThrow(/refused/)
})

test('CHANNEL 4.11: S7: a fresh handshake each hour loses no byte, and who has all keys of the hour before cannot read on', async () => {
  const robot = await startRobot([ann])
  cleanups.push(robot.close)
  const wire = await tapWire(robot.port)
  cleanups.push(wire.close)
  const { laptop, server } = await openPair({ ...robot, port: wire.port }, ann)
  const [up, down] = [collect(server), collect(laptop)]
  const sent: Buffer[] = []
  const length = (parts: Buffer[]) => parts.reduce((sum, part) => sum + part.length, 0)
  for (let beat = 1; beat <= (3 * HOUR_MS) / BEAT_MS + 8; beat++) {
    const chunk = randomBytes(beat % 40 === 0 ? 100_000 : 100)
    laptop.write(chunk)
    server.write(chunk)
    sent.push(chunk)
    vi.advanceTimersByTime(BEAT_MS)
    await eventually(() => length(up) === length(sent) && length(down) === length(sent))
    await turn()
  }
  expect(Buffer.concat(up).equals(Buffer.concat(sent))).toBe(true)
  expect(Buffer.concat(down).equals(Buffer.concat(sent))).toBe(true)
  expect([laptop.destroyed, server.destroyed]).toEqual([false, false])
})

/** One end of a session, whose peer is this test: frames are sealed and opened by hand. */
function byHand(initiator: boolean) {
  const [mine, its] = memoryPipe()
  mine.on('error', () => {})
  const [up, down] = [randomBytes(32), randomBytes(32)]
  const { laptop, robot } = ends()
  const socket = new SecureSocket({
    raw: its,
    sealer: new Sealer(initiator ? up : down),
    opener: new Opener(initiator ? down : up),
    allowHalfOpen: true,
    fresh: initiator ? laptop : robot,
  })
  const heard = collect(mine)
  const opener = new Opener(initiator ? up : down)
  let seen = 0
  /** The handshake messages that have come since the last call. */
  const messages = () => {
    const found: Buffer[] = []
    new Deframer().push(Buffer.concat(heard).subarray(seen), (frame) => {
      seen += 2 + frame.length
      const opened = opener.open(frame)
      if (opened.kind === 'handshake') found.push(Buffer.from(opened.data))
      return true
    })
    return found
  }
  const sealer = new Sealer(initiator ? down : up)
  const keys = { up, down }
  return { socket, end: closed(socket), mine, sealer, opener, messages, peer: initiator ? robot : laptop, keys }
}

async function pass(ms: number, each: () => void = () => {}): Promise<void> {
  for (let gone = 0; gone < ms; gone += BEAT_MS) {
    each()
    await turn()
    vi.advanceTimersByTime(BEAT_MS)
    await turn()
  }
}

test('CHANNEL 4.11: the frames of a fresh handshake, by an independent cipher', async () => {
  const { socket, mine, sealer, messages, peer, keys } = byHand(true)
  const all = collect(socket)
  await pass(HOUR_MS, () => mine.write(sealer.keepAlive()))
  const [message1 = Buffer.alloc(0)] = messages()
  expect(message1).toHaveLength(32 + 48 + 16)
  const { message, send } = peer.answer(message1)
  mine.write(sealer.handshake(message))
  // the counter goes on, the key is the one of Split
  const plain = Buffer.concat([Buffer.of(0), Buffer.from('after')])
  const count = HOUR_MS / BEAT_MS + 1
  const frame = Buffer.from(chacha20poly1305(send, nonce(count)).encrypt(plain))
  const head = Buffer.alloc(2)
  head.writeUInt16BE(frame.length)
  mine.write(Buffer.concat([head, frame]))
  await eventually(() => Buffer.concat(all).toString() === 'after')
  expect(messages()).toEqual([Buffer.alloc(0)])
  expect(Buffer.from(peer.confirmed())).not.toEqual(keys.up)
  socket.destroy()
})

test.each<[string, number, (robot: ReturnType<typeof byHand>) => void]>([
  ['message 1 before its time', HOUR_MS / 2, ({ mine, sealer, peer }) => mine.write(sealer.handshake(peer.begin()))],
  ['a message 1 of junk', HOUR_MS, ({ mine, sealer }) => mine.write(sealer.handshake(randomBytes(96)))],
  ['a confirmation alone', HOUR_MS, ({ mine, sealer }) => mine.write(sealer.handshake(Buffer.alloc(0)))],
  [
    'two messages 1',
    HOUR_MS,
    ({ mine, sealer, peer }) => {
      const message = peer.begin()
      mine.write(sealer.handshake(message))
      mine.write(sealer.handshake(message))
    },
  ],
])('CHANNEL 4.11: S18: a robot ends a session after %s', async (_, ms, act) => {
  const robot = byHand(false)
  robot.socket.resume()
  await pass(ms, () => robot.mine.write(robot.sealer.keepAlive()))
  expect(robot.socket.destroyed).toBe(false)
  act(robot)
  expect(await robot.end).toMatchObject({ code: 'ECONNRESET' })
})

test('CHANNEL 4.11: a laptop whose message 1 is not answered, and a robot that gets none, end the session', async () => {
  const laptop = byHand(true)
  laptop.socket.resume()
  await pass(HOUR_MS + 60_000, () => laptop.mine.write(laptop.sealer.keepAlive()))
  expect(laptop.socket.destroyed).toBe(false)
  await pass(30_000, () => laptop.mine.write(laptop.sealer.keepAlive()))
  expect(await laptop.end).toMatchObject({ message: 'session: a fresh handshake was not answered' })

  const robot = byHand(false)
  robot.socket.resume()
  await pass(2 * HOUR_MS, () => robot.mine.write(robot.sealer.keepAlive()))
  expect(robot.socket.destroyed).toBe(false)
  await pass(30_000, () => robot.mine.write(robot.sealer.keepAlive()))
  expect(await robot.end).toMatchObject({ message: 'session: the session had no fresh handshake for two hours' })
})

test('CHANNEL 4.11: after an end frame no handshake is begun, and a message 1 that crosses it is not answered', async () => {
  const laptop = byHand(true)
  laptop.socket.resume()
  laptop.mine.write(laptop.sealer.end())
  await pass(HOUR_MS + 60_000)
  expect(laptop.messages()).toEqual([])
  laptop.socket.destroy()

  const robot = byHand(false)
  robot.socket.resume()
  await pass(HOUR_MS, () => robot.mine.write(robot.sealer.keepAlive()))
  robot.socket.end()
  await turn()
  robot.mine.write(robot.sealer.handshake(robot.peer.begin()))
  robot.mine.write(Buffer.concat(robot.sealer.data([Buffer.from('last')])))
  const all = collect(robot.socket)
  await eventually(() => Buffer.concat(all).toString() === 'last')
  expect(robot.messages()).toEqual([])
  robot.socket.destroy()
})
