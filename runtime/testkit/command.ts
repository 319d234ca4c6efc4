/**
 * `main.js scenario`: runs a scenario for the CLI.
 *
 * It prints NDJSON: first `programs`, the programs it needs. Then it reads one line from stdin with the built files, runs the
 * scenario, and prints steps, log lines and at last the `verdict`. A `time` line every 500 ms shows that it goes on: silence
 * means that the program blocks the process.
 */
import { closeSync, openSync, writeSync } from 'node:fs'
import { access, readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import { Refusal } from '../../deploy/shared/errors.ts'
import { BoardError, HardwareError } from '../../drivers/errors.ts'
import { durationMs } from './duration.ts'
import type { Named } from './load.ts'
import { runScenario } from './runner.ts'
import { NO_SCENARIO, parseScenario, type Scenario } from './scenario.ts'
import { type Simulation, simulate } from './simulation.ts'

const DEFAULT_TIMEOUT_MS = 60_000
const PULSE_MS = 500
/** Lines of a dump in one write. */
const PART = 4096

export interface ScenarioArguments {
  readonly file?: string | undefined
  /** `program`, `board` and `timeout` override those of the scenario. */
  readonly program?: string | undefined
  readonly board?: string | undefined
  /** The board when neither the command line nor the scenario names one. */
  readonly 'default-board'?: string | undefined
  readonly timeout?: string | undefined
  readonly expect?: string | undefined
  readonly fail?: string | undefined
  readonly vcd?: string | undefined
}

/** The built programs, by the path in the scenario. */
type Built = Readonly<Record<string, { file: string; program: string; version: string }>>
type Say = (line: object) => void

export async function scenarioCommand(given: ScenarioArguments, say: Say): Promise<void> {
  const scenario = await read(given.file)
  const timeoutMs = given.timeout === undefined ? (scenario.timeout ?? DEFAULT_TIMEOUT_MS) : millis(given.timeout)
  const program = given.program ?? scenario.program
  if (program === undefined) throw new Refusal('usage', 'no program', 'name one, or add "program" to the scenario')
  say({ event: 'programs', paths: [program, ...scenario.steps.flatMap(({ swap }) => swap ?? [])] })
  const built = await readBuilt()
  const source = (path: string): Named => sourceOf(path, built)
  let sim: Simulation | null = null
  // before the simulation replaces setInterval by its own
  const pulse = setInterval(() => say({ event: 'time', ms: sim?.ms ?? 0 }), PULSE_MS)
  try {
    sim = await started(scenario, source(program), await boardFile(given, scenario), say)
    const { expect, fail } = given
    const onStep = (index: number) => say({ event: 'step', index, ms: sim?.ms })
    const verdict = await runScenario(sim, scenario, { expect, fail, timeoutMs, source, onStep })
    if (given.vcd !== undefined) dump(sim, given.vcd)
    const { ms } = sim
    await sim.stop().catch(() => {})
    say({ event: 'verdict', ms, ...verdict })
  } finally {
    clearInterval(pulse)
  }
}

async function started(scenario: Scenario, source: Named, board: string, say: Say): Promise<Simulation> {
  const { params = {}, config = {}, seed = 1, crashes } = scenario
  const onLog = (line: object) => say({ event: 'log', ...line })
  const given = { board, params, config, seed }
  const options = { ...given, crashes: crashes === 'allow' ? 'log' : 'throw', output: 'log', onLog } as const
  try {
    return await simulate(source, options)
  } catch (error) {
    if (error instanceof BoardError) throw new Refusal('bad-board', error.message, error.fix, { cause: error })
    if (error instanceof HardwareError) throw new Refusal('bad-device', error.message, undefined, { cause: error })
    if (error instanceof Refusal) throw error
    const { message, code = 'died-at-start' } = error as Error & { code?: 'died-at-start' }
    throw new Refusal(code, message, undefined, { cause: error })
  }
}

async function read(file: string | undefined): Promise<Scenario> {
  if (file === undefined) return NO_SCENARIO
  const path = resolve(file)
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new Refusal('bad-scenario', `cannot read ${file}: ${error.code ?? error.message}`)
  })
  try {
    return parseScenario(text, path)
  } catch (error) {
    if (!(error instanceof BoardError)) throw error
    throw new Refusal('bad-scenario', error.message, error.fix, { cause: error })
  }
}

function millis(text: string): number {
  try {
    return durationMs(/^\d+$/.test(text) ? Number(text) : text)
  } catch (error) {
    throw new Refusal('usage', `--timeout: ${(error as Error).message}`)
  }
}

async function boardFile(given: ScenarioArguments, scenario: Scenario): Promise<string> {
  const named = given.board ?? scenario.board
  if (named !== undefined) {
    await access(named).catch(() => {
      throw new Refusal('bad-board', `cannot read ${named}`)
    })
    return named
  }
  if (given['default-board'] === undefined) throw new Refusal('usage', 'expected a board')
  return given['default-board']
}

/** Reads the one line on stdin. */
async function readBuilt(): Promise<Built> {
  for await (const line of createInterface({ input: process.stdin })) return JSON.parse(line) as Built
  throw new Refusal('interrupted', 'nothing was built')
}

/** Each load evaluates the module anew, as the URL's query differs. */
function sourceOf(path: string, built: Built): Named {
  const found = built[path]
  if (found === undefined) throw new Refusal('build-failed', `${path} was not built`)
  const { file, program, version } = found
  let loads = 0
  return { program, version, load: () => import(`${pathToFileURL(file).href}?${++loads}`) }
}

function dump(sim: Simulation, path: string): void {
  const file = openSync(path, 'w')
  try {
    let part: string[] = []
    const flush = (): void => {
      writeSync(file, part.map((line) => `${line}\n`).join(''))
      part = []
    }
    for (const line of sim.vcdLines()) if (part.push(line) === PART) flush()
    flush()
  } finally {
    closeSync(file)
  }
}
