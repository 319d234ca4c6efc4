import { once } from 'node:events'
import { readFile, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { greet, type RobotClient } from '../../deploy/laptop/client.ts'
import { openInner } from '../../deploy/shared/bundle/open.ts'
import { seal } from '../../deploy/shared/bundle/seal.ts'
import { verifyBase64 } from '../../deploy/shared/bundle/sshsig.ts'
import { connectSession } from '../../deploy/shared/channel/connect.ts'
import { collect } from '../channel/peers.ts'
import { eventually, SCALE } from '../e2e/eventually.ts'
import { BodyPeer, buildEndpoint, built } from './bodypeer.ts'

let body: BodyPeer
let port: number
const clients: RobotClient[] = []

beforeAll(async () => {
  await buildEndpoint()
  body = await BodyPeer.create({ ann: 'owner', bob: 'operator', eve: 'observer', mallory: null })
})
afterAll(async () => {
  await body.remove()
  await rm(built, { recursive: true, force: true })
})
beforeEach(async () => {
  body.handler = () => {}
  if (body.messages.length === 0 || body.child.exitCode !== null) port = await body.start()
})
afterEach(() => {
  for (const client of clients.splice(0)) client.close()
})

async function clientOf(name: string): Promise<RobotClient> {
  const client = await body.client(name, port)
  clients.push(client)
  return client
}

async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = []
  for await (const item of stream) items.push(item)
  return items
}

const committed = { event: 'result', outcome: 'committed', message: 'running' } as const

/** Answers installs as a body would that has copied the bytes, once `until` is over. */
function commits(seen: { staged: number[]; bytes: Buffer[] } = { staged: [], bytes: [] }, until?: Promise<void>) {
  body.handler = (message, answer) => {
    if (message.op !== 'install') return
    void (async () => {
      seen.staged.push(...(await body.staged()))
      seen.bytes.push(await readFile(body.staging[message.staged] ?? ''))
      answer({ op: 'item', item: { event: 'phase', phase: 'verify', startMs: 1 } })
      await until
      answer({ op: 'item', item: committed })
      answer({ op: 'done' })
    })()
  }
  return seen
}

test('S1: an operator with an ed25519 key of ssh-keygen is let in, a stranger with one is not', async () => {
  const client = await clientOf('bob')
  body.handler = (message, answer) => message.op === 'status' && answer({ op: 'done', value: { name: 'testbot' } })
  expect(await client.status()).toEqual({ name: 'testbot' })
  await expect(clientOf('mallory')).rejects.toMatchObject({ code: 'unknown-operator' })
  expect(await greet('127.0.0.1', port)).toMatchObject({ name: 'testbot', id: body.robot.id, version: '0.1.0' })
})

test('a card that is not its own, or whose signature is broken, never reaches the body', async () => {
  const before = body.of('who').length
  const [bob, mallory] = [body.person('bob'), body.person('mallory')]
  const options = { host: '127.0.0.1', port, robot: body.robot }
  const broken = { ...bob.card, cert: bob.card.cert.replace('bob', 'ann') }
  for (const attempt of [
    { noiseSecret: mallory.noiseSecret, cert: bob.card },
    { noiseSecret: bob.noiseSecret, cert: broken },
    { noiseSecret: bob.noiseSecret, cert: { cert: '{}', sig: '' } },
  ]) {
    await expect(connectSession({ ...options, ...attempt })).rejects.toMatchObject({ code: 'unknown-operator' })
  }
  expect(body.of('who')).toHaveLength(before)
})

test('a robot at the address that is another one is named', async () => {
  const { noiseSecret, card } = body.person('bob')
  const { RobotClient } = await import('../../deploy/laptop/client.ts')
  const robot = { ...body.robot, id: `SHA256:${'Q'.repeat(43)}` }
  const attempt = RobotClient.connect({ host: '127.0.0.1', port, noiseSecret, cert: card, robot })
  await expect(attempt).rejects.toMatchObject({
    code: 'robot-mismatch',
    message: expect.stringContaining(body.robot.id),
  })
})

