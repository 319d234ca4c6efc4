/**
 * From a save to the first write of the new program, under `medulla watch`, and under what restarts a plain program: nodemon
 * and `node --watch`. The clock starts before the file is written, and stops with the time that the write itself carries.
 */
import type { ChildProcess } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import type { BenchOptions } from './main.ts'
import { writeProgram, writer } from './programs.ts'
import { BenchRobot, start, startCli, temporary } from './rig.ts'
import { percentile, Series } from './stats.ts'
import { TraceReader } from './trace.ts'

const SAVES = 20
const HANDLE = 'line'
const STATE = 1024
/** Between what a save has set off and the next save; people take longer. */
const PAUSE_MS = 300
/** Of a restart that never comes. */
const HUNG_MS = 20_000

export async function watch({ samples = SAVES, wanted, report }: BenchOptions): Promise<Series[]> {
  const ways = [
    { variant: 'medulla', make: () => OurWatch.make() },
    { variant: 'nodemon', make: () => PlainWatch.make('nodemon', [NODEMON, '--quiet', PLAIN]) },
    { variant: 'node-watch', make: () => PlainWatch.make('node-watch', ['--watch', PLAIN]) },
  ]
  const all: Series[] = []
  // one at a time: each of them looks at files all the while
  for (const { variant, make } of ways.filter((way) => wanted(way.variant))) {
    const way = await make()
    for (let i = 0; i < samples; i++) {
      report.progress(`watch: ${variant}, ${i + 1} of ${samples}`)
      await way.save().catch((error: unknown) => way.series[0]?.fail(String(error)))
      await sleep(PAUSE_MS)
    }
    await way.stop()
    for (const series of way.series) {
      const p90 = percentile(
        [...series.samples].sort((a, b) => a - b),
        90,
      )
      series.note = [series.note, `p90 ${p90.toPrecision(4)}`].filter(Boolean).join('; ')
      report.row(series.row())
    }
    all.push(...way.series)
  }
  return all
}

interface WatchEvent {
  event: string
  ready?: boolean
  outcome?: string
  message?: string
  buildMs?: number
  pushMs?: number
  receipt?: { fence: number }
}

class OurWatch {
  readonly series: readonly [Series, Series, Series]
  readonly #robot: BenchRobot
  readonly #cli: ChildProcess
  readonly #file: string
  readonly #events: AsyncIterator<WatchEvent>

  private constructor(robot: BenchRobot, folder: string) {
    const part = (name: string, note: string) => new Series('watch', `medulla-${name}`, 'ms', { note })
    const whole = new Series('watch', 'medulla', 'ms', { note: 'state and levels kept', goal: { p50: 60 } })
    this.series = [whole, part('build', 'build, sign and seal'), part('push', 'upload to takeover, as the CLI sees it')]
    this.#robot = robot
    this.#file = join(folder, 'program.mjs')
    this.#cli = startCli(robot.config, ['watch', folder, '-d', 'bench', '--json'])
    this.#events = events(this.#cli)
  }

  static async make(): Promise<OurWatch> {
    const robot = await BenchRobot.start({
      handles: { [HANDLE]: { kind: 'output', line: 'GPIO17' } },
      timing: { trialMs: 50 },
    })
    const way = new OurWatch(robot, await writeProgram(robot.dir, 'watched', writer(HANDLE, STATE)))
    await way.#until(({ event }) => event === 'save')
    return way
  }

  async save(): Promise<void> {
    await this.#until(({ event, ready }) => event === 'spare' && ready === true)
    await sleep(PAUSE_MS)
    const began = change(this.#file)
    const result = await this.#until(({ event }) => event === 'result')
    if (result.outcome !== 'committed') throw new Error(`${result.outcome}: ${result.message}`)
    const { firstNs } = await this.#robot.trace.transition(HANDLE, result.receipt?.fence ?? 0)
    const { buildMs = Number.NaN, pushMs = Number.NaN } = await this.#until(({ event }) => event === 'save')
    const [whole, build, push] = this.series
    whole.add((firstNs - began) / 1e6)
    build.add(buildMs)
    push.add(pushMs)
  }

  async stop(): Promise<void> {
    await ended(this.#cli)
    await this.#robot.stop()
  }

  #until(wanted: (event: WatchEvent) => boolean): Promise<WatchEvent> {
    return within(async () => {
      for (;;) {
        const { value, done } = await this.#events.next()
        if (done === true) throw new Error('medulla watch has ended')
        if (wanted(value)) return value
      }
    })
  }
}

const NODEMON = createRequire(import.meta.url).resolve('nodemon/bin/nodemon.js')
const PLAIN = 'plain.mjs'

/** The same writes as the robot program's, by a plain process that opens its place itself; its state is lost each time. */
const plain = `import { openSync, writeSync } from 'node:fs'
const parent = process.ppid
const fd = openSync(process.env.TRACE, 'a')
const write = () => {
  if (process.ppid !== parent) process.exit()
  writeSync(fd, JSON.stringify({ name: '${HANDLE}', fence: process.pid, ns: String(process.hrtime.bigint()), accepted: true }) + '\\n')
}
write()
setInterval(write, 1)
`

class PlainWatch {
  readonly series: readonly [Series]
  readonly #process: ChildProcess
  readonly #file: string
  readonly #trace: TraceReader

  private constructor(variant: string, folder: string, args: readonly string[]) {
    this.series = [new Series('watch', variant, 'ms', { note: 'a plain program is restarted: no build, state lost' })]
    const trace = join(temporary(true), 'trace')
    this.#file = join(folder, PLAIN)
    writeFileSync(trace, '')
    writeFileSync(this.#file, plain)
    this.#trace = new TraceReader(trace)
    this.#process = start(process.execPath, args, {
      cwd: folder,
      stdio: 'ignore',
      env: { ...process.env, TRACE: trace },
    })
  }

  static async make(variant: string, args: readonly string[]): Promise<PlainWatch> {
    const folder = join(temporary(), variant)
    mkdirSync(folder)
    const way = new PlainWatch(variant, folder, args)
    await way.#trace.newest(HANDLE, 0, HUNG_MS)
    await sleep(PAUSE_MS)
    return way
  }

  async save(): Promise<void> {
    const before = await this.#trace.newest(HANDLE, 0)
    const began = change(this.#file)
    const { firstNs } = await this.#trace.newest(HANDLE, before.toFence, HUNG_MS)
    this.series[0].add((firstNs - began) / 1e6)
  }

  async stop(): Promise<void> {
    await ended(this.#process)
    this.#trace.close()
  }
}

/** Saves it with one line more; the time just before, CLOCK_MONOTONIC in ns. */
function change(file: string): number {
  const text = `${readFileSync(file, 'utf8')}// saved\n`
  const began = Number(process.hrtime.bigint())
  writeFileSync(file, text)
  return began
}

async function ended(child: ChildProcess): Promise<void> {
  const gone = new Promise((resolve) => child.once('close', resolve))
  child.kill('SIGTERM')
  await gone
}

async function* events(child: ChildProcess): AsyncGenerator<WatchEvent> {
  for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) yield JSON.parse(line)
}

async function within<T>(work: () => Promise<T>): Promise<T> {
  const over = new AbortController()
  const late = sleep(HUNG_MS, undefined, { signal: over.signal }).then(() => {
    throw new Error(`it did not happen within ${HUNG_MS} ms`)
  })
  late.catch(() => {})
  try {
    return await Promise.race([work(), late])
  } finally {
    over.abort()
  }
}
