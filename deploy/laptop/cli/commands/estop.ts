import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { Refusal } from '../../../shared/errors.ts'
import { timeScale } from '../../../shared/timescale.ts'
import { readRobots } from '../../config.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { EXIT, exitForCode } from '../exit.ts'
import { impliedRobot, withRobot } from '../robot.ts'
import { followSwap, type Result, showResult } from '../swap.ts'

/** A robot ends its programs in 3 s at the most, and then writes the receipt. */
const CONFIRM_MS = 8000
const AWAY: readonly string[] = ['unreachable', 'body-away']

interface Options {
  release?: true
  all?: true
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Emergency stop: every program is frozen, every output goes to its safe level, then every program is ended. No program runs until the emergency stop is released; the release itself starts none. If this laptop knows several robots and you chose none, the command asks which one; Enter stops all of them.',
    )
    .option('--release', 'end the emergency stop')
    .option('--all', 'all robots that this laptop knows, at the same time')
    .addHelpText('after', example('medulla estop', 'medulla estop --all', 'medulla estop --release', 'medulla start'))
    .action((options: Options, own: Command) => run(() => estop(app, options, own.optsWithGlobals<Globals>())))
}

async function estop(app: App, options: Options, globals: Globals): Promise<number> {
  const release = options.release === true
  const names = await targetNames(app, options, globals)
  const [only] = names
  if (names.length === 1) return show(app, await order(app, release, { ...globals, ...(only && { device: only }) }))
  const ends = await Promise.allSettled(names.map((device) => order(app, release, { ...globals, device })))
  const exits = ends.map((end, index) => {
    app.term.aim(names[index] ?? null)
    app.term.line(`${names[index]}:`)
    if (end.status === 'fulfilled') return show(app, end.value)
    app.term.failure(end.reason)
    return end.reason instanceof Refusal ? exitForCode(end.reason.code) : EXIT.internal
  })
  return exits.find((exit) => exit !== EXIT.ok) ?? EXIT.ok
}

/** After a release nothing runs, so the command that starts the programs is printed for scripts as well. */
function show(app: App, result: Result): number {
  const { hint, ...rest } = result
  if (result.outcome !== 'released' || hint === undefined) return showResult(app, result)
  const exit = showResult(app, rest)
  app.term.line(app.term.aimed(`start again with: ${hint}`))
  return exit
}

async function order(app: App, release: boolean, globals: Globals): Promise<Result> {
  if (release) return resultOf(await withRobot(app, globals, (client) => followSwap(app, client.release())))
  try {
    return await withRobot(app, globals, async (client) => {
      const stopped = followSwap(app, client.estop())
      // Its error, after the deadline, is that of the closed connection.
      stopped.catch(() => {})
      return resultOf(await Promise.race([stopped, deadline()]))
    })
  } catch (error) {
    if (!(error instanceof Refusal) || !AWAY.includes(error.code)) throw error
    const message = `${error.message}; the emergency stop is not confirmed, and the robot may still move`
    throw new Refusal(error.code, message, 'cut its power, or press its own stop button; then: medulla estop', {
      cause: error,
    })
  }
}

function resultOf(result: Result | undefined): Result {
  if (result === undefined) throw new Error('an emergency stop that is waited for has a result')
  return result
}

async function deadline(): Promise<never> {
  const ms = CONFIRM_MS * timeScale()
  await sleep(ms, undefined, { ref: false })
  throw new Refusal('unreachable', `the robot has not answered within ${ms / 1000} s`)
}

/** Names of robots; '' leaves the choice to findRobot(). */
async function targetNames(app: App, { all, release }: Options, { device }: Globals): Promise<string[]> {
  const known = readRobots(app.dir)
  const names = Object.keys(known.robots)
  if (all === true) {
    if (device !== undefined && device !== app.env.MEDULLA_DEVICE) {
      throw new Refusal('usage', 'expected -d or --all, got both', 'medulla estop --all')
    }
    return names.length === 0 ? [''] : names
  }
  if (device !== undefined) return [device]
  if (names.length < 2 || impliedRobot(known, app.env) !== null) return ['']
  if (!app.term.hasScreen || process.stdin.isTTY !== true) {
    const what = release === true ? '--release ' : ''
    const hint = `medulla estop ${what}--all, or medulla estop ${what}-d ${names[0]}`
    throw new Refusal('usage', `which robot? known: ${names.join(', ')}`, hint)
  }
  return ask(app, names, release === true)
}

async function ask({ term }: App, names: string[], release: boolean): Promise<string[]> {
  for (const [index, name] of names.entries()) term.note(`  ${index + 1}  ${name}`)
  const what = release ? 'release' : 'stop'
  const input = createInterface({ input: process.stdin, output: process.stderr })
  const answer = await new Promise<string>((resolve) => {
    input.once('close', () => resolve('nothing'))
    input.question(`${what} which robot? a number or a name; Enter: ${release ? 'none' : 'all of them'} `, resolve)
  })
  input.close()
  const word = answer.trim()
  if (word === '' && !release) return names
  const name = names.find((each, index) => each === word || String(index + 1) === word)
  if (name !== undefined) return [name]
  // after a mistyped answer the person still has to stop a robot: the hint is the command that stops all
  throw new Refusal(
    'usage',
    `no robot was ${release ? 'released' : 'stopped'}`,
    `medulla estop ${release ? '--release ' : ''}--all`,
  )
}
