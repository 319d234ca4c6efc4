/** A slot exists from its first commit on; before that only while a push to it is under way (HANDOVER 2.8). */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from './eventually.ts'
import { ended, type Pushed, TestRobot } from './robot.ts'

let robot: TestRobot

beforeAll(async () => {
  robot = await TestRobot.start({}, { eve: 'observer' })
})
afterAll(async () => robot?.close())

const slots = async () => (await robot.client.status()).slots.map(({ slot }) => slot)
const onDisk = () => readdirSync(join(robot.home, 'slots'))

/** Expects that nothing is left of a slot with this name. */
async function expectNone(name: string): Promise<void> {
  expect(await slots()).not.toContain(name)
  expect(onDisk()).not.toContain(name)
  const missing = { code: 'not-found', message: `there is no slot ${name}` }
  await expect(robot.logs(name)).rejects.toMatchObject(missing)
  await expect(robot.client.params(name)).rejects.toMatchObject(missing)
  await expect(robot.client.releases(name)).rejects.toMatchObject(missing)
  expect(await robot.events(robot.client.stop(name))).toMatchObject({ outcome: 'refused', ...missing })
  expect(await robot.events(robot.client.start(name))).toMatchObject({ outcome: 'refused', ...missing })
}

test('HANDOVER 2.8: a start of the default slot before its first commit is refused, and writes nothing', async () => {
  expect(await robot.events(robot.client.start('main'))).toMatchObject({ outcome: 'refused', code: 'not-found' })
  expect(onDisk()).not.toContain('main')
})

test('HANDOVER 2.8: 24 refused pushes to new slot names leave no slots', { tags: ['slow'] }, async () => {
  const { bytes } = await robot.bundle('needs-ghost')
  for (let i = 0; i < 24; i++) {
    expect(await ended(robot.client.push(`made-up-${i}`, bytes))).toMatchObject({ code: 'missing-handle' })
  }
  expect(await slots()).toEqual([])
  await expectNone('made-up-7')
  await robot.commit('steady')
  expect(await slots()).toEqual(['main'])
})

test('HANDOVER 2.8: a slot whose first program fails its trial is removed, and its handles are free', {
  tags: ['slow'],
}, async () => {
  for (const [program, name] of [
    ['throws-at-import', 'fails-early'],
    ['exits-in-trial', 'fails-late'],
  ] as const) {
    // otherwise main would hold the same handles
    await robot.events(robot.client.stop('main'))
    const result = await robot.push(program, { to: name })
    expect(result.outcome, result.message).toBe('rolled-back')
    await expectNone(name)
    await robot.events(robot.client.start('main'))
    await robot.running()
  }
})

test('HANDOVER 2.8: a stop during a first push ends the push, and leaves no slot', async () => {
  await robot.events(robot.client.stop('main'))
  const eve = await robot.connect(robot.others.eve)
  const { bytes } = await robot.bundle('slow-import')
  const before = robot.receipts().length
  let stopped: Promise<Pushed> | undefined
  let result: string | undefined
  for await (const event of robot.client.push('fresh', bytes)) {
    if (event.event === 'phase' && event.phase === 'spawn') {
      expect(await slots()).toContain('fresh')
      stopped = ended(eve.stop('fresh'))
    }
    if (event.event === 'result') result = event.outcome
  }
  expect(result).toBe('called-off')
  expect(await stopped).toMatchObject({ outcome: 'stopped' })
  await expectNone('fresh')
  expect(robot.receipts().slice(before).map(({ slot, outcome }) => `${slot} ${outcome}`).sort()).toEqual(['fresh called-off', 'fresh stopped']) // biome-ignore format: one line
  eve.close()
  await robot.events(robot.client.start('main'))
  await robot.running()
})

test('HANDOVER 2.8: a log stream of a slot that fails its first push goes on when the slot comes again', async () => {
  await robot.events(robot.client.stop('main'))
  const leave = new AbortController()
  const lines: string[] = []
  let following = Promise.resolve()
  const follow = async () => {
    for await (const { text } of robot.client.logs('arm', { follow: true, signal: leave.signal })) lines.push(text)
  }
  for await (const event of robot.client.push(
    'arm',
    (await robot.bundle('exits-in-trial', { program: 'ends' })).bytes,
  )) {
    if (event.event === 'phase' && event.phase === 'spawn') following = follow().catch(() => {})
    if (event.event === 'result') expect(event.outcome, event.message).toBe('rolled-back')
  }
  await expectNone('arm')
  await robot.events(robot.client.start('main'))
  expect(await robot.push('arm-writer', { to: 'arm', program: 'reach' })).toMatchObject({ outcome: 'committed' })
  await eventually(() => lines.includes('reach 1.0.0 runs'))
  expect((await slots()).sort()).toEqual(['arm', 'main'])
  leave.abort()
  await following
})

test('HANDOVER 2.8: after a restart committed slots exist, and others do not', { tags: ['slow'] }, async () => {
  const { bytes } = await robot.bundle('needs-ghost')
  expect(await ended(robot.client.push('ghost', bytes))).toMatchObject({ code: 'missing-handle' })
  await robot.end()
  await robot.begin()
  await robot.running()
  await robot.running(-1, 'arm')
  expect((await slots()).sort()).toEqual(['arm', 'main'])
  expect(onDisk().sort()).toEqual(['arm', 'main'])
  robot.check()
})
