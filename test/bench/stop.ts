/**
 * How long a stop takes, from the edge of the emergency stop's input and from the start of the CLI to the safe level, while
 * somebody floods the robot with all there is. On a simulated board, so by the body alone: the guard of a real one comes
 * on top (test/kernel/kills.rig.ts has its times).
 *
 * Times are those of the simulated world: CLOCK_MONOTONIC at the write, wherever the news of it was late.
 */
import { once } from 'node:events'
import { rmSync, statfsSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { RobotClient } from '../../deploy/laptop/client.ts'
import type { PinChange, PushEvent } from '../../deploy/shared/api.ts'
import type { BenchOptions } from './main.ts'
import { writeProgram } from './programs.ts'
import { BenchRobot, cli, ended, type RobotOptions, startCli } from './rig.ts'
import { type Goal, Series } from './stats.ts'

const SAMPLES = 20
const INPUT_GOAL: Goal = { p99: 20, max: 100 }
const CLI_GOAL: Goal = { p99: 300 }
/** ms: a stop that has not come by then is a failure. */
const HUNG_MS = 20_000

/** Room for the runtime and two programs, and soon none. */
const DISK = 64 * 1024 * 1024

const BOARD = {
  handles: {
    led: { kind: 'output', line: 'GPIO17', safe: 0 },
    tail: { kind: 'output', line: 'GPIO27', safe: 0 },
    bell: { kind: 'output', line: 'GPIO5', safe: 0 },
    stop: { kind: 'input', line: 'GPIO6', pull: 'down', edges: 'both' },
  },
  timing: { trialMs: 50, checkpointMs: 500, yieldMs: 5000, takeoverMs: 5000 },
  more: { wires: [['bell', 'stop']], estop: { input: 'stop', level: 1 }, limits: { memoryMb: 1024 } },
}

interface Running {
  end(): Promise<void> | void
  /** Around each start of what was stopped, where a flood keeps even that from happening. */
  rest?(): void
  goOn?(): void
}
interface Flood {
  readonly name: string
  readonly about: string
  readonly diskBytes?: number
  begin(robot: BenchRobot): Promise<Running>
  /** It is a program: started again after each stop. */
  readonly program?: true
}

/** A program of the slot `other`, whose tick is `tick`. */
function byProgram(name: string, about: string, tick: string, before = '', spec = ''): Flood {
  const source = `import { writeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { robot } from 'medulla'
robot({
  needs: { tail: 'output' },${spec}
  run({ tail, every, log, info, state }) {
    if (info.program === 'describe') return every(10, () => {})
    let ticks = 0
    ${before}
    every(10, () => {
      tail.write(1)
      // after its trial
      if (ticks++ > 50) { ${tick} }
    })
  },
})
`
  return {
    name,
    about,
    program: true,
    async begin(robot) {
      const path = await writeProgram(robot.dir, name, source)
      await cli(robot.config, ['push', path, '-d', 'bench', '--slot', 'other'])
      return { end() {} }
    },
  }
}

const RAW = (message: string) =>
  `const line = Buffer.from((JSON.stringify(${message}) + '\\n').repeat(100)); try { for (let i = 0; i < 1000; i++) writeSync(3, line) } catch {}`

const FLOODS: readonly Flood[] = [
  { name: 'idle', about: 'nothing else goes on', begin: async () => ({ end() {} }) },
  byProgram('log', 'a program logs without end', `for (let i = 0; i < 2000; i++) log('x'.repeat(60))`),
  byProgram('log-raw', 'the same, past its SDK', RAW(`{ t: 'log', level: 'info', text: 'x'.repeat(60) }`)),
  byProgram('unhealthy', 'a program says without end that it is unfit', RAW(`{ t: 'unhealthy', reason: 'x' }`)),
  byProgram('heartbeat', 'heartbeats without end', RAW(`{ t: 'hb', ticks: 1, lateUs: 0, overruns: 0 }`)),
  byProgram(
    'output',
    'stdout and stderr without end',
    `for (let i = 0; i < 200; i++) { console.log('x'.repeat(4000)); console.error('y'.repeat(4000)) }`,
  ),
  byProgram(
    'cpu',
    'four threads that never rest',
    '',
    `for (let i = 0; i < 4; i++) new Worker('for (;;);', { eval: true })`,
  ),
  byProgram(
    'state-64mib',
    'checkpoints of 64 MiB of which all has changed',
    `for (let at = ticks % 4096; at < state.length; at += 4096) state[at] = ticks`,
    '',
    `\n  state: { version: 1, initial: () => new Uint8Array(64 * 1024 * 1024) },`,
  ),
  { name: 'sockets-500', about: '500 strangers who say nothing', begin: async (robot) => strangers(robot, 500, '') },
  {
    name: 'handshakes',
    about: '50 strangers who send first messages, as fast as they are refused',
    begin: async (robot) => strangers(robot, 50, firstMessage()),
  },
  {
    name: 'handshakes-replayed',
    about: '50 strangers who send again what an operator once sent first',
    begin: async (robot) => strangers(robot, 50, await recorded(robot)),
  },
  { name: 'disk-full', about: 'not a byte is free where the robot keeps its state', diskBytes: DISK, begin: fullDisk },
  { name: 'requests', about: 'eight sessions that ask for everything', begin: requests },
]

/** With `-fifo` the body is under SCHED_FIFO: what reads the input and stops programs comes before every flood. */
const BODY_PRIORITY = 60

export async function stop({ samples = SAMPLES, wanted, realtime, report }: BenchOptions): Promise<Series[]> {
  const all: Series[] = []
  const priorities = realtime ? (['', '-fifo'] as const) : ([''] as const)
  if (!realtime) report.say('SCHED_FIFO cannot be had here (chrt -f): its variants are left out')
  for (const { suffix, flood } of FLOODS.flatMap((flood) => priorities.map((suffix) => ({ suffix, flood })))) {
    const variant = `${flood.name}${suffix}`
    if (!wanted(variant)) continue
    const input = new Series('stop', `${variant}-input`, 'ms', { note: flood.about, goal: INPUT_GOAL })
    const byCli = new Series('stop', `${variant}-cli`, 'ms', { goal: CLI_GOAL })
    report.progress(`stop: ${variant}`)
    const bench = await StopBench.start({
      ...(flood.diskBytes === undefined ? {} : { diskBytes: flood.diskBytes }),
      ...(suffix === '' ? {} : { bodyRealtime: BODY_PRIORITY }),
    })
    const running = await flood.begin(bench.robot)
    const again = async () => {
      running.rest?.()
      await bench.again(flood.program === true)
      running.goOn?.()
    }
    try {
      for (let i = 0; i < samples; i++) {
        report.progress(`stop: ${variant}, ${i + 1} of ${samples}`)
        const failed = (series: Series) => (error: unknown) => series.fail(String(error))
        await bench.byInput().then((ms) => input.add(ms), failed(input))
        await again().catch(failed(input))
        await bench.byCli().then((ms) => byCli.add(ms), failed(byCli))
        await again().catch(failed(byCli))
      }
    } finally {
      await running.end()
      await bench.end()
    }
    all.push(input, byCli)
    for (const series of [input, byCli]) report.row(series.row())
  }
  return all
}

class StopBench {
  readonly robot: BenchRobot
  readonly #client: RobotClient
  readonly #leave = new AbortController()
  readonly #seen: PinChange[] = []

  private constructor(robot: BenchRobot, client: RobotClient) {
    this.robot = robot
    this.#client = client
  }

  static async start(options: Pick<RobotOptions, 'diskBytes' | 'bodyRealtime'>): Promise<StopBench> {
    const robot = await BenchRobot.start({ ...BOARD, ...options })
    const holder = await writeProgram(
      robot.dir,
      'holder',
      `import { robot } from 'medulla'\nrobot({ led: 'output' }, ({ led, every }) => every(5, () => led.write(1)))\n`,
    )
    await cli(robot.config, ['push', holder, '-d', 'bench'])
    const bench = new StopBench(robot, await robot.connect())
    void bench.#follow(await robot.connect())
    await bench.#until('led', 1)
    return bench
  }

  /** From the edge. */
  async byInput(): Promise<number> {
    const mark = this.#mark()
    await this.#client.set('bell', 1)
    const edge = await this.#until('bell', 1, mark)
    const safe = await this.#until('led', 0, mark)
    return Number(BigInt(safe.ns) - BigInt(edge.ns)) / 1e6
  }

  /** From the start of the process. */
  async byCli(): Promise<number> {
    const mark = this.#mark()
    const began = process.hrtime.bigint()
    const over = ended(startCli(this.robot.config, ['estop', '-d', 'bench', '--json']))
    const safe = await this.#until('led', 0, mark)
    await over
    return Number(BigInt(safe.ns) - began) / 1e6
  }

  /** Released, and running once more. */
  async again(other: boolean): Promise<void> {
    for (let left = HUNG_MS; (await this.#client.status()).estop === null && left > 0; left -= 20) await sleep(20)
    await result(this.#client.release())
    const mark = this.#mark()
    await result(this.#client.start('main'))
    if (other) await result(this.#client.start('other'))
    await this.#until('led', 1, mark)
    // the flood is on its way, too
    await sleep(other ? 1000 : 200)
  }

  async end(): Promise<void> {
    this.#leave.abort()
    this.#client.close()
    await this.robot.stop()
  }

  async #follow(client: RobotClient): Promise<void> {
    try {
      for await (const pin of client.pins({ follow: true, names: ['led', 'bell'], signal: this.#leave.signal }))
        this.#seen.push(pin)
    } catch {
      // the robot is gone
    }
  }

  #mark(): number {
    return this.#seen.length
  }

  async #until(name: string, value: number, mark = 0): Promise<PinChange> {
    for (const end = performance.now() + HUNG_MS; performance.now() < end; await sleep(2)) {
      const found = this.#seen.slice(mark).find((pin) => pin.name === name && pin.value === value)
      if (found !== undefined) return found
    }
    throw new Error(`${name} was not ${value} within ${HUNG_MS} ms`)
  }
}

async function result(events: AsyncIterable<PushEvent>): Promise<void> {
  for await (const event of events) {
    if (event.event === 'result' && event.outcome === 'refused') throw new Error(event.message)
  }
}

/** Comes again as often as it is sent away. */
function strangers({ target }: BenchRobot, count: number, bytes: Uint8Array | string): Running {
  const { host, port } = target
  let over = false
  const sockets = new Set<Socket>()
  const come = () => {
    if (over) return
    const socket = connect({ host, port })
    sockets.add(socket)
    socket.on('error', () => {}).on('connect', () => socket.write(bytes))
    socket.resume().on('close', () => {
      sockets.delete(socket)
      setTimeout(come, 1)
    })
  }
  for (let i = 0; i < count; i++) come()
  return {
    end() {
      over = true
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** All that an operator sent before the robot knew her, on a connection that is over. */
async function recorded(robot: BenchRobot): Promise<Uint8Array> {
  const { host, port } = robot.target
  const said: Buffer[] = []
  const tap = createServer((near) => {
    const far = connect({ host, port })
    for (const socket of [near, far]) socket.on('error', () => {})
    near.on('data', (bytes: Buffer) => said.push(bytes)).pipe(far)
    far.pipe(near)
  }).listen(0, '127.0.0.1')
  await once(tap, 'listening')
  const client = await robot.connect((tap.address() as AddressInfo).port)
  client.close()
  tap.close()
  return Buffer.concat(said)
}

/** A file takes what is free; it goes for as long as something is to be started. */
async function fullDisk({ dir }: BenchRobot): Promise<Running> {
  const filler = join(dir, 'home', 'filler')
  const goOn = () => {
    const { bavail, bsize } = statfsSync(join(dir, 'home'))
    writeFileSync(filler, Buffer.alloc(bavail * bsize))
  }
  const rest = () => rmSync(filler)
  goOn()
  return { end: rest, rest, goOn }
}

/** As long as one that is good: the robot computes a shared secret before it knows. */
function firstMessage(): Uint8Array {
  const length = 800
  const head = 'GET / HTTP/1.1\r\nHost: r\r\nConnection: Upgrade\r\nUpgrade: medulla/2\r\n\r\n'
  const message = Buffer.alloc(2 + length, 9)
  message.writeUInt16BE(length)
  return Buffer.concat([Buffer.from(head), message])
}

async function requests(robot: BenchRobot): Promise<Running> {
  let over = false
  const clients = await Promise.all(Array.from({ length: 8 }, () => robot.connect()))
  const ask = async (client: RobotClient) => {
    while (!over) {
      for await (const _ of client.logs(null, { lines: 10_000 }));
      for await (const _ of client.receipts(10_000));
      await client.status()
    }
  }
  for (const client of clients) ask(client).catch(() => {})
  return {
    end() {
      over = true
      for (const client of clients) client.close()
    },
  }
}
