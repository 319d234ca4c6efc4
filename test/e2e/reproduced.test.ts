/** A robot that runs only what builders have signed. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { signBuild } from '../../deploy/shared/bundle/buildstatement.ts'
import { newSigner } from '../fixtures/bundles.ts'
import { eventually } from './eventually.ts'
import { ended, TestRobot } from './robot.ts'

const [one, two] = [newSigner(), newSigner()]
let robot: TestRobot

beforeAll(async () => {
  const builders = [one.publicKey, two.publicKey]
  robot = await TestRobot.start({}, {}, { more: { requireReproduced: { count: 1, builders } } })
})
afterAll(async () => robot?.close())

test('BUNDLE 17.2, 17.3: Y11: a push is refused until a builder has signed its files; the rule holds at every start, too', async () => {
  const { bytes, release } = await robot.bundle('counter')
  const { program, version, h1 } = release
  expect(await ended(robot.client.push('main', bytes))).toMatchObject({ outcome: 'refused', code: 'not-reproduced' })
  // another version of the same name is another statement
  await robot.client.addBuild(await signBuild({ program, version, h1: `h1:${'A'.repeat(43)}=` }, one))
  expect(await ended(robot.client.push('main', bytes))).toMatchObject({ code: 'not-reproduced' })
  const stranger = await signBuild({ program, version, h1 }, newSigner())
  await expect(robot.client.addBuild(stranger)).rejects.toMatchObject({ code: 'unknown-operator' })
  await robot.client.addBuild(await signBuild({ program, version, h1 }, one))
  const pushed = await ended(robot.client.push('main', bytes))
  expect(pushed, pushed.message).toMatchObject({ outcome: 'committed' })
  const reasons = robot.receipts().map(({ reason }) => reason)
  expect(reasons).toContain(`builder ${one.fingerprint} gets ${h1} from the source of ${program} ${version}`)

  // the person who keeps the board file asks for both builders: the installed program is not started
  await robot.end()
  const path = join(robot.home, 'board.json')
  const board = JSON.parse(readFileSync(path, 'utf8'))
  writeFileSync(path, JSON.stringify({ ...board, requireReproduced: { ...board.requireReproduced, count: 2 } }))
  await robot.begin()
  const waits = await eventually(async () => (await robot.client.status()).slots.find(({ slot, waits }) => slot === 'main' && waits)) // biome-ignore format: one statement
  expect(waits.waits).toContain('1 of the 2 builders')
  await robot.client.addBuild(await signBuild({ program, version, h1 }, two))
  await ended(robot.client.start('main'))
  await robot.running()
  // an owner revokes the key of a builder: what only that one proved is not started again
  await robot.client.revokeKey(two.fingerprint)
  await ended(robot.client.stop('main'))
  await ended(robot.client.start('main'))
  const again = await eventually(async () => (await robot.client.status()).slots.find(({ slot, waits }) => slot === 'main' && waits)) // biome-ignore format: one statement
  expect(again.waits).toContain('1 of the 2 builders')
  await expect(robot.client.addBuild(await signBuild({ program, version, h1 }, two))).rejects.toMatchObject({
    code: 'revoked-key',
  })
})
