/** A push over a program that runs, on a simulated robot: its receipt, the trace of the pins, and the terminal's screen. */
import type { ChildProcess } from 'node:child_process'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import type { PhaseTime, Receipt } from '../../deploy/shared/api.ts'
import { canRealtime, DIST, ENV, ended, start, temporary } from '../bench/rig.ts'
import { boardText, NEW, OLD, packageText, programText } from './programs.ts'

const CLI = join(DIST, 'deploy/laptop/cli/main.js')
const ROBOT = 'rover'
/** How long the old program runs before the push, and the new one after its commit. */
const BEFORE_MS = 1500
const AFTER_MS = 700
/** From the switch to the nearest edge of the led, so that a picture can tell the two apart. */
const CLEAR_MS = 50

export interface Write {
  /** CLOCK_MONOTONIC. */
  ms: number
  value: number
  fence: number
}

interface Pushed {
  receipt: Receipt
  /** What the endpoint says of the upload, before the phases of the receipt. */
  upload: PhaseTime[]
  /** When the old program had revoked its handles, on the clock of the writes. */
  revokedMs: number
  gapMs: number
  led: Write[]
  servo: Write[]
  /** All bytes that the terminal got. */
  terminal: string
  realtime: boolean
}

export interface Recording extends Pushed {
  /** From how many it was chosen, and the median of their gaps. */
  pushes: number
  medianMs: number
}

/** Of so many pushes, the one in which the led is clear to see and whose gap is nearest to the median of all. */
export async function record(pushes: number, say: (text: string) => void): Promise<Recording> {
  const session = new Session()
  try {
    await session.begin()
    const all: Pushed[] = []
    while (all.length < pushes) {
      const recording = await session.swap()
      all.push(recording)
      say(`push ${all.length} of ${pushes}: a gap of ${recording.gapMs.toFixed(2)} ms`)
    }
    const medianMs = all.map(({ gapMs }) => gapMs).sort((a, b) => a - b)[Math.floor(pushes / 2)] as number
    const fromMedian = ({ gapMs }: Pushed) => Math.abs(gapMs - medianMs)
    const clear = all.filter(isClear)
    const [chosen] = (clear.length > 0 ? clear : all).sort((a, b) => fromMedian(a) - fromMedian(b))
    return { ...(chosen as Pushed), pushes, medianMs }
  } finally {
    await session.end()
  }
}

/** The led is on, and has no edge of its own near the switch. */
function isClear({ led, revokedMs }: Pushed): boolean {
  const before = led.findLast(({ ms }) => ms <= revokedMs)
  const after = led.find(({ ms }) => ms > revokedMs)
  return before?.value === 1 && revokedMs - before.ms > CLEAR_MS && (after?.ms ?? 0) - revokedMs > CLEAR_MS
}

class Session {
  readonly #folder = temporary()
  readonly #trace = join(temporary(true), 'trace')
  readonly #realtime = canRealtime()
  readonly #env: NodeJS.ProcessEnv
  #sim: ChildProcess | undefined
  #pushes = 0