test('a push is opened, staged as what was signed, and its events stream back; then staging is empty', async () => {
  const seen = commits()
  const { bytes, digest } = await body.bundle('bob')
  const client = await clientOf('bob')
  const before = performance.now()
  const events = await all(client.push('main', bytes, { force: true }))
  const took = performance.now() - before
  const [receive, open, ...later] = events
  expect(later).toEqual([{ event: 'phase', phase: 'verify', startMs: 1 }, committed])
  const install = body.of('install').at(-1)
  expect(install).toMatchObject({
    slot: 'main',
    pusher: body.person('bob').signer.fingerprint,
  })
  // what it cannot judge goes on to the body as it came
  const { fingerprint } = verifyBase64(
    install?.order?.sig ?? '',
    'order@medulla',
    Buffer.from(install?.order?.order ?? ''),
  )
  expect(fingerprint).toBe(body.person('bob').signer.fingerprint)
  expect(JSON.parse(install?.order?.order ?? '')).toMatchObject({
    order: 'push',
    force: true,
    retry: false,
    nonce: 'fresh',
  })
  // what the endpoint says of the upload is told as its own word, and to the person who pushed alone
  expect(receive).toMatchObject({ event: 'phase', phase: 'receive', by: 'endpoint', startMs: 0 })
  expect(open).toMatchObject({ event: 'phase', phase: 'open', by: 'endpoint' })
  const [receiveMs = 0, openMs = 0] = [receive, open].map((event) => (event?.event === 'phase' ? event.ms : 0))
  expect(Math.min(receiveMs, openMs)).toBeGreaterThanOrEqual(0)
  expect(receiveMs + openMs).toBeLessThan(took)
  expect(Object.keys(install ?? {}).sort()).toEqual(['op', 'id', 'slot', 'staged', 'length', 'pusher', 'order'].sort())
  expect(seen.staged).toEqual([install?.staged])
  expect(seen.bytes[0]).toHaveLength(install?.length ?? 0)
  const inner = await openInner(seen.bytes[0] ?? Buffer.alloc(0), new Set([body.person('bob').signer.publicKey]))
  expect(inner.digest).toBe(digest)
  expect(await body.staged()).toEqual([])
})

test('refused at the door, reported to the body, nothing staged', async () => {
  const bob = await clientOf('bob')
  const good = await body.bundle('bob')
  const bent = Buffer.from(good.bytes)
  bent[bent.length - 3] = (bent[bent.length - 3] ?? 0) ^ 1
  const alien = await body.bundle('bob', 'x', { robots: [{ id: body.robot.id, age: await strangerAge() }] })
  const unknown = await body.bundle('mallory')
  const observer = await body.bundle('eve')
  const junk = Buffer.from('junk'.repeat(100))
  const endless = Buffer.from(`age-encryption.org/v1\n${'-> X25519 abc\n'.repeat(20_000)}`)
  for (const [bytes, code] of [
    [bent, 'bad-bundle'],
    [good.bytes.subarray(0, good.bytes.length - 5), 'bad-bundle'],
    [good.bytes.subarray(0, 40), 'truncated'],
    [Buffer.alloc(0), 'truncated'],
    [alien.bytes, 'wrong-robot'],
    [unknown.bytes, 'unknown-operator'],
    [observer.bytes, 'unknown-operator'],
    [junk, 'unknown-format'],
    [endless, 'bad-bundle'],
    [await seal(Buffer.alloc(1024, 7), [body.robot.age ?? '']), 'bad-bundle'],
  ] as const) {
    const before = body.of('refused').length
    await expect(all(bob.push('main', bytes))).rejects.toMatchObject({ code })
    await eventually(() => body.of('refused').length === before + 1)
    expect(body.of('refused').at(-1)).toMatchObject({
      code,
      slot: 'main',
      pusher: body.person('bob').signer.fingerprint,
    })
    expect(await body.staged()).toEqual([])
  }
  const eve = await clientOf('eve')
  await expect(all(eve.push('main', good.bytes))).rejects.toMatchObject({ code: 'role' })
  await expect(all(eve.start('main'))).rejects.toMatchObject({ code: 'role' })
  await expect(all(eve.carryOut({ order: '', sig: '' }))).rejects.toMatchObject({ code: 'role' })
  await expect(all(bob.stop('Bad Name!'.replace(' ', '%20')))).rejects.toMatchObject({ code: 'usage' })
  await expect(all(bob.carryOut({ order: 'x'.repeat(40_000), sig: '' }))).rejects.toMatchObject({
    code: 'too-large',
  })
  await expect(all(bob.logs('main', { lines: 1e9 }))).rejects.toMatchObject({ code: 'usage' })
})

