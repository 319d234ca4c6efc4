/** The built command lines of laptop and robot. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { PushEvent, Receipt } from '../../deploy/shared/api.ts'
import { parseEntry, verifyLog } from '../../deploy/shared/receiptlog.ts'
import { tapWire } from '../deploy/shared/channel/peers.ts'
import { eventually } from './eventually.ts'
import { CLI, RUNTIME, source } from './programs.ts'
import { boardText, run } from './robot.ts'
import { staged } from './staged.ts'
import { counts, expectHeld, expectNoTickLost, expectOneWriter, Trace } from './trace.ts'

const folder = mkdtempSync(join(tmpdir(), 'medulla-cli-'))
const home = join(folder, 'robot')
const key = join(folder, '.ssh', 'id_ed25519')
const trace = new Trace(join(folder, 'trace.ndjson'))
const { PATH } = process.env
const env = { PATH, HOME: folder, MEDULLA_CONFIG: join(folder, 'config') }
let runtime: ChildProcess
let port = 0

const medulla = (...args: string[]) => run(CLI, args, env)

/** Runs `medulla` with --json, and parses the lines on stdout. */
async function json(...args: string[]): Promise<{ status: number | null; lines: Record<string, unknown>[] }> {
  const { status, stdout } = await medulla(...args, '--json')
  const lines = stdout.split('\n').filter((line) => line !== '')
  return { status, lines: lines.map((line) => JSON.parse(line) as Record<string, unknown>) }
}

async function push(
  ...args: string[]
): Promise<{ status: number | null; result: Extract<PushEvent, { event: 'result' }> }> {
  const { status, lines } = await json('push', ...args)
  return { status, result: lines.at(-1) as Extract<PushEvent, { event: 'result' }> }
}

/** A project folder like those of `medulla new`. Each version is an edit of the same program. */
function project(name: string, version: string): string {
  const dir = join(folder, 'project')
  mkdirSync(dir, { recursive: true })
  writeFileSync(join(dir, 'package.json'), JSON.stringify({ name: 'counter', version, type: 'module' }))
  copyFileSync(source(name), join(dir, 'program.ts'))
  return dir
}

function receipts(): Receipt[] {
  const lines = readFileSync(join(home, 'receipts.ndjson'), 'utf8').trim().split('\n')
  const card = JSON.parse(readFileSync(join(home, 'robot.json'), 'utf8')) as { cert: string }
  expect(verifyLog(lines, (JSON.parse(card.cert) as { key: string }).key)).toMatchObject({ ok: true })
  return lines.map((line) => parseEntry(line).receipt)
}

beforeAll(async () => {
  mkdirSync(join(folder, '.ssh'), { mode: 0o700 })
  mkdirSync(home, { mode: 0o700 })
  writeFileSync(join(home, 'board.json'), boardText())
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'ann@laptop', '-f', key])
})
afterAll(async () => {
  if (runtime?.exitCode === null) {
    runtime.kill('SIGTERM')
    await once(runtime, 'close')
  }
  rmSync(folder, { recursive: true, force: true })
})

test('S1: with ~/.ssh/id_ed25519 as the key, laptop and robot trust each other without keygen', async () => {
  const card = join(folder, 'me.json')
  const exported = await medulla('trust', '--export')
  expect(exported.status, exported.stderr).toBe(0)
  writeFileSync(card, exported.stdout)
  const { cert } = JSON.parse(exported.stdout) as { cert: string }
  const [type, blob] = readFileSync(`${key}.pub`, 'utf8').split(' ')
  expect(JSON.parse(cert)).toMatchObject({ subject: 'operator', key: `${type} ${blob}` })
  runtime = spawn(process.execPath, [RUNTIME, '--home', home, '--sim', '--port', '0', '--trace', trace.path], { stdio: ['ignore', 'pipe', 'ignore'] }) // biome-ignore format: one call
  const [line] = (await once(runtime.stdout as NodeJS.ReadableStream, 'data')) as [Buffer]
  port = (JSON.parse(line.toString()) as { port: number }).port
  const trusted = await medulla('trust', '--home', home, card, '--role', 'owner')
  expect(trusted.status, trusted.stderr).toBe(0)
  const known = await medulla('trust', 'arm', `127.0.0.1:${port}`, '--card', join(home, 'robot.json'))
  expect(known.status, known.stderr).toBe(0)
  expect(readdirSync(env.MEDULLA_CONFIG).sort()).toEqual(['operators', 'robots.json'])
})

