/** Starts minimal bodies (children/guardbody.ts) with their guards, as a runtime starts them. */
import { type ChildProcess, spawn } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
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
import { afterAll, beforeAll, expect, onTestFinished } from 'vitest'
import type { BoardHandle } from '../../../drivers/board/types.ts'
import type { KeptHandle } from '../../../drivers/owner/backend.ts'
import { type Latch, LatchRegion, NO_STOPS, openLatch } from '../../../runtime/guard/latch.ts'
import type { Rescue } from '../../../runtime/guard/wire.ts'
import { eventually } from '../../e2e/eventually.ts'
import { ROOT } from '../../project/tree.ts'
import type { BodyOrder } from './children/guardbody.ts'

/** Time of HANDLES 14.2 within which the guard drives the safe levels. */
export const SAFE_WITHIN_MS = 150
export const ABOUT = { model: 'linux', chip: 'test' }
const CGROUPS = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find((path) =>
  existsSync(join(path, 'cgroup.controllers')),
)
export const mayGroup = CGROUPS !== undefined && process.getuid?.() === 0

let dist: string

/** Builds body and guard before the tests of a file, and removes them after. To be called outside of tests. */
export function useGuards(): void {
  beforeAll(buildGuards)
  afterAll(() => rmSync(dist, { recursive: true, force: true }))
}

async function buildGuards(): Promise<void> {
  dist = mkdtempSync(join(tmpdir(), 'medulla-guard-dist-'))
  // as in dist: the body starts ../guard/main.js
  const entryPoints = { 'body/test': 'test/runtime/guard/children/guardbody.ts', 'guard/main': 'runtime/guard/main.ts' }
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
}

export interface Report {
  opened: string[]
  adopted: [string, KeptHandle][]
  rescue: Rescue | null
  latch: Latch | null
  guard: number
  programs: number[]
}

export class GuardedBody {
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
    cleanUp(report.guard)
    return report
  }

  say(text: string): void {
    this.process.stdin?.write(`${text}\n`)
  }

  /** Sends SIGKILL, and returns the time just before. */
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

const guards = new Set<number>()

/** Kills all bodies, also after a failed test. */
function cleanUp(pid: number | null): void {
  if (pid === null || guards.has(pid)) return
  guards.add(pid)
  onTestFinished(() => {
    if (holds(pid).length > 0) process.kill(pid, 'SIGKILL')
  })
}

export const output = (safe: 0 | 1 | 'hold'): BoardHandle => ({
  kind: 'output',
  line: 'GPIO17',
  initial: 0,
  safe,
  activeLow: false,
  drive: 'push-pull',
  driver: 'sysfs',
  via: 'inherit',
})

export const pwm: BoardHandle = {
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

export const input: BoardHandle = {
  kind: 'input',
  line: 'GPIO23',
  pull: 'down',
  activeLow: false,
  edges: 'both',
  debounceMs: 0,
  driver: 'sysfs',
  via: 'inherit',
}

export const imu: BoardHandle = { kind: 'i2c', bus: 1, address: 0x68, via: 'inherit' }

/** A folder with a file for each handle, like those in sysfs, and a home for the socket. */
export function rig(handles: Record<string, BoardHandle>, options: Partial<BodyOrder> = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'medulla-guard-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const files = Object.fromEntries(Object.keys(handles).map((name) => [name, join(folder, name)]))
  for (const path of Object.values(files)) writeFileSync(path, '9')
  const order: BodyOrder = { folder, about: ABOUT, handles, files, cgroup: null, programs: 0, role: 'body', ...options }
  return {
    order,
    body: (changes: Partial<BodyOrder> = {}, env = {}) => new GuardedBody({ ...order, ...changes }, env),
    content: (name: string) => readFileSync(files[name] ?? '', 'utf8'),
    pull: (name: string, level: 0 | 1) => writeFileSync(files[name] ?? '', String(level), { flag: 'r+' }),
    lose: (name: string) => unlinkSync(files[name] ?? ''),
    listens: () => existsSync(join(folder, 'guard.sock')),
  }
}

/** The files that a process has open below the temporary folder; empty when the process has ended. */
export function holds(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`)
      .map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))
      .filter((path) => path.startsWith(tmpdir()))
  } catch {
    return []
  }
}

export function group(): string {
  const path = join(CGROUPS as string, `medulla-guard-test-${process.pid}-${Date.now()}`)
  mkdirSync(path)
  onTestFinished(async () => {
    writeFileSync(join(path, 'cgroup.kill'), '1')
    await eventually(() => readFileSync(join(path, 'cgroup.events'), 'utf8').includes('populated 0'))
    rmdirSync(path)
  })
  return path
}

export const running = (pid: number) => existsSync(`/proc/${pid}`) && !/^State:\s+[ZX]/m.test(status(pid))
const status = (pid: number) => readFileSync(`/proc/${pid}/status`, 'utf8')

/** A board with an emergency stop, a latch file, and programs in a control group if one can be made. */
export function stoppable(changes: Partial<BodyOrder> = {}) {
  const cgroup = mayGroup ? group() : null
  const bench = rig({ led: output(0), stop: input }, { cgroup, programs: 2, stopInput: 'stop', ...changes })
  bench.pull('stop', 0)
  closeSync(openLatch(bench.order.folder, () => NO_STOPS))
  const latch = join(bench.order.folder, 'stops.latch')
  const guarded = (): Latch | null => {
    const fd = openSync(latch, 'r')
    try {
      return new LatchRegion(fd, 'guard').read().estop
    } finally {
      closeSync(fd)
    }
  }
  return { ...bench, latch, guarded, body: (more: Partial<BodyOrder> = {}) => bench.body({ latch, ...more }) }
}
