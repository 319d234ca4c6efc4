/** Pushes that are refused before anything is executed: with a code, nothing left on disk, the running program untouched. */

import { once } from 'node:events'
import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { RobotClient } from '../../deploy/laptop/client.ts'
import { openSealed, seal } from '../../deploy/shared/bundle/seal.ts'
import { connectSession } from '../../deploy/shared/channel/connect.ts'
import type { RefusalCode } from '../../deploy/shared/errors.ts'
import { generateAgeIdentity } from '../../deploy/shared/keys.ts'
import { WIRE } from '../../runtime/sdk/wire.ts'
import { streamOf, tapWire } from '../deploy/shared/channel/peers.ts'
import { flip, seeded } from '../fixtures/random.ts'
import { eventually } from './eventually.ts'
import { forge, type Made, nextCounter } from './programs.ts'
import { ended, makeOperator, type Pushed, TestRobot } from './robot.ts'
import { expectNoTickLost } from './trace.ts'

let robot: TestRobot

beforeAll(async () => {
  robot = await TestRobot.start({}, { eve: 'observer', oscar: 'operator' })
  await robot.commit('steady')
})
afterAll(async () => robot?.close())

/** `receipts`: number of new receipts; a stranger leaves none. */
async function untouched<T>(receipts: number, attempt: () => Promise<T>): Promise<T> {
  const contents = await robot.quiet()
  const before = await robot.running()
  const log = robot.receipts()
  const mark = robot.trace.mark()
  const result = await attempt()
  await eventually(() => robot.staged.length === 0)
  expect(await robot.quiet()).toEqual(contents)
  await robot.trace.more('dial')
  const { pid, fence, digest, restarts } = before
  expect(await robot.running()).toMatchObject({ pid, fence, digest, restarts })
  expectNoTickLost(robot.trace.since(mark))
  const more = await eventually(() => {
    const gained = robot.receipts().slice(log.length)
    return gained.length >= receipts && gained
  })
  expect(more.map(({ outcome }) => outcome)).toEqual(Array.from({ length: receipts }, () => 'refused'))
  robot.check(mark)
  return result
}

async function refused(attempt: () => Promise<Pushed>, code: RefusalCode): Promise<Pushed> {
  const result = await untouched(1, attempt)
  expect(result, result.message).toMatchObject({ outcome: 'refused', code })
  expect(robot.receipt()).toMatchObject({ outcome: 'refused', code, phases: [], gapMs: null })
  return result
}

test('a stranger is refused before any request, and leaves no receipt', async () => {
  const stranger = await makeOperator(robot.folder, 'stranger')
  await untouched(0, async () => {
    await expect(robot.connect(stranger)).rejects.toMatchObject({ code: 'unknown-operator' })
  })
})

test('S3: the laptop refuses a robot whose key is not the one on the card', async () => {
  const noise = Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString('base64')
  const { robot: identity, ...options } = robot.options()
  await untouched(0, async () => {
    await expect(RobotClient.connect({ ...options, robot: { ...identity, noise } })).rejects.toMatchObject({
      code: expect.stringMatching(/^(?:robot-mismatch|unknown-operator)$/),
    })
  })
})

test('an observer can read the status, and cannot push', async () => {
  const client = await robot.connect(robot.others.eve)
  const { bytes } = await robot.bundle('counter')
  await refused(() => ended(client.push('main', bytes)), 'role')
  expect((await client.status()).slots).toHaveLength(1)
  client.close()
})

test('a release with the signature of another key is refused', async () => {
  const stranger = await makeOperator(robot.folder, 'signer')
  const { bytes } = await forge('counter', stranger.signer, robot.address, {})
  await refused(() => robot.send(bytes), 'unknown-operator')
})

