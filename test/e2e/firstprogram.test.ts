/** The program that came with a card, on a real runtime: what runtime/card puts into the home is started once, on a robot without any. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { makeBundle, signFiles } from '../../deploy/laptop/build.ts'
import { LIMITS } from '../../deploy/shared/bundle/limits.ts'
import { FIRST_START } from '../../deploy/shared/bundle/release.ts'
import { applySettings } from '../../runtime/card/apply.ts'
import { firstProgramFile, putFirstProgram } from '../../runtime/store/firstprogram.ts'
import { addOperator } from '../../runtime/store/operators.ts'
import { newSigner } from '../fixtures/bundles.ts'
import { eventually } from './eventually.ts'
import { build, nextCounter } from './programs.ts'
import { boardText, ENDLESS_TRIAL, TestRobot } from './robot.ts'

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
    [await made('counter', newSigner()), /who is not an operator of this robot; .*medulla push FOLDER$/m],
    [toRobot.inner, /release is for SHA256:.*; when that is mended: medulla push FOLDER$/m],
    [Buffer.from('no tar'), /the program of the card is not started: .*; when that is mended: medulla push FOLDER$/m],
    [
      await made('throws-in-run'),
      /was undone: .*; medulla logs shows what it wrote; when that is mended: medulla push FOLDER$/m,
    ],
  ] as const) {
    await startWith(program)
    await isGone()
    const texts = await eventually(async () => {
      const logged = (await robot.logs()).map(({ text }) => text).join('\n')
      return logged.includes('the program of the card') && logged
    })
    expect(texts).toMatch(said)
    expect((await robot.client.status()).slots.filter(({ state }) => state === 'running')).toEqual([])
  }
})

test('BUNDLE 19.5: a latched emergency stop leaves the program for the next start', async () => {
  for await (const _ of robot.client.estop());
  await startWith(await made('counter'))
  await eventually(async () => (await robot.logs()).some(({ text }) => text.includes('is not started: stopped since')))
  expect(await said()).toContain('; medulla estop --release; the next start of the robot tries it again')
  expect(existsSync(file())).toBe(true)
  for await (const _ of robot.client.release());
  await robot.end()
  await robot.begin()
  expect(await robot.running()).toMatchObject({ program: 'counter' })
  await isGone()
})

const said = async () => (await robot.logs()).map(({ text }) => text).join('\n')
const inTrial = () => eventually(() => robot.programPid !== undefined)

test('BUNDLE 19.5: an emergency stop in its trial leaves the program for the next start, a stop by an operator does not', async () => {
  await robot.end()
  writeFileSync(join(robot.home, 'board.json'), boardText(ENDLESS_TRIAL))
  await startWith(await made('counter'))
  await inTrial()
  for await (const _ of robot.client.estop());
  await eventually(async () => (await said()).includes('the next start of the robot tries it again'))
  expect(existsSync(file())).toBe(true)
  for await (const _ of robot.client.release());

  await robot.end()
  await robot.begin()
  await inTrial()
  for await (const _ of robot.client.stop('main'));
  await isGone()
})

test('BUNDLE 19.5: the end of the runtime and a power cut leave the program, until three launches came to no end', async () => {
  await robot.end()
  writeFileSync(join(robot.home, 'board.json'), boardText(ENDLESS_TRIAL))
  await putFirstProgram({ dir: robot.home }, await made('counter'))
  for (const signal of ['SIGTERM', 'SIGKILL', 'SIGKILL'] as const) {
    await robot.begin()
    await inTrial()
    await robot.end(signal)
    expect(existsSync(file())).toBe(true)
  }
  await robot.begin()
  await eventually(async () => (await said()).includes('the robot went off 3 times'))
  await isGone()
  expect(robot.programPid).toBeUndefined()
  expect(robot.receipt()).toMatchObject({ outcome: 'refused', code: 'tried-before' })
  // a program that is put on the card anew counts from the beginning
  await robot.end()
  writeFileSync(join(robot.home, 'board.json'), boardText())
  await startWith(await made('counter'))
  expect(await robot.running()).toMatchObject({ program: 'counter' })
})

test('BUNDLE 19.2: what is no file, the program of an observer and one for another slot are not started', async () => {
  const observer = newSigner()
  await addOperator({ dir: robot.home }, observer.publicKey, 'observer', 'olga')
  const { files, manifest } = await build('counter')
  const options = { signer: robot.owner.signer, recipients: [FIRST_START], counter: nextCounter() }
  const bound = await signFiles(files, manifest, { ...options, slot: 'other' })
  const whole = await made('counter')
  const elsewhere = join(robot.folder, 'elsewhere.tar')
  writeFileSync(elsewhere, whole)
  for (const [put, says] of [
    [() => writeFileSync(file(), bound.inner), 'release is bound to slot other'],
    [async () => writeFileSync(file(), await made('counter', observer)), 'who is not an operator of this robot'],
    [() => writeFileSync(file(), whole.subarray(0, 5000)), 'is not started'],
    [() => writeFileSync(file(), Buffer.alloc(LIMITS.bundle + 1)), 'at most'],
    [() => symlinkSync(elsewhere, file()), 'cannot be opened'],
    [() => execFileSync('mkfifo', [file()]), 'not a regular file'],
  ] as const) {
    await robot.end()
    await put()
    await robot.begin()
    await eventually(async () => (await said()).includes(says))
    await isGone()
    expect(robot.programPid).toBeUndefined()
  }
  expect(existsSync(elsewhere)).toBe(true)
})

test('the log says of a first program that is refused what to type, as a push would', async () => {
  await robot.end()
  const { led: _, ...handles } = JSON.parse(boardText()).handles
  writeFileSync(join(robot.home, 'board.json'), boardText({}, { handles }))
  await startWith(await made('counter'))
  await isGone()
  expect(await said()).toMatch(
    /the program of the card is not started: program needs output 'led', .*; add 'led' to board\.json; when that is mended: medulla push FOLDER$/m,
  )
})

test('a push during the trial of the first program is refused, and the program goes on', async () => {
  await robot.end()
  writeFileSync(join(robot.home, 'board.json'), boardText({ trialMs: 3000 }))
  await startWith(await made('counter'))
  await inTrial()
  expect(await robot.push('counter', { version: '2.0.0' })).toMatchObject({ code: 'in-progress' })
  expect(await robot.running()).toMatchObject({ version: '1.0.0' })
})
