/** Starts children/host.ts as a real process with handles in its descriptor table, and talks to it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { HardwareError, type HardwareErrorKind } from '../../drivers/errors.ts'
import type { Grant } from '../../drivers/program/handle.ts'

export function openFds(): number {
  return readdirSync('/dev/fd').length
}

export function temporary(): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'medulla-drivers-'))
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) }
}

export async function bundle(entry: string, folder: string, name = 'host.mjs'): Promise<string> {
  const outfile = join(folder, name)
  const entryPoints = [new URL(entry, import.meta.url).pathname]
  await build({
    entryPoints,
    outfile,
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'esm',
    logLevel: 'error',
  })
  return outfile
}

/** Where `startHost` puts the broker's socket in the child's table; inherited descriptors follow. */
const BROKER_FD = 3
/** Long, so that no test fails because this process was not scheduled in time. */
const ANSWERED_MS = 30_000

export interface Host {
  readonly child: ChildProcess
  readonly broker: Duplex
  send(command: Record<string, unknown>): Promise<unknown>
  call(handle: string, method: string, ...args: unknown[]): Promise<unknown>
  end(signal?: NodeJS.Signals): Promise<void>
}

/** `grants` and `fds` go together: a grant of via inherit has its place in the child's table already. */
export async function startHost(
  program: string,
  grants: readonly Grant[],
  fds: readonly number[],
  options: { deadlineMs?: number } = {},
): Promise<Host> {
  // so that a bundle in a temporary folder finds koffi, which the runtime's loader finds beside its own file
  const env = { NODE_PATH: fileURLToPath(new URL('../../node_modules', import.meta.url)) }
  const child = spawn(process.execPath, [program], { stdio: ['pipe', 'pipe', 'inherit', 'pipe', ...fds], env })
  const waiting: ((line: string) => void)[] = []
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })
  lines.on('line', (line) => waiting.shift()?.(line))
  const exited = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const broker = child.stdio[BROKER_FD] as unknown as Duplex
  broker.on('error', () => {})
  const send = async (command: Record<string, unknown>): Promise<unknown> => {
    const answered = new Promise<string>((resolve) => waiting.push(resolve))
    child.stdin?.write(`${JSON.stringify(command)}\n`)
    const answer = JSON.parse(await answered) as { ok?: unknown; kind?: string; message?: string }
    if (answer.kind === undefined) return answer.ok
    if (answer.kind === 'not-hardware') throw new Error(answer.message)
    throw new HardwareError(answer.kind as HardwareErrorKind, answer.message ?? '')
  }
  await send({ op: 'adopt', grants, brokerFd: BROKER_FD, deadlineMs: options.deadlineMs ?? ANSWERED_MS })
  return {
    child,
    broker,
    send,
    call: (handle, method, ...args) => send({ op: 'call', handle, method, args }),
    async end(signal = 'SIGKILL') {
      child.kill(signal)
      await exited
      broker.destroy()
    },
  }
}

export async function failure(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
  } catch (error) {
    return error instanceof HardwareError ? error.kind : `not a HardwareError: ${String(error)}`
  }
  return 'none'
}
