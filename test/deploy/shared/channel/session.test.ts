import crypto from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, onTestFinished, test } from 'vitest'
import { connectSession } from '../../../../deploy/shared/channel/connect.ts'
import { Deframer, Opener, Sealer } from '../../../../deploy/shared/channel/frame.ts'
import { encodeCard, encodeMessage, prologue } from '../../../../deploy/shared/channel/handshake.ts'
import { generateKeyPair, keyPair, type SecureSocket } from '../../../../deploy/shared/channel/index.ts'
import { Handshake, type Split } from '../../../../deploy/shared/channel/noise.ts'
import { dh } from '../../../../deploy/shared/channel/x25519.ts'
import { eventually, SCALE } from '../../../e2e/eventually.ts'
import {
  closed,
  collect,
  connectOptions,
  makeOperator,
  memoryPipe,
  openPair,
  ROBOT_ID,
  type Robot,
  robotCard,
  startRobot,
  tapWire,
  UPGRADE,
  upgraded,
} from './peers.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const ann = makeOperator()

async function robotFor(options: Parameters<typeof startRobot>[1] = {}): Promise<Robot> {
  const robot = await startRobot([ann], options)
  cleanups.push(robot.close)
  return robot
}

async function wireTo(robot: Robot, bend?: Parameters<typeof tapWire>[1]) {
  const wire = await tapWire(robot.port, bend)
  cleanups.push(wire.close)
  return wire
}

async function say(from: SecureSocket, to: SecureSocket, text: string): Promise<void> {
  const heard = collect(to)
  from.write(text)
  await eventually(() => Buffer.concat(heard).toString() === text)
}

// a session needs an ordered byte stream, whichever it is (CHANNEL 1.1)
test('CHANNEL 1.1: S2: a session works over TCP, a UNIX socket and an in-memory pipe', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'medulla-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'robot.sock')
  const tcp = await robotFor()
  const unix = await robotFor({ path })
  for (const [robot, dial] of [
    [tcp, undefined],
    [unix, () => connect(path)],
    [
      tcp,
      () => {
        const [mine, its] = memoryPipe()
        tcp.listener.server.emit('connection', its)
        return mine
      },
    ],
  ] as const) {
    const { laptop, server } = await openPair(robot, ann, dial ? { dial } : {})
    expect(server.peer?.name).toBe('ann')
    await say(laptop, server, 'up')
    await say(server, laptop, 'down')
    const ends = [closed(laptop), closed(server)]
    laptop.end()
    server.end()
    expect(await Promise.all(ends)).toEqual([undefined, undefined])
  }
})

test('CHANNEL 4.5: half-closing: each direction ends by itself, nothing is lost', async () => {
  const robot = await robotFor()
  const { laptop, server } = await openPair(robot, ann)
  server.on('data', () => {}).on('end', () => server.end(Buffer.alloc(3_000_000, 7)))
  let received = 0
  laptop.on('data', (chunk) => {
    received += chunk.length
  })
  const end = closed(laptop)
  laptop.end('question')
  expect(await end).toBe(undefined)
  expect(received).toBe(3_000_000)
})

test('CHANNEL 3.5: S3: a robot that does not hold the key of its card is refused', async () => {
  const robot = await robotFor()
  const impostor = { noise: generateKeyPair(), port: robot.port }
  await expect(connectSession(connectOptions(impostor, ann))).rejects.toMatchObject({ code: 'unknown-operator' })
  // one that answers all the same, with a key of its own
  const liar = await wireTo(robot, (chunk, direction) => {
    if (direction === 'up' || !chunk.includes('101 Switching')) return chunk
    const at = chunk.indexOf('\r\n\r\n') + 4
    return Buffer.concat([chunk.subarray(0, at), encodeMessage(crypto.randomBytes(48))])
  })
  const options = connectOptions({ noise: robot.noise, port: liar.port }, ann)
  await expect(connectSession(options)).rejects.toMatchObject({ code: 'robot-mismatch' })
  // right key, another robot's id: the prologue differs
  const other = { ...connectOptions(robot, ann), robot: robotCard(robot.noise, `SHA256:${'Q'.repeat(43)}`) }
  await expect(connectSession(other)).rejects.toMatchObject({ code: 'unknown-operator' })
  expect(robot.sessions).toEqual([])
})