async function strangerAge(): Promise<string> {
  const { generateAgeIdentity } = await import('../../deploy/shared/keys.ts')
  return (await generateAgeIdentity()).recipient
}

test('what the body refuses is answered with its code, before or after the first event, and not reported twice', async () => {
  const bob = await clientOf('bob')
  const { bytes } = await body.bundle('bob')
  const error = { code: 'not-newer', message: 'older than what ran', hint: 'build again' }
  body.handler = (message, answer) => message.op === 'install' && answer({ op: 'error', error })
  const before = body.of('refused').length
  await expect(all(bob.push('main', bytes))).rejects.toMatchObject(error)
  body.handler = (message, answer) => {
    if (message.op !== 'install') return
    answer({ op: 'item', item: { event: 'phase', phase: 'spawn', startMs: 2 } })
    answer({ op: 'error', error: { ...error, code: 'no such code' } })
  }
  expect(await all(bob.push('main', bytes))).toEqual([
    expect.objectContaining({ phase: 'receive', by: 'endpoint' }),
    expect.objectContaining({ phase: 'open', by: 'endpoint' }),
    { event: 'phase', phase: 'spawn', startMs: 2 },
    { event: 'result', outcome: 'refused', code: 'internal', message: error.message, hint: error.hint },
  ])
  expect(body.of('refused')).toHaveLength(before)
  expect(await body.staged()).toEqual([])
})

test('lengths: none is 411, too large is 413 at once, and chunked is none', async () => {
  const { noiseSecret, card } = body.person('bob')
  const ask = async (head: string) => {
    const session = await connectSession({ host: '127.0.0.1', port, noiseSecret, cert: card, robot: body.robot })
    session.on('error', () => {}).write(`PUT /v1/slots/main/program HTTP/1.1\r\nHost: r\r\n${head}\r\n\r\n`)
    const heard = collect(session)
    await eventually(() => heard.length > 0 || session.closed)
    session.destroy()
    return Buffer.concat(heard).toString().split('\r\n')[0]
  }
  expect(await ask('X: y')).toMatch(/ 411 /)
  expect(await ask('Transfer-Encoding: chunked')).toMatch(/ 411 /)
  expect(await ask(`Content-Length: ${64 * 1024 * 1024 + 1}`)).toMatch(/ 413 /)
  for (const length of ['99999999999999999999', '-1', 'x', '1, 1'])
    expect(await ask(`Content-Length: ${length}`)).toBe('')
  expect(await ask('Content-Length: 1\r\nTransfer-Encoding: chunked')).toBe('')
})

function gate(): { open: () => void; opened: Promise<void> } {
  let open = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { open, opened }
}

test('CHANNEL 6.6: one push at a time in a slot, two of one operator, three in all', async () => {
  const held = gate()
  commits(undefined, held.opened)
  const bob = await clientOf('bob')
  const { bytes } = await body.bundle('bob')
  const installs = body.of('install').length
  const first = all(bob.push('main', bytes))
  await eventually(() => body.of('install').length === installs + 1)
  await expect(all(bob.push('main', bytes))).rejects.toMatchObject({ code: 'in-progress' })
  const second = all(bob.push('arm', bytes))
  await eventually(() => body.of('install').length === installs + 2)
  const own = expect.stringContaining('your pushes')
  await expect(all(bob.push('leg', bytes))).rejects.toMatchObject({ code: 'in-progress', message: own })
  // another operator has a place, and with it all are taken
  const ann = await clientOf('ann')
  const third = all(ann.push('leg', bytes))
  await eventually(() => body.of('install').length === installs + 3)
  const others = expect.stringContaining('other slots')
  await expect(all(ann.push('foot', bytes))).rejects.toMatchObject({ code: 'in-progress', message: others })
  held.open()
  expect((await first).at(-1)).toEqual(committed)
  expect((await second).at(-1)).toEqual(committed)
  expect((await third).at(-1)).toEqual(committed)
  expect((await all(bob.push('main', bytes))).at(-1)).toEqual(committed)
})