test("another robot's bundle is refused, also when it was sealed again for this robot", async () => {
  const { recipient, identity } = await generateAgeIdentity()
  const other = { id: `SHA256:${'B'.repeat(43)}`, age: recipient }
  const { bytes } = await forge('counter', robot.owner.signer, other, {})
  await refused(() => robot.send(bytes), 'wrong-robot')
  const forwarded = await seal(await openSealed(bytes, identity), [robot.address.age])
  await refused(() => robot.send(forwarded), 'wrong-robot')
})

const made = (change: Parameters<typeof forge>[3]) => forge('counter', robot.owner.signer, robot.address, change)

test.each<[string, RefusalCode, () => Promise<Made>]>([
  ['unsigned', 'unsigned', () => made({ unsigned: true })],
  ['Y7: another architecture', 'wrong-arch', () => made({ release: { arch: ['mips'] } })],
  ['Y7: a newer Node', 'wrong-node', () => made({ release: { node: '>=99.0' } })],
  ['Y7: a handle that this board has not', 'missing-handle', () => robot.bundle('needs-ghost')],
  ['Y7: a handle of another kind', 'wrong-kind', () => robot.bundle('needs-led-as-input')],
  ['another protocol', 'wrong-wire', () => made({ manifest: { wire: WIRE + 1 } })],
  ['bound to another slot', 'wrong-slot', () => made({ release: { slot: 'arm' } })],
  ['expired', 'expired', () => made({ release: { expires: '2020-01-01T00:00:00.000Z' } })],
  ['a manifest of another program', 'bad-bundle', () => made({ manifest: { program: 'other' } })],
  ['a release of kind runtime', 'wrong-slot', () => made({ release: { kind: 'runtime' } })],
])('a bundle with %s is refused: %s', async (_, code, make) => {
  const { bytes } = await make()
  await refused(() => robot.send(bytes), code)
})

test('a program that needs a handle of another slot is refused', async () => {
  const { bytes } = await robot.bundle('counter')
  const { message } = await refused(() => robot.send(bytes, { to: 'arm' }), 'handle-leased')
  expect(message).toMatch(/arm .*main/)
})

test('Y6: an older release is refused, although its signature is valid', async () => {
  const { bytes } = await robot.bundle('steady', { counter: nextCounter() - 3_600_000 })
  await refused(() => robot.send(bytes), 'not-newer')
})

test('BUNDLE 10.9: a counter more than a day ahead of the clock is refused, also from an owner', async () => {
  const client = await robot.connect(robot.others.oscar)
  const { bytes } = await robot.bundle('counter', { counter: nextCounter() + 25 * 3600 * 1000 })
  await refused(() => ended(client.push('main', bytes)), 'ahead-of-clock')
  client.close()
  await refused(() => robot.send(bytes), 'ahead-of-clock')
})

test('P6: a bundle with any of 40 bits flipped is refused, with nothing written and nothing executed', async () => {
  const { bytes } = await robot.bundle('counter')
  const next = seeded(20_26)
  // pushed by another operator: the owner's refusals would exceed the limit of recorded ones (HANDOVER 8.18)
  const client = await robot.connect(robot.others.oscar)
  const results = await untouched(40, async () => {
    const all: Pushed[] = []
    // every second flip is in the header, which is short
    for (let i = 0; i < 40; i++) {
      const bit = Math.floor(next() * 8 * (i % 2 === 0 ? 250 : bytes.length))
      all.push(await ended(client.push('main', flip(bytes, bit))))
    }
    return all
  })
  client.close()
  expect(new Set(results.map(({ outcome }) => outcome))).toEqual(new Set(['refused']))
  const codes: (string | undefined)[] = ['bad-bundle', 'unknown-format', 'wrong-robot', 'too-large', 'truncated']
  expect(results.filter(({ code }) => !codes.includes(code))).toEqual([])
})

/** Raw HTTP inside a session. */
async function session(): Promise<{ socket: Duplex; answer: (ends: string) => Promise<string> }> {
  const socket = streamOf(await connectSession(robot.options()))
  socket.on('error', () => {})
  let heard = ''
  socket.on('data', (chunk: Buffer) => {
    heard += chunk.toString()
  })
  return { socket, answer: (ends) => eventually(() => heard.includes(ends) && heard) }
}