test('CHANNEL 3.2, 3.3, 3.7: an unknown operator, a broken card and garbage get the same answer: none', async () => {
  const robot = await robotFor()
  await expect(connectSession(connectOptions(robot, makeOperator()))).rejects.toMatchObject({
    code: 'unknown-operator',
  })
  const answers: string[] = []
  const handshake =
    (who = ann, payload = encodeCard(ann.card)) =>
    (challenge: Buffer) => {
      const meant = prologue(ROBOT_ID, challenge)
      const options = { pattern: 'IK', initiator: true, prologue: meant, static: who.noise } as const
      return new Handshake({ ...options, remoteStatic: robot.noise.public }).write(payload)
    }
  for (const message of [
    handshake(makeOperator()),
    handshake(ann, Buffer.from('{"cert":1,"sig":""}')),
    handshake(ann, Buffer.from('{"cert":"","sig":"","x":""}')),
    handshake(ann, Buffer.from([0xff, 0xfe])),
    () => crypto.randomBytes(200),
    () => Buffer.alloc(200),
    () => crypto.randomBytes(9000),
    () => crypto.randomBytes(20),
  ]) {
    const { socket, answer, challenge } = await upgraded(robot.port)
    socket.write(encodeMessage(message(challenge)))
    await closed(socket)
    // the challenge is another one each time, and says nothing
    answers.push(Buffer.concat(answer).toString().replace(challenge.toString('base64'), ''))
  }
  expect(new Set(answers).size).toBe(1)
  expect(answers[0]).toMatch(/^HTTP\/1\.1 101 [\s\S]*\r\n\r\n$/)
  expect(robot.sessions).toEqual([])
  expect(new Set(robot.reasons).size).toBeGreaterThan(3) // the log knows
})

test('CHANNEL 3.6: S6: the laptop sends nothing but its card before the robot has proven itself', async () => {
  const robot = await robotFor()
  const silent = await wireTo(robot, (chunk, direction) => {
    if (direction === 'up') return chunk
    const at = chunk.indexOf('\r\n\r\n')
    return at < 0 ? null : chunk.subarray(0, at + 4) // message 2 never arrives
  })
  const attempt = connectSession({
    ...connectOptions({ noise: robot.noise, port: silent.port }, ann),
    timeoutMs: 1500 * SCALE,
  })
  await expect(attempt).rejects.toMatchObject({ code: 'unreachable' })
  const sent = Buffer.concat(silent.connections[0]?.up ?? [])
  const head = sent.indexOf('\r\n\r\n') + 4
  expect(sent.length - head).toBe(2 + 32 + 48 + encodeCard(ann.card).length + 16)
  expect(robot.sessions).toEqual([])
})

test('CHANNEL 3.6: S6: the robot has no session before a frame of the laptop has confirmed', async () => {
  const robot = await robotFor({ deadlineMs: 1500 * SCALE })
  const start = async () => {
    const { socket, answer, challenge } = await upgraded(robot.port)
    const handshake = newHandshake(robot, challenge)
    socket.write(encodeMessage(handshake.write(encodeCard(ann.card))))
    await eventually(() => Buffer.concat(answer).length > Buffer.concat(answer).indexOf('\r\n\r\n') + 4 + 49)
    handshake.read(Buffer.concat(answer).subarray(-48))
    return { socket, keys: handshake.split() }
  }
  const request = Buffer.from('GET / HTTP/1.1\r\n\r\n')
  const firstFrames: ((keys: Split) => Buffer)[] = [
    () => Buffer.alloc(0), // nothing: the deadline
    () => encodeMessage(crypto.randomBytes(16)),
    (keys) => Buffer.concat(new Sealer(keys.send).data([request])), // data is no confirmation
    (keys) => new Sealer(keys.send).end(),
    (keys) => new Sealer(keys.receive).confirm(), // its own direction, reflected
  ]
  for (const frame of firstFrames) {
    const { socket, keys } = await start()
    const end = closed(socket)
    socket.write(frame(keys))
    await end
  }
  expect(robot.sessions).toEqual([])
  expect(robot.listener.sessions.size).toBe(0)
  const { socket, keys } = await start()
  socket.write(new Sealer(keys.send).confirm())
  await eventually(() => robot.sessions.length === 1)
  socket.destroy()
})

function newHandshake(robot: Robot, challenge: Uint8Array, ephemeral?: ReturnType<typeof generateKeyPair>) {
  return new Handshake({
    pattern: 'IK',
    initiator: true,
    prologue: prologue(ROBOT_ID, challenge),
    static: ann.noise,
    remoteStatic: robot.noise.public,
    ...(ephemeral && { ephemeral }),
  })
}

test('P3, P7: the recorded bytes of a whole connection, sent again, do nothing', async () => {
  const robot = await robotFor()
  const wire = await wireTo(robot)
  const { laptop, server } = await openPair({ ...robot, port: wire.port }, ann)
  await say(laptop, server, 'PUT /v1/slots/main/program')
  const recorded = Buffer.concat(wire.connections[0]?.up ?? [])
  // in the same session: appended to what is already there
  const end = closed(server)
  wire.connections[0]?.server.write(recorded.subarray(-(2 + 1 + 26 + 16)))
  expect(await end).toMatchObject({ code: 'ECONNRESET' })
  // in new ones, all at once and bit by bit
  for (let i = 0; i < 3; i++) {
    const socket = connect(robot.port, '127.0.0.1')
    const answer = collect(socket)
    if (i === 0) socket.write(recorded)
    else for (const byte of recorded) socket.write(Buffer.of(byte))
    await closed(socket)
    expect(Buffer.concat(answer).toString('latin1')).toMatch(/^HTTP\/1\.1 101 /)
  }
  expect(robot.sessions).toHaveLength(1)
  // and after a restart of the robot with the same key
  await robot.close()
  const again = await robotFor({ noise: robot.noise })
  const socket = connect(again.port, '127.0.0.1')
  socket.write(recorded)
  socket.resume()
  await closed(socket)
  expect(again.sessions).toEqual([])
})