test('HANDOVER 8.6: whoever sees the result may push again at once', async () => {
  body.handler = (message, answer) => {
    if (message.op !== 'install') return
    answer({ op: 'item', item: { event: 'phase', phase: 'verify', startMs: 1 } })
    answer({ op: 'item', item: committed })
    setTimeout(() => answer({ op: 'done' }), 150)
  }
  const bob = await clientOf('bob')
  const { bytes } = await body.bundle('bob')
  for (let i = 0; i < 3; i++) {
    for await (const event of bob.push('main', bytes)) if (event.event === 'result') break
    expect(await body.staged()).toEqual([])
  }
})

test('a client that is gone in mid-upload leaves nothing, and the slot is free again', async () => {
  commits()
  const bob = await clientOf('bob')
  const { bytes } = await body.bundle('bob')
  const { noiseSecret, card } = body.person('bob')
  for (const cut of [0, 10, 300, bytes.length - 1]) {
    const session = await connectSession({ host: '127.0.0.1', port, noiseSecret, cert: card, robot: body.robot })
    session.on('error', () => {})
    session.write(`PUT /v1/slots/main/program HTTP/1.1\r\nHost: r\r\nContent-Length: ${bytes.length}\r\n\r\n`)
    session.write(bytes.subarray(0, cut))
    await new Promise((resolve) => setTimeout(resolve, 20))
    const before = body.of('refused').length
    session.destroy()
    await eventually(() => body.of('refused').length > before)
    expect(body.of('refused').at(-1)?.code).toBe('truncated')
    expect(await body.staged()).toEqual([])
  }
  expect((await all(bob.push('main', bytes))).at(-1)).toEqual(committed)
})

test('a client that is gone after the upload does not stop the swap', async () => {
  const held = gate()
  const seen = commits(undefined, held.opened)
  const { bytes } = await body.bundle('bob')
  const client = await clientOf('bob')
  for await (const event of client.push('main', bytes)) if (event.event === 'phase') break
  client.close()
  expect(seen.staged).toHaveLength(1)
  const cancels = body.of('cancel').length
  await eventually(() => body.messages.some(({ op }) => op === 'install'))
  // time in which the endpoint could cancel the install, before and after its result
  await sleep(150)
  held.open()
  await eventually(async () => (await body.staged()).length === 0)
  await sleep(50)
  expect(body.of('cancel')).toHaveLength(cancels)
})

