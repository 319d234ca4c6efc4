import { createServer } from 'node:http'
import { afterEach, expect, test } from 'vitest'
import { askCard } from '../../../deploy/laptop/greeting.ts'
import { laterCertificate, openSession } from '../../../deploy/laptop/opensession.ts'
import { issueCertificate, type SignedCertificate, verifyCertificate } from '../../../deploy/shared/cert.ts'
import { generateKeyPair } from '../../../deploy/shared/channel/index.ts'
import { generateAgeIdentity, generateNoiseKey, type Signer } from '../../../deploy/shared/keys.ts'
import { newSigner } from '../../fixtures/bundles.ts'
import { certificateOf } from '../../fixtures/cards.ts'
import { connectOptions, makeOperator, startRobot } from '../shared/channel/peers.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const ann = makeOperator()
const identity = newSigner()
const { recipient: age } = await generateAgeIdentity()

function cardOf(noise: Uint8Array, created: string, signer: Signer = identity): Promise<SignedCertificate> {
  return issueCertificate(certificateOf('robot', 'testbot', signer, noise, { age, created }), signer)
}

/** A robot whose keys were rotated, and a laptop that knows the certificate of 2026-01-01. */
async function rotated(shown: (noise: Uint8Array) => Promise<SignedCertificate>) {
  const old = generateNoiseKey().public
  const known = verifyCertificate(await cardOf(old, '2026-01-01T00:00:00.000Z'))
  const noise = generateKeyPair()
  const robot = await startRobot([ann], {
    noise,
    card: await shown(noise.public),
    robot: known.id,
    greeting: () => ({ name: 'testbot', id: known.id, version: '0.0.0', protocol: 'medulla/2' }),
  })
  cleanups.push(robot.close)
  const kept: SignedCertificate[] = []
  const renewed = async (given: SignedCertificate) => void kept.push(given)
  return { robot, kept, known, options: { ...connectOptions(robot, ann), robot: known, renewed } }
}

test('CHANNEL 2.6, 3.12: a laptop takes new keys that the known identity signed later, and keeps the certificate', async () => {
  const { robot, kept, options } = await rotated((noise) => cardOf(noise, '2026-01-02T00:00:00.000Z'))
  const { session, options: used } = await openSession(options)
  cleanups.push(() => session.destroy())
  expect(used.robot.created).toBe('2026-01-02T00:00:00.000Z')
  expect(kept).toEqual([await askCard('127.0.0.1', robot.port)])
})

test('CHANNEL 3.12: new keys of another identity, of an earlier certificate, or that the robot cannot prove are not taken', async () => {
  const cases: ((noise: Uint8Array) => Promise<SignedCertificate>)[] = [
    (noise) => cardOf(noise, '2026-01-02T00:00:00.000Z', newSigner()),
    (noise) => cardOf(noise, '2026-01-01T00:00:00.000Z'),
    (noise) => cardOf(noise, '2025-12-31T23:59:59.999Z'),
    () => cardOf(generateNoiseKey().public, '2026-01-02T00:00:00.000Z'),
    async (noise) => ({ ...(await cardOf(noise, '2026-01-02T00:00:00.000Z')), sig: 'AAAA' }),
    async (noise) => {
      const signed = await cardOf(noise, '2026-01-01T00:00:00.000Z')
      return { ...signed, cert: signed.cert.replace('2026-01-01', '2026-01-02') }
    },
  ]
  for (const shown of cases) {
    const { kept, options } = await rotated(shown)
    await expect(openSession(options)).rejects.toMatchObject({ code: 'unknown-operator' })
    expect(kept).toEqual([])
  }
})

test('the certificate of an operator is no certificate of the robot', async () => {
  const card = await issueCertificate(certificateOf('operator', 'ann', identity, generateNoiseKey().public), identity)
  expect(await laterCertificate(card, { key: identity.publicKey, created: '2025-01-01T00:00:00.000Z' })).toBeNull()
})

test('a robot of an earlier version shows no certificate; an endless answer is refused', async () => {
  let body = ''
  const server = createServer((request, response) => {
    response.writeHead(body === '' && request.url === '/card' ? 404 : 200)
    response.end(body)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  cleanups.push(() => server.close())
  const { port } = server.address() as { port: number }
  expect(await askCard('127.0.0.1', port)).toBeNull()
  body = 'x'.repeat(100_000)
  await expect(askCard('127.0.0.1', port)).rejects.toMatchObject({ message: expect.stringContaining('too long') })
  body = '{"cert":1}'
  await expect(askCard('127.0.0.1', port)).rejects.toMatchObject({ message: expect.stringContaining('certificate') })
})
