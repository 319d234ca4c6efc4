/** A simulated robot for tests: the built runtime in its own process, with its own home and board. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import { type ClientOptions, RobotClient } from '../../deploy/laptop/client.ts'
import type { LogLine, PushEvent, Receipt, Role, SignedOrder, SlotStatus, Wish } from '../../deploy/shared/api.ts'
import { type Certificate, type SignedCertificate, verifyCertificate } from '../../deploy/shared/cert.ts'
import { parseEntry, verifyLog } from '../../deploy/shared/receiptlog.ts'
import type { Timing } from '../../drivers/board/types.ts'
import { openHome } from '../../runtime/store/home.ts'
import { quietContents } from './contents.ts'
import { eventually, SCALE } from './eventually.ts'
import { makeOperator, type Operator } from './operators.ts'
import { childrenOf, run } from './processes.ts'
import { type BundleOptions, bundle, type Made, RUNTIME, type To } from './programs.ts'
import { ended, type Pushed } from './pushed.ts'
import { staged } from './staged.ts'
import { expectHeld, expectOneWriter, Trace } from './trace.ts'

// what a test of a robot needs besides it, from one place
export { makeOperator } from './operators.ts'
export { childrenOf, run } from './processes.ts'
export { ended, type Pushed } from './pushed.ts'

// deadlines only end a hanging test, on a machine that may be busy: tests wait for events, not for times

const HANDLES = {
  led: { kind: 'output', line: 'GPIO17', safe: 0 },
  dial: { kind: 'pwm', line: 'GPIO18', frequencyHz: 1000, safe: 'hold' },
  enable: { kind: 'output', line: 'GPIO22', safe: 'hold' },
  tail: { kind: 'output', line: 'GPIO27', safe: 0 },
  button: { kind: 'input', line: 'GPIO23', pull: 'down', edges: 'both' },
}

/** Long enough for a good program on a busy machine; short where a test waits until a bad program is noticed. */
export const TIMING = {
  trialMs: 50,
  readyMs: 30_000,
  yieldMs: 3000,
  takeoverMs: 3000,
  heartbeatMs: 3000,
  checkpointMs: 100,
} satisfies Partial<Timing>

/** A trial that lasts until the program itself ends it, however slow the machine is. */
export const ENDLESS_TRIAL = { trialMs: 600_000 } satisfies Partial<Timing>

/** `more`: further keys of the board file, or replacements. */
export const boardText = (timing: Partial<Timing> = {}, more: object = {}): string =>
  JSON.stringify({ name: 'e2e', model: 'sim', handles: HANDLES, timing: { ...TIMING, ...timing }, ...more })

export interface PushOptions extends BundleOptions {
  to?: string
  force?: boolean
  retry?: boolean
}

export interface RobotSetup {
  /** Text of a board file for real hardware: no simulator, no trace. */
  board?: string
  /** See boardText. */
  more?: object
  sandbox?: string
  /** A module to preload into the runtime. */
  preload?: string
  /** Called before the home has any files. */
  prepareHome?: (home: string) => void
}

export class TestRobot {
  readonly folder: string
  readonly home: string
  readonly owner: Operator
  readonly others: Record<string, Operator> = {}
  port = 0
  /** Path of the runtime's main.js. */
  runtime = RUNTIME
  trace: Trace
  stderr = ''
  #process: ChildProcess | undefined
  #client: RobotClient | undefined
  #starts = 0
  readonly #setup: RobotSetup

  private constructor(folder: string, owner: Operator, setup: RobotSetup) {
    this.#setup = setup
    this.folder = folder
    this.home = join(folder, 'home')
    this.owner = owner
    this.trace = new Trace('')
  }

  static async start(
    timing: Partial<Timing> = {},
    others: Readonly<Record<string, Role>> = {},
    setup: RobotSetup = {},
  ): Promise<TestRobot> {
    const folder = mkdtempSync(join(tmpdir(), 'medulla-e2e-'))
    const robot = new TestRobot(folder, await makeOperator(folder, 'ann'), setup)
    mkdirSync(robot.home, { mode: 0o700 })
    setup.prepareHome?.(robot.home)
    writeFileSync(join(robot.home, 'board.json'), setup.board ?? boardText(timing, setup.more))
    await (await openHome(robot.home)).close()
    await robot.trust(robot.owner, 'owner')
    for (const [name, role] of Object.entries(others)) {
      const operator = await makeOperator(folder, name)
      robot.others[name] = operator
      await robot.trust(operator, role)
    }
    await robot.begin()
    return robot
  }

