/** "First hour" of robots/README.md from the packed tarball in an empty folder; then npm test, types and watch. */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { SCALE, eventually as within } from '../../../e2e/eventually.ts'
import { ROOT } from '../../../project/tree.ts'
import { differs, plain, steps } from './console.ts'

/** Each command is a separate process, on a machine that may be busy. */
const eventually = <T>(probe: () => T | false | null | undefined) => within(probe, 120_000 * SCALE)

const folder = mkdtempSync(join(tmpdir(), 'medulla-hour-'))
const home = join(folder, 'home')
const prefix = join(folder, 'prefix')
/** Long, as the machine may be busy. */
const env = {
  PATH: `${join(prefix, 'bin')}:${process.env.PATH}`,
  HOME: home,
  NO_COLOR: '1',
  MEDULLA_TIME_SCALE: String(4 * SCALE),
  MEDULLA_DISCOVERY: 'off',
  // the npm registry settings are this computer's, not the new user's
  npm_config_cache: npmConfig('cache'),
  npm_config_userconfig: npmConfig('userconfig'),
  ...(process.env.NODE_EXTRA_CA_CERTS && { NODE_EXTRA_CA_CERTS: process.env.NODE_EXTRA_CA_CERTS }),
  npm_config_prefer_offline: 'true',
  npm_config_audit: 'false',
  npm_config_fund: 'false',
}
const SLOW = { tags: ['slow'], timeout: 600_000 * SCALE }
const robots: number[] = []

function npmConfig(name: string): string {
  return spawnSync('npm', ['config', 'get', name], { encoding: 'utf8' }).stdout.trim()
}

function sh(command: string, cwd = home): { status: number | null; stdout: string } {
  return spawnSync('sh', ['-c', `${command} 2>&1`], { cwd, env, encoding: 'utf8', timeout: 300_000 * SCALE })
}

beforeAll(() => {
  mkdirSync(home)
  const packed = sh(`npm pack --ignore-scripts --pack-destination '${folder}'`, ROOT)
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'))
  if (tarball === undefined) throw new Error(packed.stdout)
  const installed = sh(`npm install --global --prefix '${prefix}' --ignore-scripts '${join(folder, tarball)}'`)
  if (installed.status !== 0) throw new Error(installed.stdout)
}, 600_000 * SCALE)
afterAll(async () => {
  for (const pid of robots) process.kill(pid, 'SIGTERM')
  // until they have let go of their homes
  for (const pid of robots) await eventually(() => !existsSync(`/proc/${pid}`))
  rmSync(folder, { recursive: true, force: true, maxRetries: 20 })
})

test('the installed package depends on esbuild and optional native packages only', SLOW, () => {
  const at = join(prefix, 'lib/node_modules/medulla')
  const { dependencies, optionalDependencies } = JSON.parse(readFileSync(join(at, 'package.json'), 'utf8'))
  expect(Object.keys(dependencies)).toEqual(['esbuild'])
  const optional = /^(?:@koromix|koffi|i2c-bus|onoff|pigpio|epoll|lodash\.debounce|bindings|file-uri-to-path|nan)$/
  const there = readdirSync(join(at, 'node_modules')).filter((name) => !name.startsWith('.') && !optional.test(name))
  expect(there.sort()).toEqual(['@esbuild', 'esbuild'])
  expect(Object.keys(optionalDependencies).sort()).toEqual(['i2c-bus', 'koffi', 'onoff', 'pigpio'])
})

test('the commands of the first hour print what the README shows', SLOW, () => {
  const hour = steps('First hour')
  expect(hour.length).toBeGreaterThan(5)
  for (const { command, expected } of hour) {
    const { stdout } = sh(command)
    for (const [, pid] of stdout.matchAll(/kill (\d+) ends it/g)) robots.push(Number(pid))
    const got = stdout
      .split('\n')
      .map((line) => plain(line, home))
      .filter((line) => line !== '' && !line.startsWith('port # is in use'))
    expect(differs(expected, got), `$ ${command}\n${stdout}`).toBe(null)
  }
})

test(
  'after npm install the test of a new program passes, its types are right, and a push warns of those that are not',
  SLOW,
  () => {
    // the program's own test expects the program as `medulla new` made it
    sh("sed -i 's/every(100/every(250/' blinky/program.ts")
    const installed = sh('cd blinky && npm install')
    expect(installed.status, installed.stdout).toBe(0)
    const again = sh('cd blinky && npm install && npm ls medulla')
    expect(again.status, again.stdout).toBe(0)
    const tested = sh('cd blinky && npm test')
    expect(tested.status, tested.stdout).toBe(0)
    expect(sh('cd blinky && npx tsc')).toMatchObject({ status: 0, stdout: '' })
    const program = join(home, 'blinky/program.ts')
    const good = readFileSync(program, 'utf8')
    writeFileSync(
      program,
      good.replace('led.write(', 'const wrong: string = 1\n      led.write(wrong === undefined ? 0 : '),
    )
    const pushed = sh('medulla push blinky')
    expect(pushed.stdout).toMatch(/^types: program\.ts:\d+:\d+: .* \(TS\d+\)$/m)
    expect(pushed.stdout).toContain('committed: blinky 1.0.0 runs')
    expect(sh('medulla push blinky --types error')).toMatchObject({ status: 6 })
    writeFileSync(program, good)
  },
)

test('the installed medulla watch pushes a save', SLOW, async () => {
  const watch = spawn('medulla', ['watch', 'blinky'], { cwd: home, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  for (const stream of [watch.stdout, watch.stderr]) stream.setEncoding('utf8').on('data', (more: string) => {
    text += more
  }) // biome-ignore format: one statement
  await eventually(() => /^start: .*committed/m.test(text))
  const program = join(home, 'blinky/program.ts')
  writeFileSync(program, readFileSync(program, 'utf8').replace('goes on at', 'has come to'))
  await eventually(() => /^blinky\/program\.ts: .*committed/m.test(text))
  expect(text).toContain('has come to blink')
  watch.kill('SIGINT')
  await new Promise((resolve) => watch.once('close', resolve))
})