  constructor() {
    const bin = join(this.#folder, '.bin')
    mkdirSync(bin)
    writeFileSync(join(bin, 'medulla'), `#!/bin/sh\nexec '${process.execPath}' '${CLI}' "$@"\n`)
    chmodSync(join(bin, 'medulla'), 0o755)
    const config = join(this.#folder, '.medulla')
    this.#env = { ...ENV, PATH: `${bin}:${ENV.PATH}`, HOME: this.#folder, MEDULLA_CONFIG: config, TERM: 'xterm' }
  }

  async begin(): Promise<void> {
    const board = join(this.#folder, 'board.json')
    writeFileSync(board, boardText(this.#realtime ? 50 : 0))
    await this.#medulla('keygen')
    const words = ['sim', '--name', ROBOT, '--port', '0', '--board', board, '--trace', this.#trace, '--json']
    this.#sim = start(process.execPath, [CLI, ...words], { env: this.#env, stdio: ['ignore', 'pipe', 'ignore'] })
    for await (const line of createInterface({ input: this.#sim.stdout as NodeJS.ReadableStream })) {
      if ((JSON.parse(line) as { event: string }).event === 'listening') return
    }
    throw new Error('the simulated robot did not start')
  }

  async end(): Promise<void> {
    const sim = this.#sim
    if (sim === undefined || sim.exitCode !== null) return
    const gone = new Promise((resolve) => sim.once('exit', resolve))
    sim.kill('SIGTERM')
    await gone
  }

  /** The old program, for a while; then the new one is pushed over it, in a terminal. */
  async swap(): Promise<Pushed> {
    this.#write(OLD)
    await this.#medulla('push', 'arm')
    // the led of the old program began with its start: each push is at another place of its blinking
    await sleep(BEFORE_MS + ((this.#pushes++ * 70) % 600))
    this.#write(NEW)
    const commands = ['medulla push arm', 'medulla status']
    const shown = commands.map((command) => `printf '\\033[1m$ ${command}\\033[0m\\n'; ${command}`).join('; echo; ')
    const terminal = await this.#inTerminal(`stty cols 80 rows 50; ${shown}`)
    await sleep(AFTER_MS)
    const receipt = await this.#receipt()
    const { gapMs, outcome, fence } = receipt
    if (outcome !== 'committed' || gapMs === null) throw new Error(`the push was not committed:\n${terminal}`)
    const [led, servo] = this.#writes()
    const revokedMs = revoked(servo, fence, gapMs)
    return { receipt, upload: upload(terminal), revokedMs, gapMs, led, servo, terminal, realtime: this.#realtime }
  }

  #write(pace: typeof OLD): void {
    const folder = join(this.#folder, 'arm')
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'package.json'), packageText(pace))
    writeFileSync(join(folder, 'program.js'), programText(pace))
  }

  async #medulla(...words: string[]): Promise<string> {
    const options = {
      cwd: this.#folder,
      env: this.#env,
      stdio: ['ignore', 'pipe', 'pipe'] as ['ignore', 'pipe', 'pipe'],
    }
    const { status, stdout, stderr } = await ended(start(process.execPath, [CLI, ...words], options))
    if (status !== 0) throw new Error(`medulla ${words.join(' ')} ended with ${status}: ${stderr}`)
    return stdout
  }

  /** `script` of util-linux gives the commands a terminal. */
  async #inTerminal(shell: string): Promise<string> {
    const child = start('script', ['-qfec', shell, '/dev/null'], {
      cwd: this.#folder,
      env: this.#env,
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    const { stdout } = await ended(child)
    return stdout
  }

  async #receipt(): Promise<Receipt> {
    const lines = (await this.#medulla('receipts', '--json')).trim().split('\n')
    const receipts = lines.map((line) => JSON.parse(line) as Receipt & { event: string })
    const last = receipts.findLast(({ event }) => event === 'receipt')
    if (last === undefined) throw new Error('the robot has no receipt')
    return last
  }

  #writes(): [led: Write[], servo: Write[]] {
    const traced = readFileSync(this.#trace, 'utf8')
    const lines = traced.slice(0, traced.lastIndexOf('\n')).split('\n')
    const all = lines.map(
      (line) => JSON.parse(line) as Omit<Write, 'ms'> & { name: string; ns: string; accepted: boolean },
    )
    const of = (handle: string) =>
      all
        .filter(({ name, accepted }) => name === handle && accepted)
        .map(({ ns, value, fence }) => ({ ms: Number(BigInt(ns) / 1000n) / 1000, value, fence }))
    return [of('led'), of('servo')]
  }
}

/** The old program revokes its handles right after a tick (HANDOVER 6.7), so right after its last write. */
function revoked(servo: readonly Write[], fence: number, gapMs: number): number {
  const at = servo.findIndex((write) => write.fence === fence)
  const [last, first] = [servo[at - 1], servo[at]]
  if (last === undefined || first === undefined) throw new Error('the trace does not show both programs')
  const apartMs = first.ms - last.ms
  if (apartMs < gapMs) throw new Error(`the receipt says a gap of ${gapMs} ms, the trace ${apartMs} ms`)
  return last.ms
}

/** Only the terminal shows what the endpoint says. The phases end where the receipt begins. */
function upload(terminal: string): PhaseTime[] {
  const found = (['receive', 'open'] as const).map((phase) => {
    const ms = Number(new RegExp(`${phase} +([\\d.]+) ms`).exec(terminal)?.[1])
    if (Number.isNaN(ms)) throw new Error(`the terminal shows no phase ${phase}:\n${terminal}`)
    return { phase, ms }
  })
  let startMs = -found.reduce((sum, { ms }) => sum + ms, 0)
  return found.map(({ phase, ms }) => {
    const begins = startMs
    startMs += ms
    return { phase, startMs: begins, ms }
  })
}