test('P2: one command pushes one program to one robot', async () => {
  const { status, stdout, stderr } = await medulla('push', project('counter', '1.0.0'))
  expect(status, stderr).toBe(0)
  expect(stdout).toMatch(/committed: counter 1\.0\.0 runs/)
  expect(receipts().at(-1)).toMatchObject({ outcome: 'committed', program: 'counter', version: '1.0.0' })
  const { lines } = await json('status')
  expect(JSON.stringify(lines)).toContain('"program":"counter"')
})

test('P11: each outcome of a push has its exit code, and --json reports the same in NDJSON', async () => {
  // committed
  const good = await push(project('counter', '1.1.0'))
  expect(good).toMatchObject({ status: 0, result: { event: 'result', outcome: 'committed' } })
  expect(good.result.receipt).toEqual(receipts().at(-1))
  // executed, then undone
  const undone = await push(project('dies-in-trial', '1.2.0'))
  expect(undone).toMatchObject({ status: 4, result: { outcome: 'rolled-back', code: 'died-in-trial' } })
  expect(undone.result.receipt?.gapMs).toBeGreaterThan(0)
  // refused before anything was executed
  const refused = await json('push', source('needs-ghost'))
  expect(refused.status).toBe(3)
  expect(refused.lines.at(-1)).toMatchObject({ event: 'result', outcome: 'refused', code: 'missing-handle' })
  // not built
  const broken = project('counter', '1.3.0')
  writeFileSync(join(broken, 'program.ts'), 'robot({ led: "output" }, (\n')
  const unbuilt = await json('push', broken)
  expect(unbuilt.status).toBe(6)
  expect(unbuilt.lines.at(-1)).toMatchObject({ event: 'error', error: { code: 'build-failed' } })
  // unknown robot; wrong command line; nothing listens at the address
  expect((await json('push', broken, '-d', 'leg')).lines.at(-1)).toMatchObject({ error: { code: 'unknown-robot' } })
  expect((await medulla('push', '--no-such-option')).status).toBe(2)
  const empty = createServer().listen(0, '127.0.0.1')
  await once(empty, 'listening')
  const { port: unused } = empty.address() as AddressInfo
  await new Promise((resolve) => empty.close(resolve))
  await medulla('trust', 'gone', `127.0.0.1:${unused}`, '--card', join(home, 'robot.json'))
  const away = await json('status', '-d', 'gone')
  expect(away.status).toBe(5)
  expect(away.lines.at(-1)).toMatchObject({ event: 'error', error: { code: 'unreachable' } })
  rmSync(join(env.MEDULLA_CONFIG, 'robots.json'))
  await medulla('trust', 'arm', `127.0.0.1:${port}`, '--card', join(home, 'robot.json'))
  // the failure without --json
  const told = await medulla('push', source('needs-ghost'))
  expect(told.stderr).toMatch(/^medulla: error: .*ghost.*\nmedulla: hint: .+\n$/s)
})

test('G11: the state is migrated up by a push and down by a rollback, and no tick is lost', async () => {
  expect(await push(project('counter', '2.0.0'))).toMatchObject({ status: 0 })
  const mark = trace.mark()
  const up = await push(project('counter-v2', '3.0.0'))
  expect(up).toMatchObject({ status: 0, result: { outcome: 'committed' } })
  await trace.more('dial')
  const { status, lines } = await json('rollback')
  expect(status).toBe(0)
  const back = lines.at(-1) as unknown as Extract<PushEvent, { event: 'result' }>
  expect(back.receipt).toMatchObject({ outcome: 'committed', version: '2.0.0', from: up.result.receipt?.to })
  await trace.more('dial')
  const entries = trace.since(mark)
  expectNoTickLost(entries)
  expect(new Set(entries.map(({ fence }) => fence)).size).toBe(3)
  expect(counts(entries)[0]).toBeGreaterThan(1)
  const verified = await medulla('receipts', '--verify')
  expect(verified.status, verified.stderr).toBe(0)
})

