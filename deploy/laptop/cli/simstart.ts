/**
 * Helpers of `medulla sim`: a key for the first use, a free port, the robot's log as plain text, suggestions for next
 * commands.
 */
import type { ChildProcess } from 'node:child_process'
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { DEFAULT_SLOT, type SlotStatus } from '../../shared/api.ts'
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
    const [board, { estop, runtime, slots }] = await Promise.all([client.board(), client.status()]).finally(() =>
      client.close(),
    )
    if (estop !== null) {
      const { since, reason } = estop
      term.line(`No program runs: an emergency stop is latched since ${since}, by ${printable(reason)}.`)
      return ['medulla estop --release', 'medulla start'].map((command) => term.aimed(command))
    }
    if (runtime?.minimal !== undefined) {
      term.line(`No program runs, because ${printable(runtime.minimal.why)}`)
      return [printable(runtime.minimal.hint), 'medulla status'].map((command) => term.aimed(command))
    }
    const found = slots.flatMap((slot) => standingOf(slot).map((stands) => ({ slot: slot.slot, ...stands })))
    for (const { slot, text } of found) term.line(term.aimed(text, slot))
    const commands = found.flatMap(({ slot, next }) => next.map((command) => term.aimed(command, slot)))
    if (found.length > 0) return [...new Set([...commands, term.aimed('medulla status')])]
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

/** What a slot does with its program, and the next commands; empty for a slot that has no program. */
function standingOf({ slot, state, program, version, pid, waits, stopped, lastError, hint }: SlotStatus): {
  text: string
  next: string[]
}[] {
  const where = slot === DEFAULT_SLOT ? '' : ` in slot ${slot}`
  const name = program === undefined ? 'Its program' : `${program} ${version}`
  if (waits !== undefined) return [{ text: `${name} does not run${where}. It waits: ${printable(waits)}`, next: [] }]
  if (stopped) return [{ text: `Its program${where} does not run: it was stopped.`, next: ['medulla start'] }]
  if (pid !== undefined)
    return [{ text: `It runs ${name} again${where}.`, next: ['medulla status', 'medulla logs -f'] }]
  if (state === 'idle') return []
  const text = lastError === undefined ? 'is being started.' : `failed, and is started again: ${printable(lastError)}`
  return [{ text: `Its program${where} ${text}`, next: [hint ?? 'medulla logs'] }]
}
