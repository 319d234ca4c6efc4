/** Connects a command to its robot, and makes its hints name that robot. */

import type { SignedCertificate } from '../../shared/cert.ts'
import { Refusal } from '../../shared/errors.ts'
import { RobotClient } from '../client.ts'
import { type Robots, readRobots } from '../config.ts'
import { clientOptions, findRobot, type Target } from '../target.ts'
import type { App, Globals } from './app.ts'

export {
  checkKnown,
  clientOptions,
  findRobot,
  formatAddress,
  idOf,
  parseAddress,
  type Target,
} from '../target.ts'

/** The robot that a command without -d reaches; null: such a command is refused with "which robot?". */
export function impliedRobot(known: Robots, env: App['env']): string | null {
  const names = Object.keys(known.robots)
  return env.MEDULLA_DEVICE || known.default || (names.length === 1 ? names[0] : undefined) || null
}

/**
 * Opens a session with the robot. With `search`, a robot that is not at its stored address is looked for on the network, and its new
 * address is stored.
 */
export async function connectTo(
  app: App,
  robot: Target,
  key: string | undefined,
  timeoutMs?: number,
  search = true,
): Promise<RobotClient> {
  app.term.aim(impliedRobot(readRobots(app.dir), app.env) === robot.name ? null : robot.name)
  const { renewed, ...own } = await clientOptions(app, robot, key)
  const options = {
    ...own,
    renewed: async (card: SignedCertificate) => {
      await renewed?.(card)
      app.term.note(`${robot.name} has new keys, signed by the identity that this laptop knows`)
    },
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  }
  try {
    return await RobotClient.connect(options)
  } catch (error) {
    // Loaded only now: a robot that is where it was is reached without it.
    if (!search || !(error instanceof Refusal)) throw error
    const { connectElsewhere, maySearch } = await import('./elsewhere.ts')
    if (!maySearch(app, robot, error)) throw error
    return connectElsewhere(app, robot, options, error)
  }
}

/** Finds the robot, connects, runs `work`, and closes the session also after an error. */
export async function withRobot<T>(
  app: App,
  globals: Globals,
  work: (client: RobotClient, robot: Target) => Promise<T>,
): Promise<T> {
  const robot = await findRobot(app.dir, globals.device)
  const client = await connectTo(app, robot, globals.key)
  try {
    return await work(client, robot)
  } finally {
    client.close()
  }
}
