/** Clients of a `listen` handle over swaps, undone swaps and stops. */
import { once } from 'node:events'
import { afterAll, beforeAll, expect, test } from 'vitest'
import WebSocket from 'ws'
import { ask, freePort, keptAlive, Visitor } from './clients.ts'
import { ENDLESS_TRIAL, TestRobot, TIMING } from './robot.ts'

const PINS = {
  led: { kind: 'output', line: 'GPIO17', safe: 0 },
  enable: { kind: 'output', line: 'GPIO22', safe: 'hold' },
}
const version = (n: number) => `1.${n}.0`

let robot: TestRobot
let port: number
beforeAll(async () => {
  port = await freePort()
  robot = await TestRobot.start({}, {}, { more: { handles: { ...PINS, web: { kind: 'listen', port } } } })
  await robot.commit('web')
})
afterAll(async () => robot?.close())

test('HANDLES 17: clients that connect all the time are neither refused nor cut off over 10 swaps', async () => {
  const visitors = [new Visitor({ port }), new Visitor({ port }, '/slow')]
  for (let n = 1; n <= 10; n++) await robot.commit('web', { version: version(n) })
  await ask({ port })
  for (const visitor of visitors) {
    await visitor.stop()
    expect(visitor.failures).toEqual([])
    expect([...visitor.answers.keys()]).toContain(version(10))
    expect(visitor.answers.size).toBeGreaterThan(5)
  }
  robot.check()
})

test('HANDLES 17.5: at the switch an idle keep-alive connection gets a FIN, and a pending request its answer', async () => {
  const idle = await keptAlive(port)
  const asked = ask({ port }, '/slow')
  await robot.commit('web', { version: version(1) })
  expect(await idle.ended).toBe('end')
  expect((await asked).text).toMatch(/^1\.\d+\.0$/)
  expect((await ask({ port })).text).toBe(version(1))
})

test('HANDLES 17.5: an endless answer is ended with a FIN at the deadline', async () => {
  const endless = await keptAlive(port, '/endless')
  await robot.commit('web', { version: version(2) })
  expect(await endless.ended).toBe('end')
})

test('HANDLES 17.5: a WebSocket ends with a FIN at the switch, and the next program accepts new ones', async () => {
  const open = async (path = '/') => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`)
    const closed = once(socket, 'close').then(([code]) => code as number)
    const failed: string[] = []
    socket.on('error', (error: NodeJS.ErrnoException) => failed.push(error.code ?? error.message))
    const [greeting] = await once(socket, 'message')
    return { socket, closed, failed, greeting: String(greeting) }
  }
  const before = await open()
  const polite = await open('/polite')
  await robot.commit('web', { version: version(3) })
  // 1006: no close frame came (RFC 6455 7.1.5)
  expect(await before.closed).toBe(1006)
  expect(before.failed).toEqual([])
  // the end of onLive sends a close frame with a reason
  expect(await polite.closed).toBe(1001)
  const after = await open()
  expect(after.greeting).toBe(version(3))
  after.socket.close()
})

test('HANDLES 17.4: after an undone swap the old program accepts again, and no client was refused meanwhile', async () => {
  // the third request makes the new program unfit, and nothing else ends its trial
  await robot.retime(ENDLESS_TRIAL)
  const visitor = new Visitor({ port })
  const { outcome } = await robot.push('web-sick', { program: 'web', version: '2.0.0' })
  expect(outcome).toBe('rolled-back')
  expect((await ask({ port })).text).toBe(version(3))
  await visitor.stop()
  expect(visitor.failures).toEqual([])
  expect([...visitor.answers.keys()]).toEqual(expect.arrayContaining(['2.0.0', version(3)]))
  await robot.retime(TIMING)
})

test('HANDLES 17.6: clients that connect while no program runs wait, and the next program answers', async () => {
  await robot.events(robot.client.stop('main'))
  const waiting = ask({ port })
  await robot.commit('web', { version: version(4) })
  expect((await waiting).text).toBe(version(4))
})
