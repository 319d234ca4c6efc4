/**
 * Runs one program in simulated time in a child process (`sim --scenario`). Invariant: a scenario always ends. Its simulated
 * time is limited, and this file kills the child if its simulated time stands still.
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

/** Real time within which simulated time must advance, and within which a program must load. */
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
    return printVerdict(app, await follow(app, child, folder))
  } finally {
    process.off('SIGINT', stop)
    stop()
    await rm(folder, { recursive: true, force: true })
  }
}

async function follow(app: App, child: ChildProcess, folder: string): Promise<Verdict> {
  const { stdout, stdin } = child
  if (stdout === null || stdin === null) throw new Error("the simulation's stdin and stdout must be pipes")
  const guard = new Guard(child)
  try {
    for await (const text of createInterface({ input: stdout })) {
      const line = parse(text)
      const refused = refusalIn(line)
      if (refused !== undefined) throw refused
      const { event, ms } = line as unknown as Line
      if (event === 'programs') {
        guard.disarm()
        stdin.end(`${JSON.stringify(await build(app, line.paths as string[], folder))}\n`)
        guard.advanced(-1)
      } else if (event === 'time') guard.advanced(ms)
      else if (event === 'log') show(app, line as unknown as Line)
      else if (event === 'step') app.term.event(line)
      else if (event === 'verdict') return line as unknown as Verdict
      else app.term.note(text)
    }
  } finally {
    guard.disarm()
  }
  if (guard.stuck) {
    const why = `the program blocked the simulation for ${(STUCK_MS * timeScale()) / 1000} s`
    return { passed: false, late: true, why, ms: guard.ms }
  }
  throw new Refusal('scenario-failed', `the program ended the simulation, after ${guard.ms} ms`)
}

/** Kills the child when its simulated time stands still for too long. */
class Guard {
  readonly #child: ChildProcess
  #timer: NodeJS.Timeout | null = null
  ms = 0
  stuck = false

  constructor(child: ChildProcess) {
    this.#child = child
    this.advanced(-1)
  }

  /**
   * Call it with the simulated time in ms; -1 starts the limit. A time equal to the last one means that the simulation does
   * not advance.
   */
  advanced(ms: number): void {
    if (ms === this.ms) return
    this.disarm()
    this.ms = Math.max(0, ms)
    this.#timer = setTimeout(() => {
      this.stuck = true
      this.#child.kill('SIGKILL')
    }, STUCK_MS * timeScale())
  }

  disarm(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
  }
}

async function build(app: App, paths: readonly string[], folder: string): Promise<Record<string, object>> {
  const built: Record<string, object> = {}
  for (const [index, path] of [...new Set(paths)].entries()) {
    const { files, manifest } = await buildFiles(app, path)
    const into = join(folder, String(index))
    await mkdir(into)
    writeTree(into, files)
    built[path] = { file: join(into, manifest.entry), program: manifest.program, version: manifest.version }
  }
  return built
}

/** The board.json beside the program, or beside its folder; otherwise the board of blink. */
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
    // A logged line that begins with [ gets a mark, too: it could pass for a line of another stream.
    const mark = line.stream === 'log' && !text.startsWith('[') ? '' : `[${line.stream}] `
    term.line(`${term.paint('dim', time)}  ${mark}${printable(text)}`)
  }
}

function printVerdict({ term }: App, verdict: Verdict): number {
  const { passed, late = false, why = '', ms } = verdict
  const time = `${(ms / 1000).toFixed(3)} s`
  term.event({ event: 'scenario', passed, ms, ...(passed ? {} : { late, why }) })
  if (passed) {
    term.line(`${term.paint('green', 'passed')}  after ${time} of simulated time`)
    return EXIT.ok
  }
  throw new Refusal(late ? 'scenario-timeout' : 'scenario-failed', why, '--vcd FILE records the levels of every pin')
}

function parse(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    return { event: 'printed' }
  }
}
