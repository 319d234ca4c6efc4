/**
 * Invariant: a bench leaves nothing behind: its folder goes and its children are killed, whatever happens.
 *
 * A robot as a user has one: the real runtime process, set up with the CLI, in a throw-away folder.
 */
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process'
import { accessSync, constants, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { findRobot, type Target } from '../../deploy/laptop/cli/robot.ts'
import { RobotClient } from '../../deploy/laptop/client.ts'
import { keyPath, operator } from '../../deploy/laptop/config.ts'
import { loadSigner, type Signer } from '../../deploy/shared/keys.ts'
import { TraceReader } from './trace.ts'

/** The compiled tree. */
export const DIST = fileURLToPath(new URL('../..', import.meta.url))
const CLI = join(DIST, 'deploy/laptop/cli/main.js')
const RUNTIME = join(DIST, 'runtime/main.js')

/** The same for every process that is measured; what a user's shell adds (NODE_OPTIONS, extra CA files) costs time. */
export const ENV: NodeJS.ProcessEnv = {
  PATH: process.env.PATH,
  LANG: 'C.UTF-8',
  TZ: 'UTC',
  HOME: process.env.HOME,
}

const children = new Set<ChildProcess>()
const folders = new Set<string>()

export function start(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  const child = spawn(command, args, { env: ENV, ...options })
  children.add(child)
  child.once('exit', () => children.delete(child))
  child.once('error', () => children.delete(child))
  return child
}

/** In memory where there is a tmpfs, so that the disk is not part of what is measured beyond what the product syncs. */
export function temporary(inMemory = false): string {
  const folder = mkdtempSync(join(inMemory ? memory() : tmpdir(), 'medulla-bench-'))
  folders.add(folder)
  return folder
}

function memory(): string {
  try {
    accessSync('/dev/shm', constants.W_OK)
    return '/dev/shm'
  } catch {
    return tmpdir()
  }
}

process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL')
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})
/** Throws when this user may not mount. Goes with the bench. */
function mountDisk(folder: string, bytes: number): void {
  mkdirSync(folder, { mode: 0o700 })
  const { status, stderr } = spawnSync('mount', [
    '-t',
    'tmpfs',
    '-o',
    `size=${bytes},mode=700`,
    'medulla-bench',
    folder,
  ])
  if (status !== 0) throw new Error(`no disk of ${bytes} bytes: ${stderr}`)
  process.prependListener('exit', () => spawnSync('umount', ['-l', folder]))
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130))

export const canRealtime = (): boolean => {
  if (process.platform !== 'linux') return false
  return spawnSync('chrt', ['-f', '50', 'true'], { stdio: 'ignore' }).status === 0
}

export interface Answer {
  status: number | null
  stdout: string
  stderr: string
}

export async function ended(child: ChildProcess): Promise<Answer> {
  let stdout = ''
  let stderr = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  return { status, stdout, stderr }
}

export interface RobotOptions {
  handles: Record<string, unknown>
  timing?: Record<string, number>
  realtime?: number
  /** Priority of the body under SCHED_FIFO; what it starts is at normal priority again. */
  bodyRealtime?: number
  /** How programs are confined; not at all without it. */
  sandbox?: string
  /** Other keys of the board. */
  more?: object
  /** Its home is a disk of this many bytes of its own; needs root. */
  diskBytes?: number
}

export class BenchRobot {
  readonly dir: string
  readonly config: string
  readonly trace: TraceReader
  readonly #runtime: ChildProcess
  readonly target: Target

  private constructor(dir: string, runtime: ChildProcess, trace: TraceReader, target: Target) {
    this.dir = dir
    this.config = join(dir, 'config')
    this.#runtime = runtime
    this.trace = trace
    this.target = target
  }

  static async start(options: RobotOptions): Promise<BenchRobot> {
    const dir = temporary()
    const home = join(dir, 'home')
    const board = join(dir, 'board.json')
    const traceFile = join(temporary(true), 'trace')
    const { handles, timing = {}, realtime = 0, bodyRealtime, sandbox = 'none', more = {}, diskBytes } = options
    if (diskBytes !== undefined) mountDisk(home, diskBytes)
    await writeFile(board, JSON.stringify({ model: 'sim', handles, timing, realtime, ...more }))
    const config = join(dir, 'config')
    await cli(config, ['keygen'])
    const card = join(dir, 'operator.json')
    await writeFile(card, (await cli(config, ['trust', '--export'])).stdout)
    await run([RUNTIME, 'card', '--home', home, '--name', 'bench'])
    await cli(config, ['trust', '--home', home, card, '--role', 'owner'])
    const place = ['--home', home, '--sim', '--port', '0', '--board', board, '--trace', traceFile]
    const args = [...place, '--sandbox', sandbox, '--json']
    // its log goes to a file: a full pipe would stop it
    const command = [process.execPath, RUNTIME, ...args]
    if (bodyRealtime !== undefined) command.unshift('chrt', '-R', '-f', String(bodyRealtime))
    const [program = '', ...rest] = command
    const runtime = start(program, rest, { stdio: ['ignore', 'pipe', 'pipe'] })
    const { host, port } = await listening(runtime)
    await cli(config, ['trust', 'bench', `${host}:${port}`, '--card', join(home, 'robot.json')])
    return new BenchRobot(dir, runtime, new TraceReader(traceFile), await findRobot(config, 'bench'))
  }

  /** A session with the robot that stays open. */
  async connect(port = this.target.port): Promise<RobotClient> {
    const { noiseSecret, card } = await operator(this.config, keyPath(this.config, undefined, {}))
    const { host, card: robot } = this.target
    return RobotClient.connect({ host, port, noiseSecret, cert: card, robot, signer: () => this.signer() })
  }

  signer(): Promise<Signer> {
    return loadSigner(keyPath(this.config, undefined, {}))
  }

  async stop(): Promise<void> {
    const gone = new Promise((resolve) => this.#runtime.once('close', resolve))
    this.#runtime.kill('SIGTERM')
    await gone
    this.trace.close()
  }
}

async function listening(runtime: ChildProcess): Promise<{ host: string; port: number }> {
  let said = ''
  runtime.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-2000)
  })
  const lines = createInterface({ input: runtime.stdout as NodeJS.ReadableStream })
  for await (const line of lines) {
    const message = JSON.parse(line) as { event: string; host: string; port: number; error?: { message: string } }
    if (message.event === 'listening') return message
    throw new Error(`the runtime did not start: ${message.error?.message ?? line}`)
  }
  throw new Error(`the runtime ended: ${said}`)
}

/** Runs the CLI to its end; throws what it says when it fails. */
export function cli(config: string, args: readonly string[]): Promise<Answer> {
  return run([CLI, ...args], { MEDULLA_CONFIG: config })
}

/** The CLI as a process that goes on. */
export function startCli(config: string, args: readonly string[]): ChildProcess {
  return start(process.execPath, [CLI, ...args], {
    env: { ...ENV, MEDULLA_CONFIG: config },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

async function run(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Answer> {
  const child = start(process.execPath, args, { env: { ...ENV, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  const answer = await ended(child)
  if (answer.status === 0) return answer
  throw new Error(`${args.slice(1).join(' ')} ended with ${answer.status}: ${answer.stderr || answer.stdout}`)
}
