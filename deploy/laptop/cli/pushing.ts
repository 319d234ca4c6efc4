/** One push from start to end; used by `push` and `run`. */

import { DEFAULT_SLOT, PHASES, type Phase } from '../../shared/api.ts'
import { Refusal } from '../../shared/errors.ts'
import { NAME_PATTERN } from '../../shared/names.ts'
import type { RobotClient } from '../client.ts'
import type { App, Globals } from './app.ts'
import { readBuilds } from './builds.ts'
import { interruptible } from './interrupt.ts'
import { type Bundle, buildBundle, isBundle, readBundle } from './program.ts'
import { connectTo, findRobot, type Target } from './robot.ts'
import { followSwap, pastRestart, type Result } from './swap.ts'
import { TypeCheck, typesOption } from './typecheck.ts'

export interface PushOptions {
  slot?: string
  force?: true
  retry?: true
  stateOf?: string
  detach?: true
  /** Files with the statements of builders. */
  builds?: string[]
  types?: string
}

export interface Pushed {
  client: RobotClient
  robot: Target
  slot: string
  bundle: Bundle
  /** undefined: --detach returned before there was a result */
  result: Result | undefined
  /** The slot ran another release with the same name and version. */
  sameVersion: boolean
  /** The type check that runs beside the push, if there is one. */
  checking: TypeCheck | null
}

/** From this phase on the robot no longer refuses the push, so --detach may return. */
const DECIDED = PHASES.indexOf('spawn')

export function checkSlot(slot: string | undefined): string {
  if (slot === undefined) return DEFAULT_SLOT
  // `all` means every slot in `medulla logs --slot all`
  if (NAME_PATTERN.test(slot) && slot !== 'all') return slot
  throw new Refusal('usage', `expected the name of a slot, like main or left-arm, got ${JSON.stringify(slot)}`)
}

/** The caller closes the client. */
export async function pushPath(app: App, path: string, options: PushOptions, globals: Globals): Promise<Pushed> {
  const slot = checkSlot(options.slot)
  const ready = await isBundle(path)
  const types = typesOption(options.types)
  const { stateOf } = options
  if (ready && stateOf !== undefined) {
    throw new Refusal(
      'usage',
      '--state-of needs the source of the program: a bundle file cannot be changed',
      'push the folder of the program',
    )
  }
  const builds = await readBuilds(options.builds)
  const robot = await findRobot(app.dir, globals.device)
  const checking = ready || types === 'off' ? null : TypeCheck.start(path)
  if (types === 'error') await checking?.refuse()
  let phase: Phase | 'before' = 'before'
  const work = async (signal: AbortSignal): Promise<Pushed> => {
    // the handshake runs while the program is built
    const connecting = connectTo(app, robot, globals.key)
    connecting.catch(() => {})
    const running = connecting.then((open) => open.status()).catch(() => undefined)
    let client: RobotClient | undefined
    try {
      const range = async (program: string) => (await connecting).counter(program)
      const bundle = await (ready
        ? readBundle(path)
        : buildBundle(app, path, [robot], { key: globals.key, range, stateOf }))
      if (bundle.built !== undefined) app.term.event({ event: 'built', ...bundle.built, bytes: bundle.bytes.length })
      const opened = await connecting
      client = opened
      for (const build of builds) await opened.addBuild(build)
      const before = (await running)?.slots.find((each) => each.slot === slot)
      const sameVersion =
        bundle.built !== undefined &&
        before?.program === bundle.built.program &&
        before.version === bundle.built.version &&
        before.digest !== bundle.built.digest
      app.term.progress(`uploading ${bundle.bytes.length} bytes to ${robot.name}/${slot}`)
      phase = 'receive'
      const upload = {
        force: options.force === true,
        retry: options.retry === true,
        ...(bundle.built === undefined ? {} : { digest: bundle.built.digest }),
        signal,
      }
      const result = await pastRestart(app, slot, () =>
        followSwap(
          app,
          opened.push(slot, bundle.bytes, upload),
          (seen) => {
            phase = seen
          },
          (seen) => options.detach === true && PHASES.indexOf(seen) >= DECIDED,
        ),
      )
      return { client, robot, slot, bundle, result, sameVersion, checking }
    } catch (error) {
      checking?.stop()
      connecting.then(
        (open) => open.close(),
        () => {},
      )
      throw error
    }
  }
  return interruptible(work, () => whatTheRobotDoes(phase, robot.name))
}

export function whatTheRobotDoes(phase: Phase | 'before', robot: string): { message: string; hint?: string } {
  if (phase === 'before') return { message: `interrupted: nothing was sent to ${robot}` }
  if (phase === 'receive') {
    return { message: `interrupted: ${robot} drops the incomplete upload, and its program keeps running` }
  }
  return {
    message: `interrupted during ${phase}: ${robot} finishes or undoes the swap by itself`,
    hint: `medulla status -d ${robot}`,
  }
}
