import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { parseBoard } from '../../../../drivers/board/board.ts'
import { Laptop } from './medulla.ts'

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url))
/** Set by `npm run test:kernel`: the last test boots a kernel twice. */
const BOOTS = process.env.MEDULLA_KERNEL === '1'
const { MEDULLA_RIG_KERNEL, XDG_CACHE_HOME = join(homedir(), '.cache') } = process.env
/** The laptop of the test has its own home, while the built kernel is in this user's. */
const KERNEL = { XDG_CACHE_HOME, ...(MEDULLA_RIG_KERNEL === undefined ? {} : { MEDULLA_RIG_KERNEL }) }

let laptop: Laptop
beforeEach(async () => {
  laptop = new Laptop()
  await laptop.run('keygen')
})
afterEach(() => laptop.close())

test('the default board of sim --kernel is one of a Pi 4', () => {
  const board = (name: string) => parseBoard(readFileSync(join(ROOT, 'robots/blink', name), 'utf8'), name)
  const [real, simulated] = [board('board.pi4.json'), board('board.json')]
  expect(real.model).toBe('pi4')
  // it has all handles of the simulated robot's board
  const kinds = ({ handles }: typeof real) => Object.entries(handles).map(([name, { kind }]) => [name, kind])
  expect(kinds(real)).toEqual(kinds(simulated))
})

test('sim --kernel is refused without bwrap or QEMU, and with options that it cannot take', async () => {
  const { status, stdout, stderr } = await laptop.start(['sim', '--kernel'], { PATH: laptop.dir }).ended
  expect({ status, stdout }).toEqual({ status: 3, stdout: '' })
  expect(stderr).toMatch(
    /^medulla: error: .* needs the command qemu-system-x86_64, which is not installed\nmedulla: hint: apt-get install .*rig\.mjs/,
  )
  const given = await laptop.start(['sim', '--kernel'], { PATH: laptop.dir, MEDULLA_RIG_KERNEL: 'linux' }).ended
  expect(given.stderr).toMatch(
    /^medulla: error: .* needs the command bwrap, which is not installed\nmedulla: hint: apt-get install .*rig\.mjs/,
  )
  expect(await laptop.run('sim', '--kernel', '--port', 'x')).toMatchObject({ status: 2 })
  expect(await laptop.run('sim', '--kernel', '--trace', 'x')).toMatchObject({ status: 2 })

  writeFileSync(join(laptop.dir, 'qemu-system-x86_64'), '', { mode: 0o755 })
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  const taken = await laptop.start(['sim', '--kernel', '--port', `${port}`], { PATH: laptop.dir }).ended
  expect(taken).toMatchObject({ status: 3, stdout: '', stderr: expect.stringContaining(`port ${port} is in use`) })
  server.close()
})

test('sim --kernel of an installed package says that it needs a clone', () => {
  const installed = join(laptop.dir, 'installed')
  mkdirSync(installed)
  for (const part of ['dist/deploy', 'package.json'])
    cpSync(join(ROOT, part), join(installed, part), { recursive: true })
  symlinkSync(join(ROOT, 'node_modules'), join(installed, 'node_modules'))
  const args = [join(installed, 'dist/deploy/laptop/cli/main.js'), 'sim', '--kernel']
  const env = { PATH: process.env.PATH, HOME: laptop.dir, MEDULLA_CONFIG: join(laptop.dir, 'config') }
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { env, encoding: 'utf8' })
  expect({ status, stdout }).toEqual({ status: 3, stdout: '' })
  expect(stderr).toMatch(/this installation has no kernel to boot.*\nmedulla: hint: .*clone/)
})

test.runIf(BOOTS)(
  'sim --kernel: pushed from here, run over a real kernel, and there again after a cut',
  { timeout: 600_000 },
  async () => {
    for (const round of [1, 2]) {
      const sim = laptop.start(['sim', '--kernel', '--port', '0', '--json'], KERNEL)
      await new Promise<void>((resolve) => sim.stdout?.once('data', () => resolve()))
      if (round === 1) {
        const pushed = await laptop.json('push', join(ROOT, 'robots/blink/v1'), '-d', 'kernel')
        expect(pushed.events.at(-1)).toMatchObject({ event: 'result', outcome: 'committed' })
      }
      const { events } = await laptop.json('status', '-d', 'kernel')
      expect(events.at(-1)).toMatchObject({ simulated: false, confined: true, fence: 'cgroup', limits: 'cgroup' })
      expect(JSON.stringify(events)).toContain('"program":"blink"')
      sim.kill('SIGTERM')
      expect(await sim.ended).toMatchObject({ status: 0 })
    }
  },
)
