/** Every known operator can stop the robot, whatever load others cause (HANDOVER 8.7, 8.8). */
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { RobotClient } from '../../deploy/laptop/client.ts'
import { eventually, SCALE } from './eventually.ts'
import { load } from './load.ts'
import { TestRobot } from './robot.ts'
import { accepted } from './trace.ts'

let robot: TestRobot
const clients: RobotClient[] = []

beforeAll(async () => {
  robot = await TestRobot.start({}, { eve: 'observer', mallory: 'observer' })
  await robot.commit('floods-output')
})
afterAll(async () => {
  for (const client of clients) client.close()
  await robot?.close()
})

const endpoint = (): number => robot.children().find(({ command }) => command.includes('endpoint/main.js'))?.pid ?? -1

async function connect(name: string): Promise<RobotClient> {
  const client = await robot.connect(robot.others[name])
  clients.push(client)
  return client
}

test('while observers request everything and read nothing, another observer can stop the robot, and no session is ended', async () => {
  // wait until the program's lines fill the log
  await eventually(async () => (await robot.slot()).log.dropped > 0)
  const before = endpoint()
  for (let i = 0; i < 8; i++) {
    for (const name of ['eve', 'mallory']) {
      const client = await connect(name)
      // requested, and never read
      void client.logs('main', { lines: 10_000, follow: i % 2 === 0 }).next()
    }
  }
  const eve = await connect('eve')
  expect(await robot.events(eve.stop('main'))).toMatchObject({ outcome: 'stopped' })
  expect(await robot.events(eve.estop())).toMatchObject({ outcome: 'estopped' })
  await expect(eve.release().next()).rejects.toMatchObject({ code: 'role' })
  expect(endpoint()).toBe(before)
  expect(await robot.events(robot.client.release())).toMatchObject({ outcome: 'released' })
})

test('when two observers hold all their sessions, an owner can still connect, and a bad request gets a 400', async () => {
  for (let i = 0; i < 40; i++) await connect(i % 2 === 0 ? 'eve' : 'mallory')
  const before = endpoint()
  const owner = await robot.connect()
  clients.push(owner)
  expect((await owner.status()).name).toBeDefined()
  const eve = await connect('eve')
  const wrong = eve.logs('main', { lines: 10_000, since: '+275760-09-13T00:00:00Z' as never })
  await wrong.next().catch((error: unknown) => expect(error).toMatchObject({ code: 'usage' }))
  expect((await owner.status()).name).toBeDefined()
  expect(endpoint()).toBe(before)
})

describe('HANDLES 6.6: while one program floods its channel', () => {
  const handles = {
    led: { kind: 'output', line: 'GPIO17', safe: 0 },
    dial: { kind: 'pwm', line: 'GPIO18', frequencyHz: 1000, safe: 'hold' },
    enable: { kind: 'output', line: 'GPIO22', safe: 'hold' },
    tail: { kind: 'output', line: 'GPIO27', safe: 0 },
    bell: { kind: 'output', line: 'GPIO5', safe: 0 },
    stop: { kind: 'input', line: 'GPIO6', pull: 'down', edges: 'both' },
  }
  const more = { handles, wires: [['bell', 'stop']], estop: { input: 'stop', level: 1 } }

  test.each(['1.1.0', '1.2.0', '1.3.0', '1.4.0'])(
    'kind %s: the emergency stop is in time, and its neighbour runs on',
    async (version) => {
      const flooded = await TestRobot.start({}, {}, { more })
      onTestFinished(() => flooded.close())
      await flooded.commit('counter')
      await flooded.commit('floods-control', { to: 'other', version })
      const { pid, fence } = await flooded.running()
      // after its burst the program is not read, so its heartbeats are missed, and it is ended
      const other = await eventually(async () => {
        const slot = await flooded.slot('other')
        return slot.restarts > 0 && slot
      })
      expect(other.lastError).toMatch(/heartbeat-lost|crashed/)
      expect((await flooded.running()).pid).toBe(pid)
      expect((await flooded.slot()).restarts).toBe(0)
      await eventually(async () => (await flooded.slot('other')).state === 'running')
      await flooded.trace.more('led')
      const mark = flooded.trace.mark()
      const before = load()
      await flooded.client.set('bell', 1)
      await eventually(async () => (await flooded.client.status()).estop !== null)
      const { edge, safe } = await eventually(() => {
        const seen = flooded.trace.since(mark)
        const edge = accepted(seen, 'bell').find(({ value }) => value === 1)
        const safe = accepted(seen, 'led').find((entry) => entry.fence > fence)
        return edge !== undefined && safe !== undefined && { edge, safe }
      })
      const ms = Number(safe.ns - edge.ns) / 1e6
      console.log(`from the edge to the safe level while ${version} floods: ${ms.toFixed(1)} ms`)
      expect(ms).toBeLessThan(250 * SCALE * Math.max(before, load()))
    },
  )
})
