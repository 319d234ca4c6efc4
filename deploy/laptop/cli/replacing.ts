/** Follows a robot while its runtime is replaced: the session ends, and the robot says over a new one how it went. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { RuntimeEvent, RuntimeReport } from '../../shared/api.ts'
import { Refusal } from '../../shared/errors.ts'
import { timeScale } from '../../shared/timescale.ts'
import type { App, Globals } from './app.ts'
import { EXIT } from './exit.ts'
import { isLost } from './link.ts'
import { printable, shortDigest } from './loglines.ts'
import { connectTo, type Target } from './robot.ts'
import { showResult } from './swap.ts'

/** More than the robot gives a new runtime to become healthy, and needs to go back. Before MEDULLA_TIME_SCALE. */
const PATIENCE_MS = 240_000
const RETRY_MS = 250
const CONNECT_MS = 3000

type Replacing = Extract<RuntimeEvent, { event: 'replacing' }>

/** Follows the events of a push or rollback, then the robot, and prints the result. Returns the exit code. */
export async function followReplacement(
  app: App,
  globals: Globals,
  robot: Target,
  events: AsyncIterable<RuntimeEvent>,
): Promise<number> {
  const { term } = app
  let replacing: Replacing | null = null
  try {
    for await (const event of events) {
      term.event(event)
      if (event.event === 'result') return showResult(app, event)
      if (event.event === 'replacing') replacing = event
      else term.progress(`${event.phase} …`)
    }
  } catch (error) {
    // The robot ends the session with its runtime.
    if (replacing === null || !isLost(error)) throw error
  }
  if (replacing === null) throw new Refusal('unreachable', 'the connection ended before the result', 'medulla runtime')
  const what = `medulla ${replacing.version}`
  term.progress(`${robot.name} starts ${what}`)
  const report = await outcome(app, globals, robot, replacing)
  const failed = report.failed.find(({ digest }) => digest === replacing.to)
  const isRunning = report.digest === replacing.to
  const done = isRunning && report.confirmed
  const { from, to, version } = replacing
  const name = done ? 'committed' : isRunning ? 'unproven' : 'rolled-back'
  term.event({ event: 'result', outcome: name, from, to, version, runs: report.version })
  if (done) {
    term.line(`${term.paint('green', `${what} runs`)} on ${robot.name}`)
    return EXIT.ok
  }
  const message = isRunning
    ? `${robot.name} runs ${what}, which has not been healthy for long enough`
    : `${what} was undone: ${printable(failed?.reason ?? 'the robot does not say why')}; ${robot.name} runs medulla ${report.version}`
  term.failure(new Refusal('died-at-start', message, 'medulla runtime'), true)
  return EXIT.undone
}

/** The first report that says how it went; the last one, when none does in time. */
async function outcome(app: App, globals: Globals, robot: Target, { from, to }: Replacing): Promise<RuntimeReport> {
  const until = performance.now() + PATIENCE_MS * timeScale()
  let last: RuntimeReport | undefined
  let hasLeft = false
  while (performance.now() < until) {
    const report = await ask(app, globals, robot)
    if (report === null) hasLeft = true
    else {
      last = report
      const isUndone = report.failed.some(({ digest }) => digest === to) && report.digest !== to
      if (isUndone || (report.digest === to && report.confirmed)) return report
      // The robot was away, and came back with what it had: by somebody's order, or by a new installation.
      if (hasLeft && report.digest !== to && report.digest !== from) return report
    }
    await sleep(RETRY_MS)
  }
  if (last !== undefined) return last
  throw new Refusal('unreachable', `${robot.name} does not answer since its runtime was replaced`, 'medulla robots')
}

/** Null while the robot does not answer. */
async function ask(app: App, globals: Globals, robot: Target): Promise<RuntimeReport | null> {
  try {
    const client = await connectTo(app, robot, globals.key, CONNECT_MS)
    try {
      return (await client.status()).runtime ?? null
    } finally {
      client.close()
    }
  } catch (error) {
    if (error instanceof Refusal) return null
    throw error
  }
}

/** `0.2.0 (3f2a91bc)`; the base install has no digest. */
export function runtimeName({ version, digest }: { version: string; digest: string | null }): string {
  return digest === null ? `${version}, as installed` : `${version} (${shortDigest(digest)})`
}
