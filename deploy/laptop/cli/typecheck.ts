/**
 * Checks the types of a program with the `tsc` of its own folder, beside the push: the push does not wait for the check, and
 * type errors are warnings. With `--types error` the push waits, and type errors refuse it.
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
/** Priority of tsc, for setpriority(2): robot and build go first. */
const NICE = 10

export function typesOption(text: string | undefined): Types {
  const found = TYPES.find((each) => each === (text ?? 'warn'))
  if (found !== undefined) return found
  throw new Refusal('usage', `--types: expected ${TYPES.join(', ')}, got ${JSON.stringify(text)}`)
}

export class TypeCheck {
  readonly #child: ChildProcess
  /** The type errors; null when the check was stopped, or tsc did not run. */
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

  /** Null if the program has no TypeScript installed, or no tsconfig.json in its folder. */
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
      // tsc has ended already
    }
    return new TypeCheck(child)
  }

  stop(): void {
    this.#child.kill()
  }

  /** Prints the type errors as notes. Stops a check that takes longer than `withinMs`. */
  async warn(app: App, withinMs = PATIENCE_MS * timeScale()): Promise<void> {
    const late = sleep(withinMs, null, { ref: false })
    const problems = await Promise.race([this.found, late])
    this.stop()
    if (problems === null || problems.length === 0) return
    const { term } = app
    term.event({ event: 'types', problems })
    for (const line of linesOf(problems)) term.note(`${term.paintNote('yellow', 'types:')} ${line}`)
  }

  /** Waits for the check. Throws `build-failed` when there are type errors. */
  async refuse(): Promise<void> {
    const problems = (await this.found) ?? []
    if (problems.length === 0) return
    throw new Refusal(
      'build-failed',
      `types: ${linesOf(problems).join('\n')}`,
      'medulla push --types warn pushes the program all the same',
    )
  }
}

function folderOf(path: string): string | null {
  const whole = resolve(path)
  const found = statSync(whole, { throwIfNoEntry: false })
  if (found === undefined) return null
  return found.isDirectory() ? whole : dirname(whole)
}

/** Parses `program.ts(3,5): error TS2322: …`. Indented lines continue the line before, and are left out. */
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
