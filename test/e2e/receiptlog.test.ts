/** `medulla receipts --verify` on a robot whose log was altered, cut off or replaced. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Laptop } from '../deploy/laptop/cli/medulla.ts'
import { eventually } from './eventually.ts'
import { laptopOf } from './laptop.ts'
import { ended, TestRobot } from './robot.ts'

let robot: TestRobot
let laptop: Laptop

beforeAll(async () => {
  robot = await TestRobot.start()
  laptop = await laptopOf(robot)
})
afterAll(async () => {
  await laptop?.close()
  await robot?.close()
})

const path = () => join(robot.home, 'receipts.ndjson')
const lines = () => readFileSync(path(), 'utf8').trimEnd().split('\n')
const verify = (...more: string[]) => laptop.run('receipts', '--verify', '--limit', '1', ...more)

/** Makes receipts by refused pushes. */
async function refusals(count: number): Promise<void> {
  const until = (await robot.client.status()).head.seq + count
  for (let i = 0; i < count; i++) {
    expect(await ended(robot.client.push('main', Buffer.from('x')))).toMatchObject({ outcome: 'refused' })
  }
  // the endpoint reports a refusal to the body at the same time as it answers
  await eventually(async () => (await robot.client.status()).head.seq === until)
}

/** Changes the robot's log while the robot is off. */
async function change(to: (log: string[]) => string[]): Promise<void> {
  await robot.end()
  writeFileSync(path(), `${to(lines()).join('\n')}\n`)
  await robot.begin()
}

const FIRST =
  / receipts, number 1 to (\d+), signed by the robot's key and unbroken, up to the head that it reports; (.*)\n$/

test('HANDOVER 8.20: --verify reports the range of receipts, and that they contain the head seen before', async () => {
  await refusals(3)
  const first = await verify()
  expect(first, first.stderr).toMatchObject({ status: 0 })
  expect(FIRST.exec(first.stdout)?.slice(1)).toEqual([
    '3',
    'this head is remembered, and the next --verify looks for it',
  ])
  await refusals(2)
  const again = await verify()
  expect(FIRST.exec(again.stdout)?.slice(1)).toEqual([
    '5',
    expect.stringMatching(/^contains the head seen on \d{4}-\d\d-\d\d \d\d:\d\d UTC \(number 3\)$/),
  ])
})

test('HANDOVER 8.20: --verify notices a log that was cut back, also when it has grown again', {
  tags: ['slow'],
}, async () => {
  const whole = lines()
  await change((log) => log.slice(0, 3))
  expect(await verify()).toMatchObject({
    status: 3,
    stderr: expect.stringMatching(/receipt 4 is missing: the log ends at number 3, but number 5 was seen earlier/),
  })
  await refusals(4)
  const other = await verify()
  expect(other).toMatchObject({ status: 3, stderr: expect.stringMatching(/receipt 5 is sha256:.* was seen earlier/) })
  expect(other.stderr).toContain('medulla receipts --verify --accept')
  await change(() => whole)
  expect(await verify()).toMatchObject({ status: 0 })
})

test('HANDOVER 8.20: --verify names an altered or removed entry, and --accept does not accept it', {
  tags: ['slow'],
}, async () => {
  const whole = lines()
  await change((log) => log.map((line, i) => (i === 1 ? line.replace('unknown-format', 'unknown-farmat') : line)))
  for (const more of [[], ['--accept']])
    expect(await verify(...more)).toMatchObject({ status: 3, stderr: expect.stringContaining('receipt 2 signature') })
  await change(() => whole.slice(1))
  expect(await verify('--accept')).toMatchObject({
    status: 3,
    stderr: expect.stringContaining('has number 2, expected 1'),
  })
  await change(() => whole)
  expect(await verify()).toMatchObject({ status: 0 })
})

test('HANDOVER 8.20: a log that began anew is remembered once the operator passes --accept', {
  tags: ['slow'],
}, async () => {
  await change(() => [])
  await refusals(1)
  expect(await verify()).toMatchObject({ status: 3, stderr: expect.stringContaining('was seen earlier') })
  const accepted = await verify('--accept')
  expect(accepted.stdout).toMatch(/; does not continue the head seen on .* \(number 5\), which is forgotten\n$/)
  expect(await verify()).toMatchObject({ status: 0 })
})
