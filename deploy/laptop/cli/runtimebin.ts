/** Runs the robot side as a child process: the import rule forbids deploy/ to import runtime/. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { REFUSAL_CODES, Refusal, type RefusalCode } from '../../shared/errors.ts'
import { RUNTIME } from './paths.ts'

export function spawnRuntime(args: readonly string[], options: SpawnOptions = {}): ChildProcess {
  return spawn(process.execPath, [RUNTIME, ...args], options)
}

/** Runs a subcommand of the runtime and returns the JSON that it prints. Throws the runtime's refusals. */
export async function askRuntime(args: readonly string[]): Promise<unknown> {
  const child = spawnRuntime(args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-4000)
  })
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  const answer = parse(stdout)
  const refused = refusalIn(answer)
  if (refused !== undefined) throw refused
  if (status !== 0 || answer === undefined) {
    throw new Refusal('internal', `the runtime ended with ${status}: ${stderr.trim().split('\n').at(-1) ?? ''}`)
  }
  return answer
}

export interface Listening {
  event: 'listening'
  name: string
  id: string
  host: string
  port: number
  home: string
}

/** Waits until the runtime prints its `listening` line. Throws the runtime's refusal, or `internal` if it ends without one. */
export async function untilListening(child: ChildProcess): Promise<Listening> {
  const { stdout } = child
  if (stdout === null) throw new Error("the runtime's stdout must be a pipe")
  const lines = createInterface({ input: stdout })
  const ended = new Promise<never>((_, reject) => {
    child.once('error', reject)
    child.once('close', (status, signal) =>
      reject(new Refusal('internal', `the runtime ended with ${signal ?? status} before it listened`)),
    )
  })
  const listening = (async (): Promise<Listening> => {
    for await (const line of lines) {
      const value = parse(line)
      const refused = refusalIn(value)
      if (refused !== undefined) throw refused
      if ((value as { event?: unknown } | undefined)?.event === 'listening') return value as Listening
    }
    return ended
  })()
  try {
    return await Promise.race([listening, ended])
  } finally {
    ended.catch(() => {})
    lines.close()
    stdout.resume() // closing the line reader paused stdout: a full pipe would block the runtime
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** The refusal in a line of the runtime; undefined for any other line. */
export function refusalIn(value: unknown): Refusal | undefined {
  const error = (value as { error?: { code?: unknown; message?: unknown; hint?: unknown } } | undefined)?.error
  if (typeof error?.message !== 'string') return undefined
  const code = (REFUSAL_CODES as readonly unknown[]).includes(error.code) ? (error.code as RefusalCode) : 'internal'
  return new Refusal(code, error.message, typeof error.hint === 'string' ? error.hint : undefined)
}
