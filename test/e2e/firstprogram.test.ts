/** The program that came with a card, on a real runtime: what runtime/card puts into the home is started once, on a robot without any. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { makeBundle, signFiles } from '../../deploy/laptop/build.ts'
import { FIRST_START } from '../../deploy/shared/bundle/release.ts'
import { applySettings } from '../../runtime/card/apply.ts'
import { firstProgramFile, putFirstProgram } from '../../runtime/store/firstprogram.ts'
import { newSigner } from '../fixtures/bundles.ts'
import { eventually } from './eventually.ts'
import { build, nextCounter } from './programs.ts'
import { TestRobot } from './robot.ts'

let robot: TestRobot
beforeEach(async () => {
  robot = await TestRobot.start()
})
afterEach(() => robot.close())

async function made(name: string, signer = robot.owner.signer, version = '1.0.0') {
  const { files, manifest } = await build(name, { version })
  return (await signFiles(files, manifest, { signer, recipients: [FIRST_START], counter: nextCounter() })).inner
}
const file = () => firstProgramFile({ dir: robot.home })
const isGone = () => eventually(() => !existsSync(file()))

/** Starts the robot again with this program on its card. */
async function startWith(program: Uint8Array): Promise<void> {
  await robot.end()
  await putFirstProgram({ dir: robot.home }, program)
  await robot.begin()
}

test('BUNDLE 19.2, 19.3, 19.5: the program of the card runs at the first start, with a receipt; a later one does not', async () => {
  await robot.end()
  const boot = join(robot.folder, 'boot')
  mkdirSync(boot)
  writeFileSync(join(boot, 'medulla.toml'), '[robot]\nprogram = "program.tar"\n')
  writeFileSync(join(boot, 'program.tar'), await made('counter'))
  const { applied, report } = await applySettings({ boot, data: join(robot.folder, 'data'), home: robot.home })
  expect(report).toContain('counter 1.0.0 is started first, unless this robot has had a program already')
  expect(applied).toBe(true)

  await robot.begin()
  expect(await robot.running()).toMatchObject({ program: 'counter', version: '1.0.0' })
  await isGone()
  expect(robot.receipt()).toMatchObject({ outcome: 'committed', pusher: robot.owner.signer.fingerprint })
  expect((await robot.logs()).map(({ text }) => text).join('\n')).toContain('the program of the card: ')

  await startWith(await made('counter', robot.owner.signer, '2.0.0'))
  expect(await robot.running()).toMatchObject({ version: '1.0.0' })
  await isGone()
  expect(robot.stderr).toContain('this robot has had a program since')
})

test('BUNDLE 19.2: a release that a card may bring is refused in a push', async () => {
  const { files, manifest } = await build('counter')
  const { age } = robot.address
  const options = { signer: robot.owner.signer, counter: nextCounter(), robots: [{ id: FIRST_START, age }] }
  const { bytes } = await makeBundle(files, manifest, options)
  expect(await robot.send(bytes)).toMatchObject({ code: 'wrong-robot' })
})

test('BUNDLE 19.3: a stranger, a release for this robot and a program that fails are not kept, and nothing runs', async () => {
  const { files, manifest } = await build('counter')
  const recipients = [robot.address.id]
  const toRobot = await signFiles(files, manifest, { signer: robot.owner.signer, recipients, counter: nextCounter() })
  for (const [program, said] of [
    [await made('counter', newSigner()), 'who is not an operator of this robot'],
    [toRobot.inner, 'release is for SHA256:'],
    [Buffer.from('no tar'), 'the program of the card is not started'],
    [await made('throws-in-run'), 'was undone'],
  ] as const) {
    await startWith(program)
    await isGone()
    const texts = await eventually(async () => {
      const logged = (await robot.logs()).map(({ text }) => text).join('\n')
      return logged.includes('the program of the card') && logged
    })
    expect(texts).toContain(said)
    expect((await robot.client.status()).slots.filter(({ state }) => state === 'running')).toEqual([])
  }
})

test('BUNDLE 19.5: a latched emergency stop leaves the program for the next start', async () => {
  for await (const _ of robot.client.estop());
  await startWith(await made('counter'))
  await eventually(async () => (await robot.logs()).some(({ text }) => text.includes('is not started: stopped since')))
  expect(existsSync(file())).toBe(true)
  for await (const _ of robot.client.release());
  await robot.end()
  await robot.begin()
  expect(await robot.running()).toMatchObject({ program: 'counter' })
  await isGone()
})