test('S4: recorded traffic and both static keys do not decrypt', async () => {
  const robotSecret = crypto.randomBytes(32)
  const robot = await robotFor({ noise: keyPair(robotSecret) })
  const wire = await wireTo(robot)
  const ephemeral = generateKeyPair()
  const { socket, answer: down, challenge } = await upgraded(wire.port)
  const handshake = newHandshake(robot, challenge, ephemeral)
  const before = Buffer.concat(down).length
  socket.write(encodeMessage(handshake.write(encodeCard(ann.card))))
  await eventually(() => Buffer.concat(down).length === before + 50)
  const message2 = Buffer.concat(down).subarray(-48)
  handshake.read(message2)
  const sealer = new Sealer(handshake.split().send)
  socket.write(sealer.confirm())
  socket.write(Buffer.concat(sealer.data([Buffer.from('secret program')])))
  const up = await eventually(() => {
    const all = Buffer.concat(wire.connections[0]?.up ?? [])
    const expected = UPGRADE.length + 98 + encodeCard(ann.card).length + 18 + 33
    return all.length === expected && robot.sessions.length === 1 && all
  })
  socket.destroy()
  const frames: Buffer[] = []
  new Deframer().push(up.subarray(up.indexOf('\r\n\r\n') + 4), (frame) => frames.push(Buffer.from(frame)) > 0)
  const [message1, ...transport] = frames
  if (!message1 || transport.length !== 2) throw new Error('recording is incomplete')

  /** All that Noise mixes in message 2, with `ee` given: what is left to whoever holds both statics. */
  const attack = (ee: Uint8Array): string | null => {
    // message 1 opens with the robot's static key: its card has no forward secrecy (CHANNEL 3.8)
    const meant = prologue(ROBOT_ID, challenge)
    const thief = new Handshake({ pattern: 'IK', initiator: false, prologue: meant, static: robot.noise })
    expect(Buffer.from(thief.read(message1)).toString()).toBe(encodeCard(ann.card).toString())
    const es = dh(robot.noise, message1.subarray(0, 32))
    const ss = dh(robot.noise, ann.noise.public)
    const se = dh(ann.noise, message2.subarray(0, 32))
    let ck: Buffer = Buffer.from('Noise_IK_25519_ChaChaPoly_SHA256') // 32 bytes: its own hash (Noise 5.2)
    for (const input of [es, ss, ee, se]) ck = hkdf(ck, input)[0]
    const [first] = hkdf(ck, new Uint8Array(0))
    const opener = new Opener(first)
    try {
      return transport
        .map((frame) => opener.open(frame))
        .map((frame) => (frame.kind === 'data' ? frame.data : ''))
        .join('')
    } catch {
      return null
    }
  }
  const real = dh(ephemeral, message2.subarray(0, 32))
  expect(attack(real)).toBe('secret program') // the method is right: only ee is missing
  const statics = [ann.noise, robot.noise]
  const publics = [ann.noise.public, robot.noise.public, message1.subarray(0, 32), message2.subarray(0, 32)]
  const guesses = [Buffer.alloc(32), new Uint8Array(0), ...statics.flatMap((own) => publics.map((key) => dh(own, key)))]
  for (const guess of guesses) expect(attack(guess)).toBe(null)
})

function hkdf(ck: Uint8Array, input: Uint8Array): [Buffer, Buffer] {
  const temp = crypto.createHmac('sha256', ck).update(input).digest()
  const first = crypto.createHmac('sha256', temp).update(Buffer.of(1)).digest()
  return [first, crypto.createHmac('sha256', temp).update(first).update(Buffer.of(2)).digest()]
}

test('CHANNEL 5.6: S13: a message of many frames arrives whole, and a reader that does not read holds the writer back', async () => {
  const robot = await robotFor()
  const { laptop, server } = await openPair(robot, ann)
  const message = crypto.randomBytes(24 * 1024 * 1024)
  laptop.write(message)
  await new Promise((resolve) => setTimeout(resolve, 100))
  expect(laptop.writableLength).toBe(message.length) // not taken yet
  expect(laptop.bytesWritten).toBeLessThan(message.length) // and not sealed ahead
  expect(server.readableLength).toBeLessThan(1024 * 1024)
  const heard = collect(server)
  const all = await eventually(
    () => heard.reduce((sum, part) => sum + part.length, 0) === message.length && Buffer.concat(heard),
  )
  expect(Buffer.compare(all, message)).toBe(0)
})
