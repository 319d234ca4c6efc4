/** Runs the built CLI in separate processes, with a separate config folder. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const CLI = fileURLToPath(new URL('../../../../dist/deploy/laptop/cli/main.js', import.meta.url))

const { PATH, MEDULLA_TIME_SCALE } = process.env
/** MEDULLA_TIME_SCALE also applies to the robots of these tests. Tests send nothing to the network of this computer. */
const SCALED = { MEDULLA_DISCOVERY: 'off', ...(MEDULLA_TIME_SCALE === undefined ? {} : { MEDULLA_TIME_SCALE }) }

/** Long enough for a good program on a busy machine. */
export const PATIENT = { readyMs: 30_000, yieldMs: 3000, takeoverMs: 3000, heartbeatMs: 3000 }

export interface Ended {
  status: number | null
  stdout: string
  stderr: string
}

export type Running = ReturnType<Laptop['start']>

export class Laptop {
  readonly dir = mkdtempSync(join(tmpdir(), 'medulla-laptop-'))
  readonly #children = new Set<ChildProcess>()

  constructor() {
    if (!existsSync(CLI)) throw new Error('dist is absent: npm run build, or npm test, which does it')
  }

  /** `input`: what the command reads on stdin, which is a pipe then. */
  start(
    args: readonly string[],
    env: Record<string, string> = {},
    input?: string,
  ): ChildProcess & { ended: Promise<Ended> } {
    const child = spawn(process.execPath, [CLI, ...args], {
      cwd: this.dir,
      env: { PATH, HOME: this.dir, MEDULLA_CONFIG: join(this.dir, 'config'), ...SCALED, ...env },
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    })
    child.stdin?.on('error', () => {}) // the command may end without reading
    child.stdin?.end(input)
    this.#children.add(child)
    let [stdout, stderr] = ['', '']
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    const ended = new Promise<Ended>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (status) => {
        this.#children.delete(child)
        resolve({ status, stdout, stderr })
      })
    })
    return Object.assign(child, { ended })
  }

  /** Runs a shell command in a pseudo-terminal (script of util-linux). */
  inTerminal(shell: string): { text(): string; type(keys: string): void; ended: Promise<unknown> } {
    const child = spawn('script', ['-qfec', shell, '/dev/null'], {
      cwd: this.dir,
      env: {
        PATH: process.env.PATH,
        HOME: this.dir,
        MEDULLA_CONFIG: join(this.dir, 'config'),
        TERM: 'xterm',
        ...SCALED,
      },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#children.add(child)
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (more: string) => {
      text += more
    })
    const ended = once(child, 'close').then(() => this.#children.delete(child))
    return { text: () => text, type: (keys) => child.stdin.write(keys), ended }
  }

  run(...args: string[]): Promise<Ended> {
    return this.start(args).ended
  }

  /** Starts a simulated robot with this board, as the laptop's only robot, and makes the laptop's key. */
  async sim({
    timing,
    ...board
  }: {
    timing?: object
    [key: string]: unknown
  }): Promise<{ host: string; port: number }> {
    const file = join(this.dir, 'board.json')
    writeFileSync(file, JSON.stringify({ ...board, timing: { ...PATIENT, ...timing } }))
    await this.run('keygen')
    const sim = this.start(['sim', '--port', '0', '--board', file, '--json'])
    const line = await new Promise<string>((resolve, reject) => {
      sim.stdout?.once('data', resolve)
      sim.ended.then(({ stderr }) => reject(new Error(stderr)), reject)
    })
    const { event, host, port } = JSON.parse(line)
    if (event !== 'listening') throw new Error(line)
    return { host, port }
  }

  /** The events that a command prints with --json. */
  async json(...args: string[]): Promise<{ status: number | null; events: Record<string, unknown>[]; stderr: string }> {
    const { status, stdout, stderr } = await this.run('--json', ...args)
    const lines = stdout.split('\n').filter((line) => line !== '')
    return { status, stderr, events: lines.map((line) => JSON.parse(line) as Record<string, unknown>) }
  }

  /** Ends all started processes and robots. */
  async close(): Promise<void> {
    await Promise.all(
      [...this.#children].map(async (child) => {
        child.kill('SIGTERM')
        await new Promise((resolve) => child.once('close', resolve))
      }),
    )
    rmSync(this.dir, { recursive: true, force: true })
  }
}
