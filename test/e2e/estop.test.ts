import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { eventually } from './eventually.ts'
import { boardText, TestRobot } from './robot.ts'

let robot: TestRobot

beforeAll(async () => {
  robot = await TestRobot.start()
  await robot.commit('counter')
})
afterAll(async () => robot?.close())

const level = async (name: string): Promise<number | undefined> => {
  for await (const pin of robot.client.pins()) if (pin.name === name) return pin.value
  return undefined
}

describe('HANDLES 6.7: the emergency stop', () => {
  test('ends all programs at safe levels and is latched: nothing starts, not even after a restart', async () => {
    const before = await robot.running()
    expect(await robot.events(robot.client.estop())).toMatchObject({ outcome: 'estopped' })
    expect(await level('led')).toBe(0)
    expect(robot.receipt()).toMatchObject({ outcome: 'estopped', slot: 'all', code: 'estopped' })
    const status = await robot.client.status()
    expect(status.estop?.reason).toBe('an operator')
    expect(status.slots[0]).toMatchObject({ state: 'idle' })
    expect(robot.programPid).toBeUndefined()
    expect(await robot.push('counter', { version: '2.0.0' })).toMatchObject({ outcome: 'refused', code: 'estopped' })
    expect(await robot.events(robot.client.start('main'))).toMatchObject({ code: 'estopped' })

    await robot.end('SIGKILL')
    await robot.begin()
    expect((await robot.client.status()).estop).not.toBeNull()
    expect(robot.programPid).toBeUndefined()
    expect(before.program).toBe('counter')
  })

  test('HANDOVER 8.11: is released by an operator without starting anything; a start then goes on from the checkpoint', async () => {
    expect(await robot.events(robot.client.release())).toMatchObject({ outcome: 'released' })
    expect((await robot.client.status()).estop).toBeNull()
    expect(robot.programPid).toBeUndefined()
    expect(await robot.events(robot.client.start('main'))).toMatchObject({ outcome: 'started' })
    expect((await robot.running()).program).toBe('counter')
    expect(robot.receipt()).toMatchObject({ outcome: 'started', pusher: robot.owner.signer.fingerprint })
    expect(await robot.events(robot.client.start('main'))).toMatchObject({ code: 'in-progress' })
  })

  test('calls off a push that is under way', async () => {
    // this program never gets ready, so the push goes on until it is called off
    const pushed = robot.push('blocks-at-import', { version: '3.0.0' })
    await eventually(async () => (await robot.slot()).state === 'preparing')
    await robot.events(robot.client.estop())
    expect(await pushed).toMatchObject({ outcome: 'called-off', code: 'estopped' })
    expect(robot.programPid).toBeUndefined()
    await robot.events(robot.client.release())
  })

  test('at the same time as a release either stays or was released before; nothing runs in both cases', async () => {
    expect(await robot.events(robot.client.start('main'))).toMatchObject({ outcome: 'started' })
    for (let i = 0; i < 10; i++) {
      const [stopped, released] = await Promise.all([
        robot.events(robot.client.estop()),
        robot.events(robot.client.release()),
      ])
      expect(stopped).toMatchObject({ outcome: 'estopped' })
      const { estop } = await robot.client.status()
      if (released.outcome !== 'released') expect(estop).not.toBeNull()
      expect(robot.programPid).toBeUndefined()
    }
    await robot.events(robot.client.release())
    expect((await robot.client.status()).estop).toBeNull()
  })
})

test('HANDLES 6.7: a release while the input is active names the input, and a release names the starts of the programs that were ended', async () => {
  const { handles } = JSON.parse(boardText()) as { handles: object }
  const stop = { kind: 'input', line: 'GPIO24', pull: 'down' }
  const more = { handles: { ...handles, stop }, estop: { input: 'stop', level: 1 } }
  const pressed = await TestRobot.start({}, {}, { more })
  onTestFinished(() => pressed.close())
  await pressed.commit('counter', { program: 'walk' })
  await pressed.commit('arm-writer', { program: 'reach', to: 'arm' })
  await pressed.client.poke('stop', null, 1)
  await eventually(async () => (await pressed.client.status()).estop !== null)
  expect(await pressed.events(pressed.client.release())).toMatchObject({
    code: 'estopped',
    message: 'the input "stop" of the emergency stop is still pressed',
  })
  await pressed.client.poke('stop', null, null)
  expect(await pressed.events(pressed.client.release())).toMatchObject({
    outcome: 'released',
    hint: 'medulla start && medulla start --slot arm',
  })
  // A slot that an operator stopped before is not named.
  await pressed.events(pressed.client.start('arm'))
  await pressed.running(-1, 'arm')
  await pressed.events(pressed.client.estop())
  expect(await pressed.events(pressed.client.release())).toMatchObject({ hint: 'medulla start --slot arm' })
})

test('HANDLES 6.8: a program whose tick is later than timing.lateMs is ended, with safe levels, and restarted', async () => {
  const late = await TestRobot.start({ lateMs: 20, trialMs: 0 })
  try {
    const pushed = await late.push('late')
    const why =
      pushed.outcome === 'committed' ? await eventually(async () => (await late.slot()).lastError) : pushed.code
    expect(why).toMatch(/^too-late/)
  } finally {
    await late.close()
  }
})
