/**
 * Helpers of `medulla sim`: a key for the first use, a free port, the robot's log as plain text, suggestions for next
 * commands.
 */
import type { ChildProcess } from 'node:child_process'
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { Refusal } from '../../shared/errors.ts'
import { keyPath } from '../config.ts'
import type { App } from './app.ts'
import { printable } from './loglines.ts'
import { makeKey } from './makekey.ts'
import { connectTo, findRobot } from './robot.ts'
import { templateFor } from './templates.ts'
import type { Term } from './term.ts'

const PATIENCE_MS = 3000
/** Prefixes for pino's level numbers. */
const LEVELS: Readonly<Record<number, string>> = { 40: 'warning: ', 50: 'error: ', 60: 'error: ' }

/** Makes a key if there is none: `medulla sim` is the first command that people type. */
export async function ensureKey(app: App, flag: string | undefined): Promise<void> {
  try {
    keyPath(app.dir, flag, app.env)
  } catch (error) {
    if (!(error instanceof Refusal) || error.code !== 'no-key') throw error
    const { path } = await makeKey(app.dir, 'medulla')
    app.term.note(`you had no key to sign programs with: made ${path}`)
  }
}

export function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}

/** Prints the JSON log of the robot side as plain text. */
export function sentences(term: Term, { stderr }: ChildProcess): void {
  if (stderr === null) return
  createInterface({ input: stderr }).on('line', (line) => term.note(sentence(line)))
}

function sentence(line: string): string {
  try {
    const { level, name, operator, msg } = JSON.parse(line) as Record<
      'name' | 'operator' | 'msg',
      string | undefined
    > & {
      level?: number
    }
    if (name === 'endpoint' && msg === 'session') return `network: ${operator} has connected`
    if (typeof msg === 'string') return `${LEVELS[level ?? 30] ?? ''}${name === 'endpoint' ? 'network: ' : ''}${msg}`
  } catch {
    // not a line of the log: shown unchanged
  }
  return line
}

/** Commands that work with this robot as it is: with its board, and with the program that it runs. */
export async function suggestions(app: App, name: string): Promise<string[]> {
  const { term } = app
  try {
    const client = await connectTo(app, await findRobot(app.dir, name), undefined, PATIENCE_MS)
    const [board, { estop, slots }] = await Promise.all([client.board(), client.status()]).finally(() => client.close())
    if (estop !== null) {
      const { since, reason } = estop
      term.line(`No program runs: an emergency stop is latched since ${since}, by ${printable(reason)}.`)
      return ['medulla estop --release', 'medulla start'].map((command) => term.aimed(command))
    }
    const running = slots.find(({ program }) => program !== undefined)
    if (running !== undefined) {
      term.line(`It runs ${running.program} ${running.version} again.`)
      return ['medulla status', 'medulla logs -f'].map((command) => term.aimed(command))
    }
    const template = templateFor(board.handles)
    if (template === null) return ['medulla pinout', 'medulla new NAME, then let its program ask for these handles'].map((command) => term.aimed(command)) // biome-ignore format: one list
    const program = template === 'blink' ? 'blinky' : `my-${template}`
    const from = template === 'blink' ? '' : ` --from ${template}`
    return [`medulla new ${program}${from}`, term.aimed(`medulla run ${program}`)]
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    return [term.aimed('medulla status')]
  }
}
