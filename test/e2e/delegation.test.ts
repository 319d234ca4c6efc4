/** Keys that sign releases in the name of an operator, against the body of a real robot. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Signer, seedSigner } from '../../deploy/shared/keys.ts'
import { eventually } from './eventually.ts'
import type { Operator } from './operators.ts'
import { bundle } from './programs.ts'
import { ended, TestRobot } from './robot.ts'

let robot: TestRobot

beforeAll(async () => {
  robot = await TestRobot.start({}, { bob: 'operator' })
})
afterAll(async () => robot?.close())

let seeds = 0
const newKey = (): Signer => seedSigner(new Uint8Array(32).fill(++seeds))
let versions = 0
const made = async (signer: Signer) =>
  (await bundle('counter', signer, robot.address, { version: `1.0.${++versions}` })).bytes

test('HANDOVER 20.2: a delegated key signs for one slot, for the pushes of its operator, and nothing else', async () => {
  const key = newKey()
  const refused = { outcome: 'refused', code: 'unknown-operator' }
  expect(await ended(robot.client.push('main', await made(key)))).toMatchObject(refused)
  await robot.client.delegate('main', key.publicKey, 8)
  const pushed = await ended(robot.client.push('main', await made(key)))
  expect(pushed, pushed.message).toMatchObject({ outcome: 'committed' })
  const pusher = robot.owner.signer.fingerprint
  expect(pushed.receipt).toMatchObject({ signer: key.fingerprint, pusher })
  expect(await ended(robot.client.push('arm', await made(key)))).toMatchObject(refused)
  const bob = await robot.connect(robot.others.bob)
  expect(await ended(bob.push('main', await made(key)))).toMatchObject(refused)
  bob.close()
  // no orders, no session
  const owner: Operator = { ...robot.owner, signer: key }
  const asKey = await robot.connect(owner)
  await expect(asKey.setParams('main', { reset: 'all' })).rejects.toMatchObject({ code: 'unknown-operator' })
  asKey.close()
})

test('HANDOVER 20.3, 20.4: a delegation has a receipt, and ends with the runtime and with its operator', async () => {
  const key = newKey()
  await robot.client.delegate('main', key.publicKey, 1)
  const reasons = robot.receipts().map(({ reason }) => reason)
  expect(reasons).toContain(`${key.fingerprint} may sign releases for slot main in the name of ann for 1 h`)
  await robot.end()
  await robot.begin()
  expect(await ended(robot.client.push('main', await made(key)))).toMatchObject({ code: 'unknown-operator' })
  const bob = await robot.connect(robot.others.bob)
  const his = newKey()
  await bob.delegate('main', his.publicKey, 8)
  const bundled = await made(his)
  await robot.client.revokeKey(robot.others.bob?.signer.fingerprint ?? '')
  await eventually(() => bob.status().then(() => false, () => true)) // biome-ignore format: one statement
  expect(await ended(robot.client.push('main', bundled))).toMatchObject({ code: 'unknown-operator' })
  bob.close()
})
