/** One bundle for several robots: two simulated robots of one laptop. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Laptop } from './medulla.ts'

const laptop = new Laptop()
const folder = join(laptop.dir, 'lamp')
/** Of the bundle file lamp.medulla. */
let digest: string

async function simulated(name: string): Promise<void> {
  const board = join(laptop.dir, 'board.json')
  const started = laptop.start(['--json', 'sim', '--name', name, '--port', '0', '--board', board])
  const line = await new Promise<string>((resolve, reject) => {
    started.stdout?.once('data', resolve)
    started.ended.then(({ stdout, stderr }) => reject(new Error(stdout + stderr)), reject)
  })
  expect(JSON.parse(line).event, line).toBe('listening')
}

function program(version: string, needs = 'led'): void {
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'lamp', version }))
  const source = `import { robot } from 'medulla'
robot({ ${needs}: 'output' }, ({ ${needs}: led, every }) => {
  every(10, () => led.write(!led.value))
})
`
  writeFileSync(join(folder, 'program.ts'), source)
}

beforeAll(async () => {
  const timing = { trialMs: 60, readyMs: 30_000, yieldMs: 3000, takeoverMs: 3000, heartbeatMs: 3000 }
  const handles = { led: { kind: 'output', line: 'GPIO17', safe: 0 } }
  writeFileSync(join(laptop.dir, 'board.json'), JSON.stringify({ model: 'sim', handles, timing }))
  mkdirSync(folder)
  await laptop.run('keygen')
  await simulated('one')
  await simulated('two')
})
afterAll(() => laptop.close())

async function runs(robot: string): Promise<unknown> {
  const { events } = await laptop.json('status', '-d', robot)
  return (events[0]?.slots as { digest?: string }[] | undefined)?.[0]?.digest
}

async function refused(...args: string[]): Promise<string> {
  const { status, stderr } = await laptop.run(...args)
  expect(status).toBe(3)
  return stderr
}

test('G4: G7: one bundle is pushed to two robots, under one signature that covers both', async () => {
  program('1.0.0')
  const { status, events, stderr } = await laptop.json('push', 'lamp', '--types', 'off', '-d', 'one', '-d', 'two')
  expect(status, stderr).toBe(0)
  const built = events.filter(({ event }) => event === 'built')
  expect(built).toHaveLength(1)
  expect(events.flatMap(({ event, robot }) => (event === 'robot' ? [robot] : []))).toEqual(['one', 'two'])
  expect([await runs('one'), await runs('two')]).toEqual([built[0]?.digest, built[0]?.digest])
})

test('the first robot that does not run the bundle ends the push: the others keep their programs', async () => {
  const before = [await runs('one'), await runs('two')]
  program('1.1.0', 'ghost')
  const { status, stdout, stderr } = await laptop.run('push', 'lamp', '--types', 'off', '-d', 'one,two')
  expect(status, stdout + stderr).toBe(3)
  expect(stdout).not.toContain('two:')
  expect(stderr).toContain('not pushed to two, which keep their programs')
  expect([await runs('one'), await runs('two')]).toEqual(before)
})

test('a command for one robot refuses several', async () => {
  const { status, stderr } = await laptop.run('status', '-d', 'one', '-d', 'two')
  expect(status).toBe(2)
  expect(stderr).toContain('this is for one robot, and -d names 2')
})

test('G5: BUNDLE 8.4: a robot that is no recipient any more cannot open the next bundle, and sealing again does not let it in', async () => {
  program('1.2.0')
  const build = await laptop.json('build', 'lamp', '-d', 'one', '-o', 'lamp.medulla')
  expect(build.status, build.stderr).toBe(0)
  digest = String(build.events.find(({ event }) => event === 'built')?.digest)
  expect(await refused('push', 'lamp.medulla', '-d', 'two')).toContain("this robot's key is not among its recipients")
  expect(await refused('seal', 'lamp.medulla', '--to', 'one,two')).toContain('was not built for two')
})

test('BUNDLE 8.8: seal gives a bundle file to the present keys of its robots, under the same signature', async () => {
  expect((await laptop.run('keys', 'rotate', '-d', 'one')).status).toBe(0)
  const before = readFileSync(join(laptop.dir, 'lamp.medulla'))
  const again = ['seal', 'lamp.medulla', '--to', 'one', '--output', 'again.medulla']
  const sealed = await laptop.run(...again)
  expect(sealed.status, sealed.stderr).toBe(0)
  expect(readFileSync(join(laptop.dir, 'lamp.medulla'))).toEqual(before)
  const pushed = await laptop.run('push', 'again.medulla', '-d', 'one')
  expect(pushed.status, pushed.stdout + pushed.stderr).toBe(0)
  expect(pushed.stdout).toContain('lamp 1.2.0')
  expect(await runs('one')).toBe(digest)
})
