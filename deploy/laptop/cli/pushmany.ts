/**
 * One bundle for several robots: its signature covers the list of robots, and it is sealed to each of them. The robots get it one
 * after the other, and the first that does not run it ends the push: the others keep their programs.
 */
import type { CounterRange } from '../../shared/api.ts'
import { Refusal } from '../../shared/errors.ts'
import type { RobotClient } from '../client.ts'
import type { App, Globals } from './app.ts'
import { readBuilds } from './builds.ts'
import { EXIT, exitForCode } from './exit.ts'
import { interruptible } from './interrupt.ts'
import { type Bundle, buildBundle, isBundle, readBundle } from './program.ts'
import { checkSlot, type PushOptions } from './pushing.ts'
import { connectTo, findRobot, type Target } from './robot.ts'
import { followSwap, pastRestart, showResult } from './swap.ts'
import { TypeCheck, typesOption } from './typecheck.ts'

interface Open {
  robot: Target
  client: RobotClient
}

export async function pushMany(
  app: App,
  path: string,
  names: readonly string[],
  options: PushOptions,
  { key }: Globals,
): Promise<number> {
  const slot = checkSlot(options.slot)
  const ready = await isBundle(path)
  const types = typesOption(options.types)
  if (options.detach === true) {
    throw new Refusal('usage', '--detach is for one robot: the result of each decides about the next', 'leave it away')
  }
  if (ready && options.stateOf !== undefined) {
    throw new Refusal('usage', '--state-of needs the source of the program', 'push the folder of the program')
  }
  const builds = await readBuilds(options.builds)
  const robots = await Promise.all([...new Set(names)].map((name) => findRobot(app.dir, name)))
  const checking = ready || types === 'off' ? null : TypeCheck.start(path)
  if (types === 'error') await checking?.refuse()
  const open: Open[] = []
  const work = async (signal: AbortSignal): Promise<number> => {
    try {
      // all of them before anything is signed: the list of robots cannot be changed later
      for (const robot of robots) open.push({ robot, client: await connectTo(app, robot, key) })
      const range = async (program: string) =>
        common(await Promise.all(open.map(({ client }) => client.counter(program))))
      const { stateOf } = options
      const bundle = await (ready ? readBundle(path) : buildBundle(app, path, robots, { key, range, stateOf }))
      if (bundle.built !== undefined) app.term.event({ event: 'built', ...bundle.built, bytes: bundle.bytes.length })
      for (const { client } of open) for (const build of builds) await client.addBuild(build)
      return await inTurn(app, slot, bundle, open, options, signal)
    } finally {
      for (const { client } of open) client.close()
    }
  }
  try {
    const exit = await interruptible(work, () => ({
      message: 'interrupted: a robot that has the bundle finishes or undoes its swap by itself',
      hint: 'medulla robots',
    }))
    await checking?.warn(app)
    return exit
  } finally {
    checking?.stop()
  }
}

/** The counters that every robot takes. Throws `ahead-of-clock` when there are none (BUNDLE 8.9). */
export function common(ranges: readonly CounterRange[]): CounterRange {
  const [least, most] = [Math.max(...ranges.map((each) => each.least)), Math.min(...ranges.map((each) => each.most))]
  const now = Math.min(...ranges.map((each) => each.now))
  if (least <= most) return { least, most, now, synchronised: ranges.every((each) => each.synchronised) }
  throw new Refusal(
    'ahead-of-clock',
    'no counter is new for one of these robots and not too far ahead for another one: their clocks differ',
    'push to each of them alone, or set their clocks: sudo timedatectl set-ntp true',
  )
}

async function inTurn(
  app: App,
  slot: string,
  { bytes, built }: Bundle,
  open: readonly Open[],
  { force, retry }: PushOptions,
  signal: AbortSignal,
): Promise<number> {
  const { term } = app
  const names = open.map(({ robot }) => robot.name)
  for (const [at, { robot, client }] of open.entries()) {
    term.aim(robot.name)
    term.event({ event: 'robot', robot: robot.name, slot })
    term.line(`${robot.name}:`)
    term.progress(`uploading ${bytes.length} bytes to ${robot.name}/${slot}`)
    const upload = { force: force === true, retry: retry === true, ...(built && { digest: built.digest }), signal }
    const exit = await pastRestart(app, slot, () => followSwap(app, client.push(slot, bytes, upload))).then(
      (result) => (result === undefined ? EXIT.internal : showResult(app, result)),
      (error: unknown) => {
        if (!(error instanceof Refusal) || error.code === 'interrupted') throw error
        term.failure(error)
        return exitForCode(error.code)
      },
    )
    if (exit === EXIT.ok) continue
    const left = names.slice(at + 1)
    if (left.length > 0) term.note(`not pushed to ${left.join(', ')}, which keep their programs`)
    return exit
  }
  return EXIT.ok
}