test('when the CLI is killed during an upload, the robot keeps none of it, and the next push works', async () => {
  const before = receipts().length
  let sent = 0
  const wire = await tapWire(port, (chunk, direction) => {
    if (direction === 'down') return chunk
    sent += chunk.length
    return sent > 200_000 ? null : chunk
  })
  // large enough for more than one frame
  const large = project('counter', '4.0.0')
  writeFileSync(join(large, 'map.ts'), `export const map = '${randomBytes(300_000).toString('base64')}'\n`)
  appendFileSync(join(large, 'program.ts'), "\nimport { map } from './map.ts'\nexport const size = map.length\nconsole.log(map.at(-1))\n") // biome-ignore format: one call
  await medulla('trust', 'slow', `127.0.0.1:${wire.port}`, '--card', join(home, 'robot.json'))
  const cli = spawn(process.execPath, [CLI, 'push', large, '-d', 'slow'], {
    env,
    stdio: 'ignore',
  })
  await eventually(() => sent > 200_000)
  cli.kill('SIGKILL')
  await once(cli, 'close')
  await eventually(() => receipts().length > before)
  expect(receipts().at(-1)).toMatchObject({ outcome: 'refused', code: 'truncated' })
  expect(staged(home)).toEqual([])
  wire.close()
  expect(await push(project('counter', '4.0.1'), '-d', 'arm')).toMatchObject({ status: 0 })
  expectHeld(trace.read())
  expectOneWriter(trace.read())
})

test.each([
  ['a number where a line belongs', { led: { kind: 'output', line: 'GPIO99' } }, 'handles.led.line', 'GPIO'],
  ['a kind that is misspelt', { led: { kind: 'ouput', line: 'GPIO17' } }, 'handles.led', 'output'],
  [
    'one line twice',
    { a: { kind: 'output', line: 'GPIO17' }, b: { kind: 'input', line: 'GPIO17' } },
    'handles.b',
    '"a"',
  ],
])('a board file with a mistake (%s): exit 3, with the place and the fix', async (_, handles, place, fix) => {
  const board = join(folder, 'bad.json')
  writeFileSync(board, JSON.stringify({ model: 'sim', handles }))
  const { status, stdout } = await run(RUNTIME, [
    '--home',
    join(folder, 'other'),
    '--sim',
    '--port',
    '0',
    '--board',
    board,
  ])
  expect(status).toBe(3)
  const { error } = JSON.parse(stdout) as { error: { code: string; message: string; hint: string } }
  expect(error.code).toBe('bad-board')
  expect(error.message).toContain(board)
  expect(error.message).toContain(place)
  expect(`${error.message} ${error.hint}`).toContain(fix)
  expect(error.hint.length).toBeGreaterThan(5)
})

test('medulla sim with a wrong board file, or a port in use, exits 3 with a code and a hint', async () => {
  const bad = await json('sim', '--name', 'tiny', '--port', '0', '--board', join(folder, 'bad.json'))
  expect(bad.status).toBe(3)
  expect(bad.lines.at(-1)).toMatchObject({ error: { code: 'bad-board', hint: expect.any(String) } })
  const taken = await json('sim', '--name', 'tiny', '--port', String(port))
  expect(taken.status).toBe(3)
  expect(taken.lines.at(-1)).toMatchObject({ error: { code: 'port-in-use', hint: expect.stringContaining('--port') } })
  // the process that has the port goes on serving
  expect((await medulla('status', '-d', 'arm')).status).toBe(0)
})