const head = (more: string): string => `PUT /v1/slots/main/program HTTP/1.1\r\nHost: robot\r\n${more}\r\n\r\n`

test('uploads that end early are refused, however they end', async () => {
  const { bytes } = await robot.bundle('counter')
  await refused(() => robot.send(bytes.subarray(0, 100)), 'truncated')
  await refused(() => robot.send(bytes.subarray(0, bytes.length - 1)), 'bad-bundle')
  await refused(() => robot.send(Buffer.concat([bytes, Buffer.from('x')])), 'bad-bundle')
  await refused(() => robot.send(new Uint8Array(0)), 'truncated')
  await refused(() => robot.send(Buffer.from('#!/bin/sh\necho a text file\n')), 'unknown-format')
  await untouched(1, async () => {
    const { socket } = await session()
    socket.write(head(`Content-Length: ${bytes.length}`))
    socket.write(bytes.subarray(0, bytes.length / 2), () => socket.destroy())
    await eventually(() => robot.receipts().at(-1)?.code === 'truncated')
  })
})

test('S17: endless uploads are refused', async () => {
  await untouched(1, async () => {
    const { socket, answer } = await session()
    socket.write(head(`Content-Length: ${1e12}`))
    expect(await answer('"too-large"')).toMatch(/^HTTP\/1\.1 413 /)
    socket.destroy()
  })
  await untouched(1, async () => {
    const { socket, answer } = await session()
    socket.write(head('Transfer-Encoding: chunked'))
    const drip = setInterval(() => socket.write('1000\r\n'.concat('x'.repeat(4096), '\r\n')), 1)
    expect(await answer('"usage"')).toMatch(/^HTTP\/1\.1 411 /)
    clearInterval(drip)
    socket.destroy()
  })
  // an endless list of stanzas in the header: refused during the upload
  const stanza = `-> X25519 ${'A'.repeat(43)}\n${'A'.repeat(43)}\n`
  const endless = Buffer.from(`age-encryption.org/v1\n${stanza.repeat(20_000)}`)
  await refused(() => robot.send(endless), 'too-large')
})

test('a bundle that arrives in 1-byte writes is accepted', async () => {
  const { bytes } = await robot.bundle('steady', { version: '1.0.1' })
  const { socket, answer } = await session()
  for (const part of [Buffer.from(head(`Content-Length: ${bytes.length}\r\nConnection: close`)), bytes]) {
    for (let at = 0; at < part.length; at++) {
      socket.write(part.subarray(at, at + 1))
      // one turn of the event loop for each byte could exceed the time limit of an upload (CHANNEL 6.7)
      if (at % 8 === 0) await new Promise(setImmediate)
    }
  }
  expect(await answer('"event":"result"')).toContain('"outcome":"committed"')
  socket.destroy()
  robot.check()
})

test('of two simultaneous pushes to one slot one is refused with in-progress', async () => {
  const others = await Promise.all([robot.connect(), robot.connect()])
  const bundles = await Promise.all([robot.bundle('steady'), robot.bundle('steady')])
  const results = await Promise.all(others.map((client, i) => ended(client.push('main', bundles[i]?.bytes ?? new Uint8Array())))) // biome-ignore format: one call
  for (const client of others) client.close()
  expect(results.map(({ outcome }) => outcome).sort()).toEqual(['committed', 'refused'])
  expect(results.find(({ outcome }) => outcome === 'refused')).toMatchObject({ code: 'in-progress' })
  expect(robot.receipts().slice(-2).map(({ code }) => code).sort()).toEqual(['in-progress', undefined]) // biome-ignore format: one line
  robot.check()
})