  /** Runs `trust` on the robot; a running runtime notices the change. */
  async trust(operator: Pick<Operator, 'cardFile'>, role: Role): Promise<void> {
    const { status, stdout, stderr } = await run(RUNTIME, ['trust', '--home', this.home, '--card', operator.cardFile, '--role', role]) // biome-ignore format: one call
    expect(status, stdout + stderr).toBe(0)
  }

  /** Starts the runtime and connects, or does not wait for it. */
  async begin({ wait = true, retries = 10 } = {}): Promise<void> {
    this.trace = new Trace(join(this.folder, `trace-${++this.#starts}.ndjson`))
    const { board, sandbox = process.env.MEDULLA_SANDBOX, preload } = this.#setup
    const args = ['--home', this.home, '--port', String(this.port)]
    if (board === undefined) args.push('--sim', '--trace', this.trace.path)
    if (sandbox !== undefined) args.push('--sandbox', sandbox)
    const first = preload === undefined ? [] : ['--import', preload]
    const child = spawn(process.execPath, [...first, this.runtime, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, MEDULLA_TEST_HOME: this.home, MEDULLA_TEST_FAULT: this.faultFile },
    })
    this.#process = child
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr = (this.stderr + text).slice(-20_000)
    })
    child.once('exit', (code, signal) => {
      this.stderr += `the body ended with ${signal ?? code}\n`
    })
    if (!wait) return
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
    const line = await eventually(() => (said.includes('\n') || child.exitCode !== null) && (said || 'nothing'))
    const up = JSON.parse(line) as { event: string; port: number; error?: { code: string } }
    // at a restart the port may be in use for a moment: it is in the kernel's ephemeral range
    if (up.error?.code === 'port-in-use' && retries > 0) {
      await sleep(500)
      return this.begin({ retries: retries - 1 })
    }
    expect(up.event, line).toBe('listening')
    this.port = up.port
    this.#client = await this.connect()
  }

  /**
   * Restarts the runtime with other times in its board file. A trial that only an event of the program ends must be long:
   * no busy machine is then too slow for that event. No release is pushed here, so no test waits for the end of the trial.
   */
  async retime(timing: Partial<Timing>): Promise<void> {
    await this.end()
    const file = join(this.home, 'board.json')
    const board = JSON.parse(readFileSync(file, 'utf8')) as { timing: Partial<Timing> }
    writeFileSync(file, JSON.stringify({ ...board, timing: { ...board.timing, ...timing } }))
    await this.begin()
    await this.running()
  }

  /** Makes every write of the runtime fail with this code; null: no longer. Needs children/badfs.mjs as preload. */
  fault(code: 'ENOSPC' | 'EIO' | 'EROFS' | null): void {
    if (code === null) rmSync(this.faultFile, { force: true })
    else writeFileSync(this.faultFile, code)
  }

  private get faultFile(): string {
    return join(this.folder, 'fault')
  }

  /** pid of the only running program, found without asking the robot; undefined while there is none. */
  get programPid(): number | undefined {
    return this.children().find(({ command }) => command.includes('sdk/loader.js'))?.pid
  }

  /** Connects to the new endpoint, after the old one has died. */
  async reconnect(): Promise<void> {
    this.#client?.close()
    this.#client = await eventually(() => this.connect().catch(() => false as const))
  }

  events(events: AsyncIterable<PushEvent>): Promise<Pushed> {
    return ended(events)
  }

  /** Ends the runtime; SIGKILL stands for a power cut. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    this.#client?.close()
    const child = this.#process
    this.#process = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    // not `close`: after SIGKILL the guard goes on, and holds the same stderr
    const gone = once(child, 'exit')
    child.kill(signal)
    await gone
  }

  async close(): Promise<void> {
    await this.end()
    rmSync(this.folder, { recursive: true, force: true })
  }

  get client(): RobotClient {
    if (this.#client === undefined) throw new Error('the robot is not running')
    return this.#client
  }

  get card(): SignedCertificate {
    return JSON.parse(readFileSync(join(this.home, 'robot.json'), 'utf8')) as SignedCertificate
  }

  get identity(): Certificate & { id: string } {
    return verifyCertificate(this.card)
  }

  get address(): To {
    const { id, age = '' } = this.identity
    return { id, age }
  }

  /** pid of the body. */
  get pid(): number {
    return this.#process?.pid ?? -1
  }

  options(operator = this.owner, port = this.port): ClientOptions {
    const { noiseSecret, card } = operator
    return {
      host: '127.0.0.1',
      port,
      noiseSecret,
      cert: card,
      robot: this.identity,
      signer: async () => operator.signer,
      timeoutMs: 30_000 * SCALE,
    }
  }

  connect(operator = this.owner, port = this.port): Promise<RobotClient> {
    return RobotClient.connect(this.options(operator, port))
  }

  bundle(name: string, options: BundleOptions = {}): Promise<Made> {
    return bundle(name, this.owner.signer, this.address, options)
  }

  /** Builds, seals and pushes a program of test/programs. */
  async push(name: string, { to, force, retry, ...options }: PushOptions = {}): Promise<Pushed> {
    const { bytes } = await this.bundle(name, options)
    return this.send(bytes, { ...(to && { to }), ...(force && { force }), ...(retry && { retry }) })
  }

  /** Pushes the bytes of a bundle. */
  send(bytes: Uint8Array, { to = 'main', ...options }: { to?: string; force?: boolean; retry?: boolean } = {}) {
    return ended(this.client.push(to, bytes, options))
  }

  /** An order to roll back, signed by the owner. */
  async order(slot = 'main', change: Partial<Extract<Wish, { order: 'rollback' }>> = {}): Promise<SignedOrder> {
    const { program = '', previous = '' } = await this.slot(slot)
    const from = (await this.client.releases(slot)).find(({ current }) => current)?.digest ?? null
    return this.client.sign({ order: 'rollback', slot, program, target: previous, from, ...change })
  }

  async rollback(slot = 'main'): Promise<Pushed> {
    return ended(this.client.carryOut(await this.order(slot)))
  }

  /** The keys that open bundles for this robot. */
  get ageSecret(): string {
    return readFileSync(join(this.home, 'endpoint', 'age.key'), 'utf8').trim()
  }

  async commit(name: string, options: PushOptions = {}): Promise<Receipt> {
    const { outcome, code, message, receipt } = await this.push(name, options)
    expect(outcome, `${code}: ${message}; the robot said:\n${this.stderr.slice(-2000)}`).toBe('committed')
    if (receipt === undefined) throw new Error('a commit without a receipt')
    return receipt
  }

  async slot(name = 'main'): Promise<SlotStatus> {
    const { slots } = await this.client.status()
    const found = slots.find(({ slot }) => slot === name)
    if (found === undefined) throw new Error(`there is no slot ${name}`)
    return found
  }

  /** Waits until the slot runs a program with another pid. */
  running(not = -1, name = 'main'): Promise<SlotStatus & { pid: number }> {
    return eventually(async () => {
      const slot = await this.slot(name)
      const { pid } = slot
      return slot.state === 'running' && pid !== undefined && pid !== not && { ...slot, pid }
    })
  }

  /** All receipts, verified to be signed by the robot and complete. */
  receipts(): Receipt[] {
    const lines = readFileSync(join(this.home, 'receipts.ndjson'), 'utf8').trim().split('\n')
    const verdict = verifyLog(lines, this.identity.key)
    expect(verdict).toMatchObject({ ok: true, entries: lines.length })
    return lines.map((line) => parseEntry(line).receipt)
  }

  /** The last receipt of a push, a stop or a refusal. */
  receipt(): Receipt {
    const last = this.receipts().at(-1)
    if (last === undefined) throw new Error('the log of receipts is empty')
    return last
  }

  async logs(slot = 'main', lines = 2000): Promise<LogLine[]> {
    const all: LogLine[] = []
    for await (const line of this.client.logs(slot, { lines })) all.push(line)
    return all
  }

  /** Checks what must hold at any time. */
  check(from = 0, { stamped = true } = {}): void {
    const entries = this.trace.read()
    expectOneWriter(entries.slice(from), { stamped })
    expectHeld(entries)
    this.receipts()
  }

  /** The body's children: the endpoint and the programs. */
  children(): { pid: number; command: string }[] {
    return childrenOf(this.pid)
  }

  endpoint(): number {
    const found = this.children().find(({ command }) => command.includes('endpoint/main.js'))
    if (found === undefined) throw new Error('there is no endpoint')
    return found.pid
  }

  /** What is in the home, and which processes there are, once earlier pushes have been cleaned up. */
  quiet(): Promise<string[]> {
    return quietContents(this)
  }

  get staged(): string[] {
    return staged(this.home)
  }
}
