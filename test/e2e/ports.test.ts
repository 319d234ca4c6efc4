/** `listen` handles: 100 swaps, a port in use, a socket file, a confined program. */
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canConfine } from '../../runtime/body/sandbox/confinement.ts'
import { ask, freePort, Visitor } from './clients.ts'
import { SCALE } from './eventually.ts'
import { LOADER, RUNTIME } from './programs.ts'
import { boardText, run, TestRobot } from './robot.ts'

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

test('HANDLES 17: clients are neither refused nor cut off over 100 swaps', {
  tags: ['slow'],
  timeout: 900_000 * SCALE,
}, async () => {
  const visitors = [new Visitor({ port }), new Visitor({ port }, '/slow')]
  for (let n = 1; n <= 100; n++) await robot.commit('web', { version: version(1 + (n % 10)) })
  for (const visitor of visitors) {
    await visitor.stop()
    expect(visitor.failures).toEqual([])
    expect(visitor.answers.size).toBeGreaterThanOrEqual(10)
  }
})

test('HANDLES 17.2: a port in use ends the start of the runtime, with the port and a hint', async () => {
  const board = { more: { handles: { ...PINS, web: { kind: 'listen', port } } } }
  const home = mkdtempSync(join(tmpdir(), 'medulla-e2e-'))
  writeFileSync(join(home, 'board.json'), boardText({}, board.more))
  const { status, stdout } = await run(RUNTIME, ['--home', home, '--port', '0', '--sim'])
  expect([status, JSON.parse(stdout)]).toEqual([
    3,
    { event: 'error', error: expect.objectContaining({ code: 'bad-device' }) },
  ])
  expect(stdout).toContain(`web: port ${port} is in use`)
  expect(stdout).toContain('in board.json')
  rmSync(home, { recursive: true, force: true })
})

test("HANDLES 17.2: a socket file is in the home's folder sockets, accessible to user and group of the runtime", async () => {
  const other = await TestRobot.start(
    {},
    {},
    { more: { handles: { ...PINS, web: { kind: 'listen', path: 'web.sock' } } } },
  )
  try {
    await other.commit('web')
    const socketPath = join(other.home, 'sockets', 'web.sock')
    expect(statSync(socketPath).mode & 0o777).toBe(0o660)
    expect((await other.slot()).handles).toContainEqual(expect.objectContaining({ name: 'web', kind: 'listen', place: 'sockets/web.sock' })) // biome-ignore format: one call
    const visitor = new Visitor({ socketPath })
    for (let n = 1; n <= 3; n++) await other.commit('web', { version: version(n) })
    await visitor.stop()
    expect(visitor.failures).toEqual([])
    expect((await ask({ socketPath })).text).toBe(version(3))
    await other.end()
    expect(() => statSync(socketPath)).toThrow('ENOENT')
  } finally {
    await other.close()
  }
})

const boxes = (['namespaces', 'bwrap'] as const).filter((sandbox) => canConfine(sandbox, LOADER).ok)

describe.skipIf(boxes.length === 0).each(boxes)('in %s (needs root)', (sandbox) => {
  test('HANDLES 17.3, 13.11: a program without network serves on its port, and can make no connection', async () => {
    const port = await freePort()
    const more = { handles: { ...PINS, web: { kind: 'listen', port } } }
    const confined = await TestRobot.start({}, {}, { sandbox, more })
    try {
      expect((await confined.commit('web')).confined).toBe(true)
      const visitor = new Visitor({ port })
      for (let n = 1; n <= 3; n++) await confined.commit('web', { version: version(n) })
      await visitor.stop()
      expect(visitor.failures).toEqual([])
      expect((await ask({ port })).text).toBe(version(3))
      confined.receipts()
    } finally {
      await confined.close()
    }
  })
})
