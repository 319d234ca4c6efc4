import { type ChildProcess, spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { build } from 'esbuild'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import type { Kept } from '../../drivers/backend.ts'
import type { BoardHandle } from '../../drivers/board.ts'
import type { Rescue } from '../../runtime/standby/wire.ts'
import { eventually, SCALE } from '../e2e/eventually.ts'
import { load } from '../e2e/load.ts'
import { ROOT } from '../project/tree.ts'
import type { BodyOrder } from './children/standbybody.ts'

/** HANDLES 14.2 */
const SAFE_WITHIN_MS = 150
const ABOUT = { model: 'linux', chip: 'test' }
const CGROUPS = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find((path) =>
  existsSync(join(path, 'cgroup.controllers')),
)
const mayGroup = CGROUPS !== undefined && process.getuid?.() === 0

let dist: string

beforeAll(async () => {
  dist = mkdtempSync(join(tmpdir(), 'medulla-standby-dist-'))
  // as in dist: the body starts ../standby/main.js
  const entryPoints = { 'body/test': 'test/runtime/children/standbybody.ts', 'standby/main': 'runtime/standby/main.ts' }
  await build({
    entryPoints: Object.fromEntries(Object.entries(entryPoints).map(([out, path]) => [out, join(ROOT, path)])),
    outdir: join(dist, 'runtime'),
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'esm',
    external: ['koffi'],
    logLevel: 'error',
  })
  writeFileSync(join(dist, 'package.json'), '{"type":"module"}')
  symlinkSync(join(ROOT, 'node_modules'), join(dist, 'node_modules'))
})

afterAll(() => rmSync(dist, { recursive: true, force: true }))

interface Report {
  opened: string[]
  adopted: [string, Kept][]
  rescue: Rescue | null
  standby: number
  programs: number[]
}

class Body {
  readonly process: ChildProcess
  readonly #lines: string[] = []
  #wake = () => {}

  constructor(order: BodyOrder, env: Record<string, string>) {
    const args = [join(dist, 'runtime/body/test.js'), JSON.stringify(order)]
    const stdio = ['pipe', 'pipe', 'inherit'] as const
    this.process = spawn(process.execPath, args, { stdio: [...stdio], env: { ...process.env, ...env } })
    onTestFinished(() => void this.process.kill('SIGKILL'))
    createInterface({ input: this.process.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      this.#lines.push(line)
      this.#wake()
    })
    this.process.once('exit', () => this.#wake())
  }

  async line(): Promise<Record<string, unknown>> {
    while (this.#lines.length === 0) {
      if (this.process.exitCode !== null || this.process.signalCode !== null) throw new Error('the body ended')
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    return JSON.parse(this.#lines.shift() as string) as Record<string, unknown>
  }

  async report(): Promise<Report> {
    const line = await this.line()
    expect(line).not.toHaveProperty('note')
    const report = line as unknown as Report
    cleanUp(report.standby)
    return report
  }

  say(text: string): void {
    this.process.stdin?.write(`${text}\n`)
  }

  /** SIGKILL, and the time just before it. */
  async kill(): Promise<bigint> {
    const ended = new Promise((resolve) => this.process.once('exit', resolve))
    const at = process.hrtime.bigint()
    this.process.kill('SIGKILL')
    await ended
    return at
  }

  async end(): Promise<void> {
    const ended = new Promise((resolve) => this.process.once('exit', resolve))
    this.say('end')
    await ended
  }
}

const standbys = new Set<number>()

/** A test that fails leaves none behind. */
function cleanUp(pid: number | null): void {
  if (pid === null || standbys.has(pid)) return
  standbys.add(pid)
  onTestFinished(() => {
    if (holds(pid).length > 0) process.kill(pid, 'SIGKILL')
  })
}

const output = (safe: 0 | 1 | 'hold'): BoardHandle => ({
  kind: 'output',
  line: 'GPIO17',
  initial: 0,
  safe,
  activeLow: false,
  drive: 'push-pull',
  driver: 'sysfs',
  via: 'inherit',
})

const pwm: BoardHandle = {
  kind: 'pwm',
  line: 'GPIO18',
  frequencyHz: 50,
  initial: 0,
  safe: 0.075,
  min: 0,
  max: 1,
  slew: 0,
  driver: 'kernel',
  channel: { chip: 0, channel: 0 },
  via: 'inherit',
}

const imu: BoardHandle = { kind: 'i2c', bus: 1, address: 0x68, via: 'inherit' }

/** A folder with a file for each handle, as sysfs has them, and a home for the socket. */
function rig(handles: Record<string, BoardHandle>, options: Partial<BodyOrder> = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'medulla-standby-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const files = Object.fromEntries(Object.keys(handles).map((name) => [name, join(folder, name)]))
  for (const path of Object.values(files)) writeFileSync(path, '9')
  const order: BodyOrder = { folder, about: ABOUT, handles, files, cgroup: null, programs: 0, role: 'body', ...options }
  return {
    order,
    body: (changes: Partial<BodyOrder> = {}, env = {}) => new Body({ ...order, ...changes }, env),
    content: (name: string) => readFileSync(files[name] ?? '', 'utf8'),
    lose: (name: string) => unlinkSync(files[name] ?? ''),
    listens: () => existsSync(join(folder, 'standby.sock')),
  }
}

/** What a process has open below the temporary folder; nothing when it is gone. */
function holds(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`)
      .map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))
      .filter((path) => path.startsWith(tmpdir()))
  } catch {
    return []
  }
}

function group(): string {
  const path = join(CGROUPS as string, `medulla-standby-test-${process.pid}-${Date.now()}`)
  mkdirSync(path)
  onTestFinished(async () => {
    writeFileSync(join(path, 'cgroup.kill'), '1')
    await eventually(() => readFileSync(join(path, 'cgroup.events'), 'utf8').includes('populated 0'))
    rmdirSync(path)
  })
  return path
}

const running = (pid: number) => existsSync(`/proc/${pid}`) && !/^State:\s+[ZX]/m.test(status(pid))
const status = (pid: number) => readFileSync(`/proc/${pid}/status`, 'utf8')

test('G10: descriptors that crossed a UNIX socket are the open files of the dead body (HANDLES 14.1)', async () => {
  const { body, content, lose } = rig({ imu, led: output(1), motor: pwm, brake: output('hold') })
  const first = body()
  expect(await first.report()).toMatchObject({ opened: ['imu', 'led', 'motor', 'brake'], adopted: [], rescue: null })
  // nobody can open it any more: whoever has it got it from the standby
  lose('brake')
  await first.kill()
  const second = body()
  const { opened, adopted, rescue } = await second.report()
  expect(opened).toEqual([])
  expect(rescue).toMatchObject({ confirmed: true, failed: [] })
  // HANDLES 14.3: driven where a safe level is declared, and known to be
  expect(content('led')).toBe('1')
  expect(content('motor')).toBe('1500000\n')
  expect(content('imu')).toBe('9')
  const kept = Object.fromEntries(adopted)
  expect(kept.led).toMatchObject({ value: 1, fence: 7, seqno: 41 })
  expect(kept.motor).toMatchObject({ value: 0.075 })
  expect(kept.brake).not.toHaveProperty('value')
  const [brake = -1] = kept.brake?.fds ?? []
  expect(readFileSync(`/proc/${second.process.pid}/fd/${brake}`, 'utf8')).toBe('9')
  await second.end()
})

test.skipIf(!mayGroup)('programs are frozen before the levels are driven, and ended after (HANDLES 14.2)', async () => {
  const cgroup = group()
  const { body, content } = rig({ led: output(0), brake: output('hold') }, { cgroup, programs: 3 })
  const first = body()
  const { programs } = await first.report()
  await eventually(() => content('led') === '7')
  await first.kill()
  await eventually(() => content('led') === '0')
  const second = body({ programs: 0 })
  const { rescue } = await second.report()
  expect(rescue?.confirmed).toBe(true)
  expect(programs.filter(running)).toEqual([])
  expect(readFileSync(join(cgroup, 'cgroup.freeze'), 'utf8').trim()).toBe('0')
  expect(content('led')).toBe('0')
  expect(content('brake')).toBe('7')
  await second.end()
})

test('without a control group programs are killed by their pids (HANDLES 14.2)', async () => {
  const { body, content } = rig({ led: output(0) }, { programs: 3 })
  const first = body()
  const { programs } = await first.report()
  await eventually(() => content('led') === '7')
  await first.kill()
  const second = body({ programs: 0 })
  const { rescue } = await second.report()
  expect(rescue?.confirmed).toBe(true)
  expect(programs.filter(running)).toEqual([])
  expect(content('led')).toBe('0')
  await second.end()
})

test('levels are driven in time also when a program cannot be stopped (HANDLES 14.2)', async () => {
  const scale = 0.2
  const { body } = rig({ led: output(0) }, { programs: 1, loose: true })
  const first = body({}, { MEDULLA_TIME_SCALE: String(scale) })
  const { programs } = await first.report()
  onTestFinished(() => void process.kill(programs[0] ?? 0, 'SIGKILL'))
  const busy = load()
  await first.kill()
  const second = body({ programs: 0 })
  const { rescue } = await second.report()
  const { seen = 0, safe = 0, ended = 0 } = rescue ?? {}
  expect(rescue).toMatchObject({ confirmed: false, failed: [] })
  expect(BigInt(safe) - BigInt(seen)).toBeGreaterThan(BigInt(100e6 * scale))
  // five times what this standby was told to take
  expect(Number(BigInt(safe) - BigInt(seen)) / 1e6).toBeLessThan(SAFE_WITHIN_MS * Math.max(busy, load()))
  expect(BigInt(ended)).toBeGreaterThan(BigInt(safe))
  await second.end()
})

test('a body that ends in good order takes its standby with it, which writes nothing (HANDLES 14.10)', async () => {
  const { body, content, listens } = rig({ led: output(1) })
  const only = body()
  const { standby } = await only.report()
  expect(listens()).toBe(true)
  await only.end()
  expect(running(standby)).toBe(false)
  expect(content('led')).toBe('9')
  expect(listens()).toBe(false)
})

test('a handle whose entry has changed is let go before it is opened anew (HANDLES 14.6)', async () => {
  const { order, body } = rig({ led: output(1), lamp: output(1), old: output(1) })
  const first = body()
  const { standby } = await first.report()
  await first.kill()
  const { led = output(1) } = order.handles
  const second = body({ handles: { led, lamp: output(0) }, role: 'heir' })
  const { opened, adopted } = await second.report()
  expect(opened).toEqual(['lamp'])
  expect(adopted.map(([name]) => name)).toEqual(['led'])
  expect(holds(standby)).toEqual([order.files.led])
  await second.kill()
  // the old standby serves again, with what it still has
  const third = body({ about: { ...ABOUT, chip: 'another' }, handles: { led } })
  expect(await third.report()).toMatchObject({ opened: ['led'], adopted: [] })
  expect(holds(standby)).toEqual([])
  await third.end()
})

test('a next body that dies half-way loses nothing (HANDLES 14.6)', async () => {
  const { body, content, lose } = rig({ led: output(1) })
  const first = body()
  await first.report()
  lose('led')
  await first.kill()
  for (let i = 0; i < 3; i++) {
    const heir = body({ role: 'heir' })
    expect(await heir.report()).toMatchObject({ opened: [] })
    await heir.kill()
  }
  const last = body()
  expect(await last.report()).toMatchObject({ opened: [], rescue: { confirmed: true, failed: [] } })
  await last.end()
  expect(() => content('led')).toThrow('ENOENT')
})

test('200 handles go over, too', async () => {
  const handles = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`led${i}`, output(1)]))
  const { body, content } = rig(handles)
  const first = body()
  await first.report()
  await first.kill()
  const second = body()
  expect(await second.report()).toMatchObject({ opened: [], adopted: { length: 200 } })
  expect(content('led199')).toBe('1')
  await second.end()
})

test('a standby that dies is replaced while the body lives (HANDLES 14.8)', async () => {
  const { body, content } = rig({ led: output(1) })
  const only = body()
  const { standby } = await only.report()
  process.kill(standby, 'SIGKILL')
  expect((await only.line()).note).toMatch(/^error: no standby: it ended with SIGKILL; a new one in 100 ms/)
  expect((await only.line()).note).toBe('info: a standby holds the handles again')
  only.say('standby')
  const { standby: next } = await only.report()
  expect(next).not.toBe(standby)
  expect(content('led')).toBe('9')
  await only.kill()
  await eventually(() => content('led') === '1')
  const second = body()
  expect((await second.report()).opened).toEqual([])
  await second.end()
})

test('a standby that does not answer is ended, and the handles are opened anew (HANDLES 14.8)', async () => {
  const { body } = rig({ led: output(1) })
  const first = body()
  const { standby } = await first.report()
  process.kill(standby, 'SIGSTOP')
  await first.kill()
  const second = body({}, { MEDULLA_TIME_SCALE: '0.1' })
  expect((await second.line()).note).toMatch(/^error: the standby of the last body is ended: EAGAIN/)
  expect((await second.report()).opened).toEqual(['led'])
  expect(running(standby)).toBe(false)
  await second.end()
})

test.skipIf(process.getuid?.() !== 0)('only its own user may take the handles over (HANDLES 14.5)', async () => {
  const { order, body } = rig({ led: output(1) })
  const first = body()
  await first.report()
  await first.kill()
  const script = `const s = require('net').connect(${JSON.stringify(join(order.folder, 'standby.sock'))})
    s.on('error', ({ code }) => console.log(code)).on('data', () => console.log('data')).on('end', () => console.log('end'))`
  const stranger = spawn(process.execPath, ['-e', script], {
    uid: 65534,
    gid: 65534,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [said] = await Promise.all([new Promise((resolve) => stranger.stdout?.once('data', resolve))])
  expect(String(said).trim()).toBe('EACCES')
  const second = body()
  expect((await second.report()).opened).toEqual([])
  await second.end()
})

test('safe levels are there within the stated time', { tags: ['slow'], timeout: 300_000 * SCALE }, async () => {
  const cgroup = mayGroup ? group() : null
  const { body, content } = rig({ led: output(0) }, { cgroup, programs: 2 })
  const took: number[] = []
  let present = body()
  await present.report()
  let busy = load()
  for (let i = 0; i < 20; i++) {
    await eventually(() => content('led') === '7')
    const killed = await present.kill()
    present = body()
    const { rescue } = await present.report()
    const before = busy
    busy = load()
    took.push(Number(BigInt(rescue?.safe ?? 0) - killed) / 1e6 / Math.max(before, busy))
  }
  await present.end()
  expect(Math.max(...took)).toBeLessThan(SAFE_WITHIN_MS * SCALE)
})

test('the service ends the body alone, starts it again, and lets it write no dump (HANDLES 14.9)', () => {
  const lines = readFileSync(join(ROOT, 'runtime/medulla.service'), 'utf8').split('\n')
  for (const line of ['KillMode=process', 'Restart=always', 'Delegate=yes', 'OOMPolicy=continue', 'LimitCORE=0'])
    expect(lines).toContain(line)
})
