/** Pushes through a real endpoint process: opened, staged, refused, cut off, sent again. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { openInner } from '../../../deploy/shared/bundle/open.ts'
import { seal } from '../../../deploy/shared/bundle/seal.ts'
import { verifyBase64 } from '../../../deploy/shared/bundle/sshsig.ts'
import { connectSession } from '../../../deploy/shared/channel/connect.ts'
import { collect, streamOf } from '../../deploy/shared/channel/peers.ts'
import { eventually } from '../../e2e/eventually.ts'
import { all, body, clientOf, commits, committed, port, useEndpoint } from './endpointbench.ts'

useEndpoint()

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

test('refused by the endpoint, reported to the body, nothing staged', async () => {
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
  const { generateAgeIdentity } = await import('../../../deploy/shared/keys.ts')
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
    const session = streamOf(
      await connectSession({ host: '127.0.0.1', port, noiseSecret, cert: card, robot: body.robot }),
    )
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
    const session = streamOf(
      await connectSession({ host: '127.0.0.1', port, noiseSecret, cert: card, robot: body.robot }),
    )
    session.on('error', () => {})
    const heard = collect(session)
    const head = `PUT /v1/slots/main/program HTTP/1.1\r\nHost: r\r\nContent-Length: ${bytes.length}`
    session.write(`${head}\r\nExpect: 100-continue\r\n\r\n`)
    // the robot has the head, and waits for the rest
    await eventually(() => Buffer.concat(heard).includes('100 Continue'))
    session.write(bytes.subarray(0, cut))
    const truncated = () => body.of('refused').filter(({ code }) => code === 'truncated').length
    const before = truncated()
    session.destroy()
    await eventually(() => truncated() === before + 1)
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
  const session = streamOf(
    await connectSession({ host: '127.0.0.1', port, noiseSecret, cert: card, robot: body.robot }),
  )
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

test('P3, P7: a captured push, sent again on the wire, does nothing', async () => {
  commits()
  const { tapWire } = await import('../../deploy/shared/channel/peers.ts')
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
