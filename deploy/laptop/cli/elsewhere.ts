/**
 * Finds a known robot that is no longer at its address. Invariant: only the robot with the pinned keys gets the name's new
 * address (CHANNEL 11.7, 11.8; test/e2e/discovery.test.ts).
 */
import { Refusal } from '../../shared/errors.ts'
import { timeScale } from '../../shared/timescale.ts'
import { type ClientOptions, RobotClient } from '../client.ts'
import { readRobots, writeRobots } from '../config.ts'
import { discover, type Found, mayDiscover } from '../discovery.ts'
import { formatAddress, parseAddress, type Target } from '../target.ts'
import type { App } from './app.ts'

/** How long an address that answered the search may take for a session, in ms. */
const PATIENCE_MS = 2000

/** The errors after which a robot may be at another address: nobody answers, or somebody else. */
const AWAY: readonly string[] = ['unreachable', 'robot-mismatch', 'unknown-operator']

const isLocal = (host: string): boolean => host === 'localhost' || host === '::1' || host.startsWith('127.')

/** Whether a search may find a robot that this error keeps from being reached. Robots of this computer do not announce themselves. */
export function maySearch(app: App, robot: Target, error: unknown): boolean {
  if (robot.given === true || isLocal(robot.host) || !mayDiscover(app.env)) return false
  return error instanceof Refusal && AWAY.includes(error.code)
}

/** Searches for the robot, and opens a session with it. Throws `error`, with what was tried if nothing answered, when it is nowhere. */
export async function connectElsewhere(
  app: App,
  robot: Target,
  options: ClientOptions,
  error: Refusal,
): Promise<RobotClient> {
  const { id } = robot.card
  app.term.progress(`${robot.name} is not at ${formatAddress(robot.host, robot.port)}: looking for it`)
  const isThere = (found: readonly Found[]) => found.some((each) => each.id === id && !isSame(each, robot))
  const { found } = await discover(new Set([id]), isThere)
  const client = await connectFound(app, robot, { ...options, timeoutMs: PATIENCE_MS * timeScale() }, found)
  if (client !== null) return client
  if (error.code !== 'unreachable') throw error
  const message = `${error.message}; it does not answer multicast DNS either`
  const hint = 'is it on, and in this network? Where multicast does not reach, give its address: -d HOST[:PORT]'
  throw new Refusal(error.code, message, hint, { cause: error })
}

/** Tries the addresses that claim to be the robot. Null: none of them has its keys. */
export async function connectFound(
  app: App,
  robot: Target,
  options: ClientOptions,
  found: readonly Found[],
): Promise<RobotClient | null> {
  for (const { id, host, port } of found) {
    if (id !== robot.card.id || isSame({ host, port }, robot)) continue
    const client = await RobotClient.connect({ ...options, host, port }).catch(() => null)
    if (client === null) continue
    await moved(app, robot, formatAddress(host, port))
    return client
  }
  return null
}

const isSame = (one: Pick<Target, 'host' | 'port'>, other: Pick<Target, 'host' | 'port'>): boolean =>
  one.host === other.host && one.port === other.port

/** The robot has proven its keys at this address. */
async function moved(app: App, robot: Target, address: string): Promise<void> {
  const known = readRobots(app.dir)
  const stored = known.robots[robot.name]
  if (stored === undefined) return
  const before = stored.address
  stored.address = address
  await writeRobots(app.dir, known)
  const { host, port } = parseAddress(address)
  app.term.event({ event: 'moved', name: robot.name, host, port, before })
  app.term.note(`${robot.name} has moved from ${before} to ${address}`)
}
