/** Starts the runtime as systemd does: again 100 ms after each end, until the test ends. And variants of the built package. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { RobotClient } from '../../deploy/laptop/client.ts'
import type { RuntimeReport } from '../../deploy/shared/api.ts'
import { eventually } from './eventually.ts'
import { RUNTIME } from './programs.ts'
import type { TestRobot } from './robot.ts'

const PACKAGE = fileURLToPath(new URL('../..', import.meta.url))
/** The version of the built package. */
export const VERSION = (JSON.parse(readFileSync(join(PACKAGE, 'package.json'), 'utf8')) as { version: string }).version

/** What a test changes in a package: before `code` runs, the first line of a file. */
export interface Change {
  version?: string
  /** Code at the start of a file of dist/runtime. */
  first?: { file: string; code: string }
  packageJson?: (about: Record<string, unknown>) => void
}

/** A folder like an installed package, with another version and changes. */
export function variant(folder: string, { version = VERSION, first, packageJson }: Change): string {
  const { files } = JSON.parse(readFileSync(join(PACKAGE, 'dist/runtime/files.json'), 'utf8')) as { files: string[] }
  mkdirSync(folder, { recursive: true })
  for (const name of [...files, 'dist/runtime/files.json', 'package.json']) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    cpSync(join(PACKAGE, name), join(folder, name))
    if (!name.endsWith('.js')) continue
    const text = readFileSync(join(folder, name), 'utf8')
    const constant = `SDK_VERSION = "${VERSION}"`
    if (text.includes(constant)) {
      writeFileSync(join(folder, name), text.replace(constant, `SDK_VERSION = "${version}"`))
    }
  }
  const about = { ...JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')), version }
  packageJson?.(about)
  writeFileSync(join(folder, 'package.json'), JSON.stringify(about))
  if (first !== undefined) {
    const file = join(folder, 'dist/runtime', first.file)
    const text = readFileSync(file, 'utf8').replace(/^#!.*\n/, '')
    writeFileSync(file, `${first.code}\n${text}`)
  }
  return folder
}

/** A free port below the range from which the kernel takes ports for connections. */
async function lastingPort(): Promise<number> {
  for (let port = 20_000 + (process.pid % 10_000); ; port++) {
    const server = createServer().listen(port, '127.0.0.1')
    const isFree = await Promise.race([
      once(server, 'listening').then(() => true),
      once(server, 'error').then(() => false),
    ])
    server.close()
    if (isFree) return port
  }
}

export class Service {
  readonly #robot: TestRobot
  readonly #env: NodeJS.ProcessEnv
  #child: ChildProcess | null = null
  #ends = false
  /** Starts by the service manager, without replacements in place. */
  starts = 0
  stderr = ''

  private constructor(robot: TestRobot, env: Record<string, string>) {
    this.#robot = robot
    this.#env = { ...process.env, INVOCATION_ID: 'a test', ...env }
    this.#start()
  }

  /** The robot must have been started once, and have ended. It gets another port, which nobody else takes between two starts. */
  static async start(robot: TestRobot, env: Record<string, string> = {}): Promise<Service> {
    robot.port = await lastingPort()
    return new Service(robot, env)
  }

  get pid(): number {
    return this.#child?.pid ?? -1
  }

  #start(args: string[] = []): void {
    const { home, port } = this.#robot
    this.starts++
    const child = spawn(process.execPath, [RUNTIME, '--home', home, '--port', String(port), '--sim', ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: this.#env,
    })
    this.#child = child
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr = (this.stderr + text).slice(-50_000)
    })
    child.once('exit', async () => {
      await sleep(100)
      if (!this.#ends) this.#start()
    })
  }

  kill(signal: NodeJS.Signals): void {
    this.#child?.kill(signal)
  }

  async end(): Promise<void> {
    this.#ends = true
    const child = this.#child
    if (child === null || child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    child.kill('SIGTERM')
    await gone
  }

  /** Asks over a new session, and waits until the robot answers. */
  ask<T>(question: (client: RobotClient) => Promise<T | false | null | undefined>): Promise<T> {
    return eventually(async () => {
      const client = await this.#robot.connect().catch(() => null)
      if (client === null) return false
      try {
        return await question(client).catch(() => false as const)
      } finally {
        client.close()
      }
    })
  }

  /** Waits for a report of this kind. */
  runtime(wanted: (report: RuntimeReport) => boolean = () => true): Promise<RuntimeReport> {
    return this.ask(async (client) => {
      const { runtime } = await client.status()
      return runtime !== undefined && wanted(runtime) && runtime
    })
  }
}

export const stateOf = (home: string): string => {
  const file = join(home, 'runtimes/state.json')
  return existsSync(file) ? readFileSync(file, 'utf8') : ''
}
