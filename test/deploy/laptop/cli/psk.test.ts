/** `medulla psk` of the built CLI, with a simulated robot that has a pre-shared key. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from '../../../e2e/eventually.ts'
import { CLI, Laptop } from './medulla.ts'

const KEY = randomBytes(32).toString('hex')

let laptop: Laptop
let robot: ReturnType<Laptop['start']>

beforeAll(async () => {
  laptop = new Laptop()
  writeFileSync(join(laptop.dir, 'board.json'), JSON.stringify({ model: 'sim', handles: {} }))
  await laptop.run('keygen')
  await start()
})
afterAll(() => laptop?.close())

async function start(): Promise<void> {
  robot = laptop.start(['sim', '--board', join(laptop.dir, 'board.json'), '--json'])
  const line = await new Promise<string>((resolve, reject) => {
    robot.stdout?.once('data', resolve)
    robot.ended.then(({ stderr }) => reject(new Error(stderr)), reject)
  })
  expect(line).toContain('listening')
}

/** Runs a CLI command with this text on stdin. */
function piped(input: string, ...args: string[]) {
  const child = laptop.inTerminal(`printf %s '${input}' | ${process.execPath} ${CLI} ${args.join(' ')}; echo "exit $?"`)
  return child.ended.then(() => child.text())
}

test('CHANNEL 3.11: S5: psk set on the laptop and a file on the robot: sessions need both, and no output has the key', async () => {
  expect((await laptop.run('psk')).stdout).toBe('sim: no pre-shared key is set\n')
  expect((await laptop.run('status')).status).toBe(0)
  // the laptop alone
  const set = await piped(KEY, 'psk', 'set')
  expect(set).toContain('sim: sessions now need the pre-shared key')
  expect(set).toContain('exit 0')
  const file = join(laptop.dir, 'config/psk/sim.key')
  expect(statSync(file).mode & 0o777).toBe(0o600)
  const alone = await laptop.run('status')
  expect(alone.status).not.toBe(0)
  expect(alone.stderr).toContain('this laptop goes on with no less')
  // both
  robot.kill('SIGTERM')
  await robot.ended
  const [home = ''] = readdirSync(join(laptop.dir, 'config/sim'), { withFileTypes: true })
    .filter((entry) => existsSync(join(laptop.dir, 'config/sim', entry.name, 'endpoint')))
    .map((entry) => join(laptop.dir, 'config/sim', entry.name))
  writeFileSync(join(home, 'endpoint/psk.key'), `${KEY}\n`, { mode: 0o600 })
  await start()
  expect(await laptop.run('status')).toMatchObject({ status: 0 })
  expect((await laptop.run('psk')).stdout).toBe('sim: sessions need the pre-shared key of this laptop\n')
  const shown = execFileSync('ps', ['axeww', '-o', 'args'], { maxBuffer: 64 * 1024 * 1024 }).toString()
  expect(shown).not.toContain(KEY)
  // another key, then none
  const other = randomBytes(32).toString('hex')
  await piped(other, 'psk', 'set')
  const wrong = await laptop.run('status')
  expect(wrong.status).not.toBe(0)
  expect(wrong.stderr).toContain('could not prove to be sim')
  expect((await laptop.run('psk', 'unset')).stdout).toBe('sim: the pre-shared key is removed from this laptop\n')
  const none = await laptop.run('status')
  expect(none.status).not.toBe(0)
  expect(none.stderr).toContain('takes no session without a pre-shared key')
  expect(none.stderr).toContain('medulla psk set')
  // a file that others may read, or that is no key, is refused instead of ignored
  await piped(KEY, 'psk', 'set')
  chmodSync(file, 0o644)
  expect((await laptop.run('status')).stderr).toContain(`chmod 600 ${file}`)
  chmodSync(file, 0o600)
  writeFileSync(file, KEY.slice(1))
  const damaged = await laptop.run('status')
  expect(damaged.stderr).toContain('expected 64 hex digits')
  writeFileSync(file, KEY)
  expect((await laptop.run('status')).status).toBe(0)
  robot.kill('SIGTERM')
  const ended = await robot.ended
  for (const text of [set, alone, wrong, none, damaged, ended].map((each) => JSON.stringify(each))) {
    expect(text).not.toContain(KEY)
    expect(text).not.toContain(other)
  }
})

test('psk set refuses a key on the command line and what is no key, and repeats neither; forget removes the key', async () => {
  const given = await laptop.run('psk', 'set', KEY)
  expect(given).toMatchObject({ status: 2, stderr: expect.stringContaining('a key on the command line is refused') })
  expect(given.stderr).not.toContain(KEY)
  const short = await piped(KEY.slice(1), 'psk', 'set')
  expect(short).toContain('expected 64 hex digits, got 63 characters')
  expect(short).not.toContain(KEY.slice(1))
  const file = join(laptop.dir, 'config/psk/sim.key')
  expect(readFileSync(file, 'utf8').trim()).toBe(KEY)
  await laptop.run('forget', 'sim')
  await eventually(() => !existsSync(file))
})
