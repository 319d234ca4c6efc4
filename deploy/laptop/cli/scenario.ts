/**
 * Invariant: a scenario ends: its own time is limited, and a program that lets neither time nor the event loop go on is
 * ended from here.
 */
import type { ChildProcess } from 'node:child_process'
import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { Refusal } from '../../shared/errors.ts'
import { timeScale } from '../../shared/timescale.ts'
import { writeTree } from '../bundler/tree.ts'
import type { App } from './app.ts'
import { EXIT } from './exit.ts'
import { printable } from './loglines.ts'
import { ROBOTS } from './paths.ts'
import { buildFiles } from './program.ts'
import { askRuntime, refusalIn, spawnRuntime } from './runtimebin.ts'

/** Real time in which simulated time has to go on, or a program to be loaded. */
const STUCK_MS = 10_000
const DEFAULT_BOARD = join(ROBOTS, 'blink/board.json')

export interface ScenarioOptions {
  readonly scenario?: string
  readonly timeout?: string
  readonly expect?: string
  readonly fail?: string
  readonly vcd?: string
  readonly board?: string
}

interface Line {
  readonly event: string
  readonly ms: number
  readonly stream: string
  readonly text: string
}
interface Verdict {
  readonly passed: boolean
  readonly late?: boolean
  readonly why?: string
  readonly ms: number
}

/** The JSON schema of a scenario, for editors. */
export async function printSchema(app: App): Promise<number> {
  app.term.raw(`${JSON.stringify(await askRuntime(['scenario', 'schema']), null, 2)}\n`)
  return EXIT.ok
}

export async function runScenario(app: App, path: string | undefined, options: ScenarioOptions): Promise<number> {
  const { scenario, timeout, expect, fail, vcd, board } = options
  const named = {
    file: scenario === undefined ? undefined : resolve(scenario),
    program: path === undefined ? undefined : resolve(path),
    board: board === undefined ? undefined : resolve(board),
    vcd: vcd === undefined ? undefined : resolve(vcd),
    timeout,
    expect,
    fail,
    'default-board': path === undefined ? DEFAULT_BOARD : await boardNear(resolve(path)),
  }
  const args = Object.entries(named).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, value]))
  const folder = await mkdtemp(join(tmpdir(), 'medulla-scenario-'))
  const child = spawnRuntime(['scenario', ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
  const stop = () => child.kill('SIGKILL')
  process.on('SIGINT', stop)
  try {
    return tell(app, await follow(app, child, folder))
  } finally {
    process.off('SIGINT', stop)
    stop()
    await rm(folder, { recursive: true, force: true })
  }
}

async function follow(app: App, child: ChildProcess, folder: string): Promise<Verdict> {
  const { stdout, stdin } = child
  if (stdout === null || stdin === null) throw new Error('its stdin and stdout must be pipes')
  const guard = new Guard(child)
  try {
    for await (const text of createInterface({ input: stdout })) {
      const line = parse(text)
      const refused = refusalIn(line)
      if (refused !== undefined) throw refused
      const { event, ms } = line as unknown as Line
      if (event === 'programs') {
        guard.rest()
        stdin.end(`${JSON.stringify(await build(app, line.paths as string[], folder))}\n`)
        guard.heard(-1)
      } else if (event === 'time') guard.heard(ms)
      else if (event === 'log') show(app, line as unknown as Line)
      else if (event === 'step') app.term.event(line)
      else if (event === 'verdict') return line as unknown as Verdict
      else app.term.note(text)
    }
  } finally {
    guard.rest()
  }
  if (guard.stuck) {
    const why = `the program did not give way for ${(STUCK_MS * timeScale()) / 1000} s`
    return { passed: false, late: true, why, ms: guard.ms }
  }
  throw new Refusal('scenario-failed', `the program ended the simulation, after ${guard.ms} ms`)
}

/** Ends the child when nothing goes on. */
class Guard {
  readonly #child: ChildProcess
  #timer: NodeJS.Timeout | null = null
  ms = 0
  stuck = false

  constructor(child: ChildProcess) {
    this.#child = child
    this.heard(-1)
  }

  /** Its time, in ms. The same as before says that it turns, and gets nowhere. */
  heard(ms: number): void {
    if (ms === this.ms) return
    this.rest()
    this.ms = Math.max(0, ms)
    this.#timer = setTimeout(() => {
      this.stuck = true
      this.#child.kill('SIGKILL')
    }, STUCK_MS * timeScale())
  }

  rest(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
  }
}

async function build(app: App, paths: readonly string[], folder: string): Promise<Record<string, object>> {
  const built: Record<string, object> = {}
  for (const [index, path] of [...new Set(paths)].entries()) {
    const { files, manifest } = await buildFiles(app, path)
    const place = join(folder, String(index))
    await mkdir(place)
    writeTree(place, files)
    built[path] = { file: join(place, manifest.entry), program: manifest.program, version: manifest.version }
  }
  return built
}

/** A board beside the program, or beside its folder; else the one of `medulla sim`. */
async function boardNear(path: string): Promise<string> {
  const isFolder = await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
  const folder = isFolder ? path : dirname(path)
  for (const near of [folder, dirname(folder)]) {
    const board = join(near, 'board.json')
    if (
      await stat(board).then(
        () => true,
        () => false,
      )
    )
      return board
  }
  return DEFAULT_BOARD
}

function show({ term }: App, line: Line): void {
  term.event(line)
  const time = `${(line.ms / 1000).toFixed(3)} s`.padStart(11)
  for (const text of line.text.split(/\r?\n/)) {
    // A program's own line that begins like one of another stream is marked, too.
    const mark = line.stream === 'log' && !text.startsWith('[') ? '' : `[${line.stream}] `
    term.line(`${term.paint('dim', time)}  ${mark}${printable(text)}`)
  }
}

function tell({ term }: App, verdict: Verdict): number {
  const { passed, late = false, why = '', ms } = verdict
  const time = `${(ms / 1000).toFixed(3)} s`
  term.event({ event: 'scenario', passed, ms, ...(passed ? {} : { late, why }) })
  if (passed) {
    term.line(`${term.paint('green', 'passed')}  after ${time} of simulated time`)
    return EXIT.ok
  }
  throw new Refusal(late ? 'scenario-timeout' : 'scenario-failed', why, '--vcd FILE keeps what every pin did')
}

function parse(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    return { event: 'printed' }
  }
}
