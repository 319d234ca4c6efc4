/**
 * `npm run demo`: pushes three versions of a program to a simulated robot. It runs the real CLI in child processes, in a
 * temporary folder. The demo ends by itself and leaves nothing behind, except with --keep.
 */
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { PhaseTime, PushEvent, Receipt } from '../../shared/api.ts'
import { Refusal } from '../../shared/errors.ts'
import type { RobotClient } from '../client.ts'
import type { App } from './app.ts'
import { exitForCode } from './exit.ts'
import { CLI, ROBOTS } from './paths.ts'
import { PinWatch, pinStrip } from './pinwatch.ts'
import { connectTo, findRobot } from './robot.ts'
import { uploadPhases } from './swap.ts'
import { formatMs, Term } from './term.ts'

/** The line that every program of the demo holds high: on a real robot an edge on it would be a twitch of the motors. */
const HELD = 'enable'
const WATCH_MS = 1500
const LIMIT_MS = 60_000

type Result = Extract<PushEvent, { event: 'result' }>

const args = process.argv.slice(2)
const json = args.includes('--json')
const keep = args.includes('--keep')
const term = new Term({ json, stdout: process.stdout, stderr: process.stderr, env: process.env })
const abort = new AbortController()
const children = new Set<ReturnType<typeof spawn>>()

interface Line {
  event: string
  [key: string]: unknown
}

class Demo {
  readonly #dir: string
  readonly #app: App
  readonly results: Result[] = []
  #sim: { pid: number; ended: Promise<unknown> } | undefined

  constructor(dir: string) {
    this.#dir = dir
    this.#app = { term, env: { ...process.env, MEDULLA_CONFIG: dir }, dir, commands: {} }
  }

  /** Starts the CLI and yields its lines of NDJSON as they come; `status` settles when the CLI ends. */
  #cli(words: readonly string[]): { lines: AsyncIterable<Line>; status: Promise<number | null>; pid: number } {
    const child = spawn(process.execPath, [CLI, ...words, '--json'], {
      env: { ...process.env, MEDULLA_CONFIG: this.#dir },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    children.add(child)
    child.once('close', () => children.delete(child))
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-4000)
    })
    const status = new Promise<number | null>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', resolve)
    })
    const reader = createInterface({ input: child.stdout })
    const lines = (async function* (): AsyncGenerator<Line> {
      let last: Line | undefined
      for await (const text of reader) {
        last = JSON.parse(text) as Line
        yield last
      }
      const code = await status
      if (code === 0 || last?.event === 'result' || abort.signal.aborted) return
      throw new Refusal('internal', `medulla ${words.join(' ')} ended with ${code}: ${stderr.trim()}`)
    })()
    return { lines, status, pid: child.pid ?? 0 }
  }

  async #all(words: readonly string[]): Promise<Line[]> {
    const lines: Line[] = []
    for await (const line of this.#cli(words).lines) lines.push(line)
    return lines
  }

  async startRobot(): Promise<void> {
    this.step('A key of your own, and a simulated robot that trusts it', ['medulla keygen', 'medulla sim'])
    await this.#all(['keygen'])
    const sim = this.#cli(['sim', '--port', '0', ...(keep ? ['--keep'] : [])])
    for await (const line of sim.lines) {
      if (line.event !== 'listening') continue
      this.#sim = { pid: keep ? Number(line.pid) : sim.pid, ended: sim.status }
      term.event({ event: 'listening', id: line.id, port: line.port })
      term.line(`   ${String(line.name)} ${String(line.id)} listens on port ${String(line.port)}`)
      return
    }
    throw new Refusal('internal', 'the simulated robot did not start')
  }

  connect(): Promise<RobotClient> {
    return findRobot(this.#dir, 'sim').then((robot) => connectTo(this.#app, robot, undefined))
  }

  /** Pushes a program, shows the timeline as the CLI shows it, and returns the result. */
  async push(program: string): Promise<Result> {
    const path = join(ROBOTS, 'blink', program)
    const began = performance.now()
    const upload: PhaseTime[] = []
    for await (const line of this.#cli(['push', path, '-d', 'sim']).lines) {
      if (line.event === 'phase') {
        term.progress(`${String(line.phase)} …`)
        upload.push(...uploadPhases(line as Parameters<typeof uploadPhases>[0], performance.now() - began))
      }
      if (line.event !== 'result') continue
      const result = line as unknown as Result
      this.results.push(result)
      term.event({ ...result, program })
      if (result.receipt !== undefined) term.timeline([...upload, ...result.receipt.phases], result.receipt.gapMs)
      return result
    }
    throw new Refusal('internal', `pushing ${program} gave no result`)
  }

  async receipts(): Promise<void> {
    const lines = await this.#all(['receipts', '--verify'])
    const rows = lines
      .filter((line) => line.event === 'receipt')
      .map((line) => line as unknown as Receipt)
      .map((r) => [
        String(r.seq),
        r.outcome,
        `${r.program ?? ''} ${r.version ?? ''}`,
        r.gapMs === null ? '' : formatMs(r.gapMs),
        r.code ?? '',
      ])
    term.table(
      ['   seq', 'outcome', 'program', 'gap', 'reason'],
      rows.map(([seq = '', ...rest]) => [`   ${seq}`, ...rest]),
    )
    const verdict = lines.find((line) => line.event === 'verified')
    if (verdict?.ok !== true) throw new Refusal('bad-signature', 'the receipts do not verify')
    term.line(`   ${rows.length} receipts, each signed by the robot, in an unbroken chain`)
  }

  step(title: string, commands: readonly string[]): void {
    term.event({ event: 'step', title })
    term.line()
    term.line(term.paint('bold', title))
    for (const command of commands) term.line(term.paint('dim', `   $ ${command}`))
  }

  async end(): Promise<void> {
    const sim = this.#sim
    if (sim === undefined) return
    this.#sim = undefined
    process.kill(sim.pid, 'SIGTERM')
    await sim.ended
  }

  next(): void {
    const prefix = keep ? `MEDULLA_CONFIG=${this.#dir} npx medulla` : 'npx medulla'
    term.line()
    term.line(term.paint('bold', 'Next'))
    if (keep) {
      term.line(`   ${prefix} status`)
      term.line(`   ${prefix} logs --follow`)
      term.line(`   ${prefix} rollback`)
      term.line(`   kill ${this.#sim?.pid}     ends the robot; its folder is ${this.#dir}`)
      return
    }
    term.line(`   ${prefix} keygen             unless you have ~/.ssh/id_ed25519`)
    term.line(`   ${prefix} sim                a robot that stays; then, in another terminal:`)
    term.line(`   ${prefix} new blinky         a program of your own`)
    term.line(`   ${prefix} run blinky         push it and follow its log`)
  }
}

