/** A running robot notices changes of its operators without a signal. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Refusal } from '../../deploy/shared/errors.ts'
import { eventually } from './eventually.ts'
import { RUNTIME } from './programs.ts'
import { makeOperator, run, TestRobot } from './robot.ts'

let robot: TestRobot

beforeAll(async () => {
  robot = await TestRobot.start()
})
afterAll(async () => robot?.close())

test('while the robot runs, an operator is added by a public key with the comment of ssh-keygen, and loses a role', async () => {
  const bob = await makeOperator(robot.folder, 'bob')
  await expect(robot.connect(bob)).rejects.toMatchObject({ code: 'unknown-operator' })
  const file = join(robot.folder, 'bob-laptop.pub')
  writeFileSync(file, `${bob.signer.publicKey} bob@laptop\n`)
  const { status, stdout } = await run(RUNTIME, ['trust', '--home', robot.home, '--card', file])
  expect(status, stdout).toBe(0)
  const client = await eventually(() => robot.connect(bob).catch(() => null))
  expect(await client.status()).toMatchObject({ id: robot.identity.id })
  await expect(client.start('main').next()).rejects.not.toMatchObject({ code: 'role' })
  await robot.trust({ cardFile: file }, 'observer')
  const refusal = await eventually(() =>
    client
      .start('main')
      .next()
      .then(
        () => null,
        (error: unknown) => error instanceof Refusal && error.code === 'role' && error,
      ),
  )
  expect(refusal.message).toContain('bob@laptop is observer')
  client.close()
})
