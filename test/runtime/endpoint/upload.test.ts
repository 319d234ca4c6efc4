/** How slow an upload may be (CHANNEL 6.7), of a real endpoint process. */
import { rm } from 'node:fs/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { connectSession } from '../../../deploy/shared/channel/connect.ts'
import { collect, streamOf } from '../../deploy/shared/channel/peers.ts'
import { eventually, SCALE } from '../../e2e/eventually.ts'
import { BodyPeer, buildEndpoint, built } from './bodypeer.ts'

let body: BodyPeer

beforeAll(async () => {
  await buildEndpoint()
  body = await BodyPeer.create({ bob: 'operator' })
})
afterAll(async () => {
  await body.remove()
  await rm(built, { recursive: true, force: true })
})

/** A push by hand, `bytesPerMs` of the bundle in pieces; resolves with what was answered, and after how many ms. */
async function uploaded(port: number, bundle: Uint8Array, bytesPerMs: number, pieceMs: number) {
  const { noiseSecret, card } = body.person('bob')
  const session = streamOf(
    await connectSession({ host: '127.0.0.1', port, noiseSecret, cert: card, robot: body.robot }),
  )
  session.on('error', () => {})
  const heard = collect(session)
  const began = performance.now()
  session.write(`PUT /v1/slots/main/program HTTP/1.1\r\nHost: r\r\nContent-Length: ${bundle.length}\r\n\r\n`)
  let sent = 0
  const drip = setInterval(() => {
    const due = Math.min(bundle.length, Math.floor((performance.now() - began) * bytesPerMs))
    if (due > sent && session.writable) session.write(bundle.subarray(sent, due))
    sent = Math.max(sent, due)
  }, pieceMs)
  await eventually(() => /"(code|outcome)":/.test(Buffer.concat(heard).toString()) || session.closed, 120_000 * SCALE)
  clearInterval(drip)
  const ms = performance.now() - began
  session.destroy()
  return { text: Buffer.concat(heard).toString(), ms }
}

test('CHANNEL 6.7: an upload below 8 KiB a second is refused after its grace, one at 20 KiB a second passes', {
  tags: ['slow'],
}, async () => {
  // a third of the times of the clause
  const scale = 0.3 * SCALE
  const port = await body.start(0, { MEDULLA_TIME_SCALE: String(scale) })
  body.handler = (message, answer) => {
    if (message.op !== 'install') return
    answer({ op: 'item', item: { event: 'result', outcome: 'committed', message: 'running' } })
    answer({ op: 'done' })
  }
  // random: it does not shrink when it is packed; at 20 KiB a second it takes longer than the grace
  const content = Buffer.alloc(225_000)
  for (let at = 0; at < content.length; at += 45_000) crypto.getRandomValues(content.subarray(at, at + 45_000))
  const { bytes } = await body.bundle('bob', `// ${content.toString('base64')}`)
  const rate = (kib: number) => (kib * 1.024) / scale
  const before = body.of('refused').length
  const slow = await uploaded(port, bytes, rate(2), 5)
  expect(slow.text).toMatch(/^HTTP\/1\.1 422 /)
  expect(slow.text).toMatch(/"truncated","message":"bundle: got \d+ of \d+ bytes, at [0-7]\.\d KiB\/s; at least 8 KiB/)
  expect(slow.text).toContain('push again from where the network is better')
  expect(slow.ms).toBeGreaterThan(10_000 * scale)
  await eventually(() => body.of('refused').length === before + 1)
  expect(body.of('refused').at(-1)).toMatchObject({ code: 'truncated', slot: 'main' })
  // its place is free, and nothing of it is left
  expect(await body.staged()).toEqual([])
  const honest = await uploaded(port, bytes, rate(20), 5)
  expect(honest.text).toContain('"outcome":"committed"')
  expect(honest.ms).toBeGreaterThan(10_000 * scale)
})
