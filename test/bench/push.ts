/**
 * How long a push takes a user: from the start of the CLI to the first write of the new program, and to the commit. The
 * trial lies between the two, by design; it is a row of its own.
 */
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { RobotClient } from '../../deploy/laptop/client.ts'
import type { BenchOptions } from './main.ts'
import { pushed, type Result } from './ours.ts'
import { writeFilled } from './programs.ts'
import { BenchRobot, cli, ended, startCli } from './rig.ts'
import { startScp } from './scp.ts'
import { type Goal, Series } from './stats.ts'

const PUSHES = 20
const HANDLE = 'line'
const SIZES = { '100KB': 100 * 1024, '10MB': 10 * 1024 * 1024 } as const
type Size = keyof typeof SIZES
const CLI_GOAL: Goal = { p50: 100 }

/** One way to bring a program to the robot. */
interface Courier {
  readonly series: readonly Series[]
  once(i: number): Promise<void>
}

export async function push({ samples = PUSHES, wanted, report }: BenchOptions): Promise<Series[]> {
  const robot = await BenchRobot.start({
    handles: { [HANDLE]: { kind: 'output', line: 'GPIO17' } },
    timing: { trialMs: 50 },
  })
  const bench = new PushBench(robot, samples)
  const couriers: Courier[] = []
  const add = async (variant: string, make: () => Promise<Courier>) => {
    report.progress(`push: building for ${variant}`)
    if (wanted(variant)) couriers.push(await make())
  }
  for (const size of ['100KB', '10MB'] as const) {
    await add(`bundle-${size}`, () => bench.fromBundle(`bundle-${size}`, size))
    await add(`warm-client-${size}`, () => bench.warmClient(`warm-client-${size}`, size))
  }
  await add('warm-spare-100KB', () => bench.warmClient('warm-spare-100KB', '100KB', { spare: true }))
  await add('from-source-100KB', () => bench.fromSource('from-source-100KB', '100KB'))
  const scp = await startScp(robot.dir)
  if (typeof scp === 'string') report.say(`scp is left out: ${scp}`)
  else
    for (const size of ['100KB', '10MB'] as const) await add(`scp-${size}`, () => bench.scp(`scp-${size}`, size, scp))

  for (let i = 0; i < samples; i++) {
    for (const courier of couriers) {
      report.progress(`push: ${i + 1} of ${samples}, ${courier.series[0]?.variant}`)
      await courier.once(i).catch((error: unknown) => {
        courier.series[0]?.fail(error instanceof Error ? error.message : String(error))
      })
    }
  }
  if (typeof scp !== 'string') scp.stop()
  await robot.stop()
  const all = couriers.flatMap(({ series }) => series)
  for (const series of all) report.row(series.row())
  return all
}

interface Landed {
  result: Result
  /** CLOCK_MONOTONIC in ns, when it was known here */
  knownNs: number
}

class PushBench {
  readonly #robot: BenchRobot
  readonly #samples: number

  constructor(robot: BenchRobot, samples: number) {
    this.#robot = robot
    this.#samples = samples
  }

  async fromBundle(variant: string, size: Size): Promise<Courier> {
    const bundles = await this.#bundles(variant, size)
    return this.#pushes(variant, await this.#note(bundles), CLI_GOAL, (i) => this.#byCli(bundles[i] as string))
  }

  async fromSource(variant: string, size: Size): Promise<Courier> {
    const path = await this.#source(variant, size)
    return this.#pushes(variant, 'built, signed and sealed by the push', undefined, () => this.#byCli(path))
  }

  async warmClient(variant: string, size: Size, { spare = false } = {}): Promise<Courier> {
    const bundles = await this.#bundles(variant, size)
    const client: RobotClient = await this.#robot.connect()
    const note = spare ? 'the same, with a spare child that waits' : 'an open session in a process that runs'
    return this.#pushes(variant, note, undefined, async (i) => {
      const bytes = await readFile(bundles[i] as string)
      const release = spare ? await spareOf(await this.#robot.connect()) : () => {}
      return async () => {
        const result = await pushed(client, 'main', bytes)
        const knownNs = now()
        release()
        return { result, knownNs }
      }
    })
  }

  async scp(variant: string, size: Size, scp: { copy(file: string): Promise<number> }): Promise<Courier> {
    const [file] = await this.#bundles(variant, size, 1)
    const series = new Series('push', variant, 'ms', { note: 'a new connection, the bytes alone' })
    return { series: [series], once: async () => series.add(await scp.copy(file as string)) }
  }

  /** A courier over a push that is prepared before its clock starts. */
  #pushes(
    variant: string,
    note: string,
    goal: Goal | undefined,
    prepare: (i: number) => Promise<() => Promise<Landed>>,
  ): Courier {
    const part = (name: string, about: { note?: string; goal?: Goal | undefined } = {}) =>
      new Series('push', `${variant}-${name}`, 'ms', about)
    // the goal is for 100 KB
    const firstWrite = part('first-write', { note, ...(variant.includes('10MB') ? {} : { goal }) })
    const [commit, trial] = [part('commit'), part('trial')]
    const once = async (i: number) => {
      const go = await prepare(i)
      const began = now()
      const { result, knownNs } = await go()
      if (result.outcome !== 'committed') throw new Error(`${result.outcome}: ${result.message}`)
      const { firstNs } = await this.#robot.trace.transition(HANDLE, result.receipt?.fence ?? 0)
      firstWrite.add((firstNs - began) / 1e6)
      commit.add((knownNs - began) / 1e6)
      trial.add(result.receipt?.phases.find(({ phase }) => phase === 'trial')?.ms ?? Number.NaN)
    }
    return { series: [firstWrite, commit, trial], once }
  }

  async #byCli(path: string): Promise<() => Promise<Landed>> {
    return async () => {
      const child = startCli(this.#robot.config, ['push', path, '-d', 'bench', '--json'])
      const over = ended(child)
      let landed: Landed | undefined
      for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
        const event = JSON.parse(line) as Result
        if (event.event === 'result') landed = { result: event, knownNs: now() }
      }
      const { status, stderr } = await over
      if (landed === undefined) throw new Error(`push ended with ${status}: ${stderr.trim()}`)
      return landed
    }
  }

  #source(variant: string, size: Size): Promise<string> {
    return writeFilled(this.#robot.dir, variant.toLowerCase(), HANDLE, SIZES[size])
  }

  /** Each of the same program, later than the one before. */
  async #bundles(variant: string, size: Size, count = this.#samples): Promise<string[]> {
    const source = await this.#source(variant, size)
    const files: string[] = []
    for (let i = 0; i < count; i++) {
      const file = join(this.#robot.dir, `${variant}-${i}.medulla`)
      await cli(this.#robot.config, ['build', source, '-d', 'bench', '-o', file])
      files.push(file)
    }
    return files
  }

  async #note(bundles: readonly string[]): Promise<string> {
    const { size } = await stat(bundles[0] as string)
    return `bundle of ${size} bytes, built before`
  }
}

/** Waits for a spare child in the slot. The returned function lets it go, with its session. */
async function spareOf(client: RobotClient): Promise<() => void> {
  const over = new AbortController()
  const events = client.spare('main', over.signal)
  const { value } = await events.next()
  if (value?.ready !== true) throw new Error(`no spare: ${JSON.stringify(value)}`)
  return () => {
    over.abort()
    client.close()
  }
}

const now = (): number => Number(process.hrtime.bigint())
