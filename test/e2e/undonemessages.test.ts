/** Message channels over a swap that is undone. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from './eventually.ts'
import { ENDLESS_TRIAL, TestRobot } from './robot.ts'
import { type Answer, collect, Traffic } from './traffic.ts'

let robot: TestRobot
beforeAll(async () => {
  robot = await robotWith('1.0.0')
})
afterAll(async () => robot?.close())

/** A robot that runs this version of `echoes`. A trial ends only by the program in it. */
async function robotWith(version: string): Promise<TestRobot> {
  const made = await TestRobot.start()
  await made.commit('echoes', { version })
  await made.retime(ENDLESS_TRIAL)
  return made
}

const channelLines = async (): Promise<string[]> =>
  (await robot.logs()).map(({ text }) => text).filter((text) => /^tune opened|^channel /.test(text))

/** Pushes a version of `echoes` that fails its trial once it has taken 50 messages, while messages go both ways. */
async function undoneUnder(version: string, code: string): Promise<Traffic> {
  const { pid } = await robot.running()
  const traffic = await Traffic.start(robot.client)
  await traffic.more()
  const before = await channelLines()
  expect(await robot.push('echoes', { version })).toMatchObject({ outcome: 'rolled-back', code })
  await traffic.more()
  await traffic.end()
  expect((await robot.running()).pid).toBe(pid)
  // no program saw another laptop, and no message is counted as lost
  expect(await channelLines()).toEqual(before)
  return traffic
}

test('CHANNEL 12.8: a swap that is undone loses and doubles no message when the new program gives its state back', async () => {
  const traffic = await undoneUnder('8.1.0', 'unhealthy')
  traffic.expectWhole()
})

test('CHANNEL 12.4: a swap that is undone loses and doubles no message when the new program dies in its trial', async () => {
  const traffic = await undoneUnder('8.2.0', 'died-in-trial')
  // the old program counts on from where it stopped, as the state of the new one died with it
  traffic.expectHeard()
})

test('CHANNEL 12.10: a message of which the new program dies in its trial is given to the old one, and those before it are not', async () => {
  const tune = await robot.client.channel('tune')
  const heard = collect(tune)
  let restarts = 0
  tune.on('restart', () => restarts++)
  const pushed = robot.push('echoes', { version: '8.3.0' })
  await eventually(async () => (await robot.slot()).state === 'trial')
  for (const message of ['first', 'bad', 'last']) {
    await tune.send(message)
    if (message === 'first') await eventually(() => heard.length === 1 && tune.unconfirmed === 0)
  }
  expect(await pushed).toMatchObject({ outcome: 'rolled-back', code: 'died-in-trial' })
  await eventually(() => heard.length === 3)
  expect((heard as Answer[]).map((answer) => answer.heard)).toEqual(['first', 'bad', 'last'])
  expect(restarts).toBe(0)
  await tune.close()
})

test('CHANNEL 12.12: laptops reach the new program although the parked one has left its connections open', async () => {
  await robot.close()
  robot = await robotWith('7.0.0')
  const traffic = await undoneUnder('8.1.0', 'unhealthy')
  traffic.expectWhole()
})
