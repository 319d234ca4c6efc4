/** A robot that runs hears of a change of its operators, and no process is sent a signal for that. */
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

test('an operator is let in by a public key with a name as ssh-keygen gives it, and loses a role, while the robot runs', async () => {
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