async function main(): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'medulla-demo-'))
  const demo = new Demo(dir)
  let left = false
  try {
    await demo.startRobot()

    demo.step('Version 1 of a robot program: built, signed, encrypted, pushed, started', [
      'medulla push robots/blink/v1',
    ])
    expect(await demo.push('v1'), 'committed')
    const client = await demo.connect()
    const pins = new PinWatch(client.pins({ follow: true, signal: abort.signal }))
    await show(pins, ['led', 'tail', HELD])

    demo.step('Version 2, while version 1 runs: the state moves over', ['medulla push robots/blink/v2'])
    expect(await demo.push('v2'), 'committed')
    await show(pins, ['led', 'tail', HELD])

    demo.step('A broken version: it takes over, fails its trial, and is undone', ['medulla push robots/blink/broken'])
    const undone = await demo.push('broken')
    expect(undone, 'rolled-back')
    term.line(`   ${term.paint('yellow', 'undone')}: ${undone.message}`)
    await show(pins, ['led', 'tail', HELD])
    term.line(`   ${HELD} was held by every program: ${pins.edges(HELD)} edges on it in both swaps`)

    demo.step('What the robot signed for', ['medulla receipts --verify'])
    await demo.receipts()
    const edges = pins.edges(HELD)
    client.close()
    await pins.ended
    if (!keep) await demo.end()
    demo.next()
    summary(demo.results, edges)
    left = keep
  } finally {
    if (!left) {
      await demo.end().catch(() => {})
      for (const child of children) child.kill('SIGKILL')
      await rm(dir, { recursive: true, force: true })
    }
  }
}

async function show(pins: PinWatch, names: readonly string[]): Promise<void> {
  await pins.watch(WATCH_MS, (live) => term.progress(`   led ${live('led')}`))
  for (const name of names) {
    const strip = pinStrip(pins.changes(name), pins.window(WATCH_MS))
    term.event({ event: 'pin', name, value: pins.value(name), edges: pins.recent(name, WATCH_MS) })
    term.line(`   ${name.padEnd(7)} ${strip}`)
  }
}

function expect(result: Result, outcome: Result['outcome']): void {
  if (result.outcome === outcome) return
  throw new Refusal(
    result.code ?? 'internal',
    `expected ${outcome}, got ${result.outcome}: ${result.message}`,
    result.hint,
  )
}

function summary(results: readonly Result[], edgesOnHeldLines: number): void {
  const receipts = results.flatMap(({ receipt }) => (receipt === undefined ? [] : [receipt]))
  const gaps = receipts.flatMap(({ gapMs }) => (gapMs === null ? [] : [gapMs])).sort((a, b) => a - b)
  const swaps = receipts.filter(({ outcome, gapMs }) => outcome === 'committed' && gapMs !== null).length
  const rollbacks = receipts.filter(({ outcome }) => outcome === 'rolled-back').length
  const gapMs = { p50: gaps[Math.floor((gaps.length - 1) / 2)] ?? null, max: gaps.at(-1) ?? null }
  term.event({ event: 'summary', swaps, rollbacks, gapMs, edgesOnHeldLines })
}

async function untilAborted(): Promise<never> {
  return new Promise((_, reject) => {
    abort.signal.addEventListener('abort', () => reject(abort.signal.reason))
  })
}

const limit = setTimeout(
  () => abort.abort(new Refusal('internal', `the demo took longer than ${LIMIT_MS} ms`)),
  LIMIT_MS,
)
process.once('SIGINT', () => abort.abort(new Refusal('interrupted', 'interrupted')))
process.once('SIGTERM', () => abort.abort(new Refusal('interrupted', 'interrupted')))
try {
  await Promise.race([main(), untilAborted()])
} catch (error) {
  term.failure(error)
  process.exitCode = error instanceof Refusal ? exitForCode(error.code) : 1
  for (const child of children) child.kill('SIGTERM')
} finally {
  clearTimeout(limit)
}