test('HANDOVER 2.4: a second push during a swap is refused with in-progress at once', async () => {
  const [first, second] = await Promise.all([robot.bundle('slow-import'), robot.bundle('steady')])
  let answer: Promise<Pushed> | undefined
  for await (const event of robot.client.push('main', first.bytes)) {
    if (event.event === 'phase' && event.phase === 'spawn') answer ??= robot.send(second.bytes)
    if (event.event === 'phase' && event.phase === 'trial') expect(await answer).toMatchObject({ code: 'in-progress' })
    if (event.event === 'result') expect(event.outcome).toBe('committed')
  }
  await robot.commit('steady')
  robot.check()
})

test('P7: a replayed push is refused in the same session, the next session, after a newer version and after a restart', {
  tags: ['slow'],
}, async () => {
  const wire = await tapWire(robot.port)
  const client = await robot.connect(robot.owner, wire.port)
  const first = await robot.bundle('steady', { version: '7.0.0' })
  expect(await ended(client.push('main', first.bytes))).toMatchObject({ outcome: 'committed' })
  const captured = Buffer.concat(wire.connections.flatMap(({ up }) => up))

  // the same bundle, pushed by an operator
  await refused(() => ended(client.push('main', first.bytes)), 'already-installed')
  client.close()
  const next = await robot.connect()
  await refused(() => ended(next.push('main', first.bytes)), 'already-installed')
  const second = await robot.bundle('steady', { version: '7.1.0' })
  expect(await ended(next.push('main', second.bytes))).toMatchObject({ outcome: 'committed' })
  await refused(() => ended(next.push('main', first.bytes)), 'not-newer')
  next.close()

  // the same bytes on the wire, sent by anyone
  const replay = () =>
    untouched(0, async () => {
      const socket = connect(robot.port, '127.0.0.1')
      socket.on('error', () => {})
      const heard: Buffer[] = []
      socket.on('data', (chunk: Buffer) => heard.push(chunk))
      socket.write(captured)
      await once(socket, 'close')
      // at most the answer to the handshake comes, which differs each time
      expect(Buffer.concat(heard).length).toBeLessThan(4096)
    })
  await replay()
  wire.close()

  await robot.end()
  await robot.begin()
  await robot.running()
  await refused(() => robot.send(first.bytes), 'not-newer')
  await refused(() => robot.send(second.bytes), 'already-installed')
  await replay()
  expect(await robot.slot()).toMatchObject({ digest: second.digest, version: '7.1.0' })
})

test('an undone release is refused without --retry, also after a restart', async () => {
  const bad = await robot.bundle('dies-in-trial')
  expect(await robot.send(bad.bytes)).toMatchObject({ outcome: 'rolled-back', code: 'died-in-trial' })
  await refused(() => robot.send(bad.bytes), 'tried-before')
  await robot.end()
  await robot.begin()
  await robot.running()
  await refused(() => robot.send(bad.bytes), 'tried-before')
  expect(await robot.send(bad.bytes, { retry: true })).toMatchObject({ outcome: 'rolled-back', code: 'died-in-trial' })
})

test('HANDOVER 8.10: an order to force or retry must be signed by the pusher, for this release', async () => {
  const bad = await robot.bundle('dies-in-trial')
  expect(await robot.send(bad.bytes)).toMatchObject({ outcome: 'rolled-back', code: 'died-in-trial' })
  const push = (client: RobotClient, digest: string) => ended(client.push('main', bad.bytes, { retry: true, digest }))
  await refused(() => push(robot.client, `sha256:${'0'.repeat(64)}`), 'stale-order')
  const { oscar } = robot.others
  const forwarded = await RobotClient.connect({ ...robot.options(oscar), signer: async () => robot.owner.signer })
  try {
    await refused(() => push(forwarded, bad.digest), 'unknown-operator')
  } finally {
    forwarded.close()
  }
  expect(await push(robot.client, bad.digest)).toMatchObject({ outcome: 'rolled-back', code: 'died-in-trial' })
})
