/**
 * Invariant: a push never waits for types: `tsc` of the program's own folder runs beside it, and what it finds is a warning,
 * unless errors are asked for.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { setPriority } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Refusal } from '../../shared/errors.ts'
import { timeScale } from '../../shared/timescale.ts'
import type { App } from './app.ts'

export const TYPES = ['warn', 'off', 'error'] as const
export type Types = (typeof TYPES)[number]

interface Problem {
  file: string
  line: number
  column: number
  code: string
  message: string
}

const SHOWN = 5
/** How long a push that has ended waits for the check. */
const PATIENCE_MS = 3000
/** setpriority(2): the robot and the build go first. */
const NICE = 10

export function typesOption(text: string | undefined): Types {
  const found = TYPES.find((each) => each === (text ?? 'warn'))
  if (found !== undefined) return found
  throw new Refusal('usage', `--types: expected ${TYPES.join(', ')}, got ${JSON.stringify(text)}`)
}

export class TypeCheck {
  readonly #child: ChildProcess
  /** What is wrong; null when it was stopped, or tsc itself failed. */
  readonly found: Promise<Problem[] | null>

  private constructor(child: ChildProcess) {
    this.#child = child
    let text = ''
    child.stdout?.setEncoding('utf8').on('data', (more: string) => {
      text += more
    })
    this.found = new Promise((resolve) => {
      child.once('error', () => resolve(null))
      child.once('close', (status) => resolve(status === null ? null : problemsIn(text)))
    })
  }

  /** null where there is no TypeScript for the program, or no tsconfig.json in its folder. */
  static start(path: string): TypeCheck | null {
    const folder = folderOf(path)
    if (folder === null || !existsSync(join(folder, 'tsconfig.json'))) return null
    let tsc: string
    try {
      const require = createRequire(join(folder, 'program.js'))
      tsc = join(dirname(require.resolve('typescript/package.json')), 'bin/tsc')
    } catch {
      return null
    }
    const args = [tsc, '--noEmit', '--pretty', 'false', '-p', folder]
    const child = spawn(process.execPath, args, { cwd: folder, stdio: ['ignore', 'pipe', 'ignore'] })
    try {
      if (child.pid !== undefined) setPriority(child.pid, NICE)
    } catch {
      // it has ended already
    }
    return new TypeCheck(child)
  }

  stop(): void {
    this.#child.kill()
  }

  /** Shows what was found; what takes too long is left. */
  async warn(app: App, withinMs = PATIENCE_MS * timeScale()): Promise<void> {
    const late = sleep(withinMs, null, { ref: false })
    const problems = await Promise.race([this.found, late])
    this.stop()
    if (problems === null || problems.length === 0) return
    const { term } = app
    term.event({ event: 'types', problems })
    for (const line of linesOf(problems)) term.note(`${term.paintNote('yellow', 'types:')} ${line}`)
  }

  /** Throws `build-failed` when there is anything. */
  async refuse(): Promise<void> {
    const problems = (await this.found) ?? []
    if (problems.length === 0) return
    throw new Refusal(
      'build-failed',
      `types: ${linesOf(problems).join('\n')}`,
      'medulla push --types warn pushes it as it is',
    )
  }
}

function folderOf(path: string): string | null {
  const whole = resolve(path)
  const found = statSync(whole, { throwIfNoEntry: false })
  if (found === undefined) return null
  return found.isDirectory() ? whole : dirname(whole)
}

/** `program.ts(3,5): error TS2322: …`; indented lines go on with the one before. */
function problemsIn(text: string): Problem[] {
  return [...text.matchAll(/^(\S.*?)\((\d+),(\d+)\): error (TS\d+): (.*)$/gm)].map(
    ([, file = '', line, column, code = '', message = '']) => ({
      file,
      line: Number(line),
      column: Number(column),
      code,
      message,
    }),
  )
}

function linesOf(problems: readonly Problem[]): string[] {
  const lines = problems
    .slice(0, SHOWN)
    .map(({ file, line, column, code, message }) => `${file}:${line}:${column}: ${message} (${code})`)
  const more = problems.length - SHOWN
  return more > 0 ? [...lines, `${more} more: npx tsc`] : lines
}