test('bundles that come byte by byte are taken', async () => {
  commits()
  const { bytes } = await body.bundle('bob')
  const { noiseSecret, card } = body.person('bob')
  const session = await connectSession({ host: '127.0.0.1', port, noiseSecret, cert: card, robot: body.robot })
  const heard = collect(session)
  session.write(`PUT /v1/slots/main/program HTTP/1.1\r\nHost: r\r\nContent-Length: ${bytes.length}\r\n\r\n`)
  for (let i = 0; i < bytes.length; i++) {
    session.write(bytes.subarray(i, i + 1))
    // a turn for each takes a busy machine longer than an upload may (CHANNEL 6.7)
    if (i % 16 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  await eventually(() => Buffer.concat(heard).includes('"committed"'))
  session.destroy()
})

test('streams: logs, receipts and pins; a follower that leaves is cancelled at the body', async () => {
  const eve = await clientOf('eve')
  body.handler = (message, answer) => {
    if (message.op === 'logs' || message.op === 'pins') {
      answer({ op: 'item', item: { text: `line of ${message.op}` } })
      if (!message.follow) answer({ op: 'done' })
    }
    if (message.op === 'receipts') {
      for (let i = 0; i < message.limit; i++) answer({ op: 'item', item: { receipt: `${i}`, sig: '' } })
      answer({ op: 'done' })
    }
  }
  expect(await all(eve.logs('main', { lines: 3 }))).toEqual([{ text: 'line of logs' }])
  expect(await all(eve.receipts(2000))).toHaveLength(2000)
  expect(await all(eve.pins())).toEqual([{ text: 'line of pins' }])
  const before = body.of('cancel').length
  for await (const _line of eve.logs('main', { follow: true })) break
  await eventually(() => body.of('cancel').length === before + 1)
  expect(body.of('cancel').at(-1)?.id).toBe(body.of('logs').at(-1)?.id)
})

test('when the operators change, sessions are asked about again: who left is out, a new role counts', async () => {
  const [bob, eve] = [await clientOf('bob'), await clientOf('eve')]
  body.handler = (message, answer) => message.op === 'status' && answer({ op: 'done', value: {} })
  await bob.status()
  await eve.status()
  body.person('bob').role = null
  body.person('eve').role = 'operator'
  body.send({ op: 'operators' })
  commits()
  const { bytes } = await body.bundle('ann')
  expect((await all(eve.push('main', bytes))).at(-1)).toEqual(committed)
  await expect(bob.status()).rejects.toBeTruthy()
  await expect(clientOf('bob')).rejects.toMatchObject({ code: 'unknown-operator' })
  body.person('bob').role = 'operator'
  body.person('eve').role = 'observer'
  body.send({ op: 'operators' })
  await expect(all(eve.push('main', bytes))).rejects.toMatchObject({ code: 'role' })
  await clientOf('bob')
})

test('who is asked once for each card, not for each session', async () => {
  const before = body.of('who').length
  for (let i = 0; i < 3; i++) await clientOf('ann')
  expect(body.of('who').length - before).toBeLessThanOrEqual(1)
})

test('P3, P7: a captured push, sent again on the wire, does nothing', async () => {
  commits()
  const { tapWire } = await import('../channel/peers.ts')
  const wire = await tapWire(port)
  const { bytes } = await body.bundle('bob')
  const client = await body.client('bob', wire.port)
  await all(client.push('main', bytes))
  const recorded = wire.connections.map(({ up }) => Buffer.concat(up))
  const installs = body.of('install').length
  client.close()
  wire.close()
  for (const stream of recorded) {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => {})
    socket.resume().write(stream)
    await once(socket, 'close')
  }
  expect(body.of('install')).toHaveLength(installs)
})

test('HANDOVER 8.14: an endpoint that is not confined as it was told serves nobody', async () => {
  const other = await BodyPeer.create({})
  other.confine = { user: 4711, seccomp: true }
  await expect(other.start()).rejects.toMatchObject({
    op: 'failed',
    code: 'internal',
    message: expect.stringContaining('not confined'),
  })
  await eventually(() => other.child.exitCode !== null)
  expect(other.child.exitCode).toBe(1)
  await other.remove()
})

test('it does not outlive the body, and nonsense from the body ends it', async () => {
  const client = await clientOf('ann')
  const pending = client.status().catch((error) => error.code)
  const { child } = body
  await body.stop()
  expect(child.exitCode).toBe(0)
  expect(await pending).toMatch(/^(unreachable|body-away)$/)
  for (const nonsense of ['what\n', '{"op":"run"}\n', `${'x'.repeat(300_000)}`]) {
    port = await body.start()
    body.write(nonsense)
    await once(body.child, 'exit')
  }
  port = await body.start()
})

test('slowloris: the opening of a real endpoint ends in time (CHANNEL 5.1)', async () => {
  await body.stop()
  port = await body.start(0, { MEDULLA_TIME_SCALE: '0.05' })
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {}).resume()
  const drip = setInterval(() => socket.writable && socket.write('G'), 20)
  const begin = performance.now()
  // not once(): it rejects when what still drips is answered by a reset
  await new Promise((resolve) => socket.once('close', resolve))
  clearInterval(drip)
  // this endpoint was told to take a twentieth of the 5 s that CHANNEL 5.1 allows
  expect(performance.now() - begin).toBeLessThan(5000 * SCALE)
  await body.stop()
  port = await body.start()
})
