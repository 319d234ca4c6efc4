/** Who is let in by a real endpoint process, and how it lives and ends; pushes are in push.test.ts. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { expect, test } from 'vitest'
import { greet } from '../../../deploy/laptop/client.ts'
import { connectSession } from '../../../deploy/shared/channel/connect.ts'
import { eventually, SCALE } from '../../e2e/eventually.ts'
import { BodyPeer } from './bodypeer.ts'
import { all, body, clientOf, commits, committed, port, startEndpoint, useEndpoint } from './endpointbench.ts'

useEndpoint()

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
  const { RobotClient } = await import('../../../deploy/laptop/client.ts')
  const robot = { ...body.robot, id: `SHA256:${'Q'.repeat(43)}` }
  const attempt = RobotClient.connect({ host: '127.0.0.1', port, noiseSecret, cert: card, robot })
  await expect(attempt).rejects.toMatchObject({
    code: 'robot-mismatch',
    message: expect.stringContaining(body.robot.id),
  })
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

test('CHANNEL 6.5: when the operators change, sessions are asked about again: who left is out, a new role counts', async () => {
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

test('CHANNEL 6.5: who comes while the operators change again and again is let in', async () => {
  let changes = 5
  body.handler = ({ op }) => op === 'who' && changes-- > 0 && body.send({ op: 'operators' })
  body.send({ op: 'operators' })
  const before = body.of('who').length
  await clientOf('bob')
  // Each answer was given after a change of its own; none of them is remembered.
  expect(body.of('who').length).toBeGreaterThan(before)
  await clientOf('bob')
  expect(body.of('who').length).toBeGreaterThan(before + 1)
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
    await startEndpoint()
    body.write(nonsense)
    await once(body.child, 'exit')
  }
  await startEndpoint()
})

test('slowloris: the opening of a real endpoint ends in time (CHANNEL 5.1)', async () => {
  await body.stop()
  await startEndpoint({ MEDULLA_TIME_SCALE: String(0.05 * SCALE) })
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
  await startEndpoint()
})
