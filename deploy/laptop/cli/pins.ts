/**
 * Writes the cards of robots to robots.json. Invariant: the keys that are stored for a name, or for an address, are never
 * replaced without the user's consent (test/deploy/laptop/cli/pins.test.ts).
 */
import type { Certificate } from '../../shared/cert.ts'
import { Refusal } from '../../shared/errors.ts'
import { type KnownRobot, type Robots, readRobots, writeRobots } from '../config.ts'
import { isLater, keysOf } from '../renewedcard.ts'
import { idOf } from './robot.ts'

export interface PinOptions {
  /** The user's consent: robots with other keys under this name or address are forgotten. */
  replace?: boolean | undefined
  /** For the hint: the command that gives this consent. */
  again: string
  /** The address is certainly this robot's: a port of this computer on which its process listens. */
  own?: boolean
}

/**
 * Stores a robot, or its new address. Returns the names of other robots that were forgotten because they had this address.
 * Throws `robot-mismatch` with both fingerprints when the name or the address belongs to a robot with other keys.
 */
export async function pinRobot(dir: string, name: string, robot: KnownRobot, options: PinOptions): Promise<string[]> {
  const known = readRobots(dir)
  const others = options.own === true ? [] : namesAt(known, name, robot)
  if (options.replace !== true) refuseChange(known, name, others, robot, options.again)
  const before = known.robots[name]
  // the head belongs to the robot's log: keep it while the identity is the same
  const seen = before !== undefined && sameIdentity(before, robot) ? before.seen : undefined
  known.robots[name] = { ...robot, ...(seen === undefined ? {} : { seen }) }
  for (const other of others) {
    delete known.robots[other]
    if (known.default === other) delete known.default
  }
  await writeRobots(dir, known)
  return others
}

/** Throws as {@link pinRobot} if this card would be refused under this name, or at this address; stores nothing. */
export function checkPin(dir: string, name: string, robot: Carded & { address?: string }, options: PinOptions): void {
  if (options.replace === true) return
  const known = readRobots(dir)
  const { address, card } = robot
  const others = address === undefined ? [] : namesAt(known, name, { address, card })
  refuseChange(known, name, others, { address: address ?? '', card }, options.again)
}

/** Other names at this address, with other keys. */
function namesAt(known: Robots, name: string, robot: KnownRobot): string[] {
  return Object.entries(known.robots).flatMap(([other, { address, card }]) =>
    other !== name && address === robot.address && !sameIdentity({ card }, robot) ? [other] : [],
  )
}

function refuseChange(known: Robots, name: string, others: readonly string[], robot: KnownRobot, again: string): void {
  const before = known.robots[name]
  // Rotated keys are no changed keys: the caller has verified the certificate, so the same identity signed both (CHANNEL 3.9).
  const later = keysOf(robot)
  if (before !== undefined && later !== null && others.length === 0 && isLater(later, keysOf(before))) return
  const conflict = before !== undefined && !sameKeys(before, robot) ? name : others[0]
  const pinned = conflict === undefined ? undefined : known.robots[conflict]
  if (conflict === undefined || pinned === undefined) return
  const [was, is] = fingerprints(pinned, robot)
  const what = conflict === name ? name : `${robot.address} is ${conflict}, which`
  throw new Refusal(
    'robot-mismatch',
    `${what} is known as ${was}, but this card belongs to ${is}: it is another robot, or it has new keys`,
    `if it is another robot, check the address; if yours was made anew, and you know that: ${again}`,
  )
}

type Carded = Pick<KnownRobot, 'card'>

function sameKeys(a: Carded, b: Carded): boolean {
  const [one, other] = [keysOf(a), keysOf(b)]
  return one !== null && other !== null && (['key', 'noise', 'age'] as const).every((key) => one[key] === other[key])
}

function sameIdentity(a: Carded, b: Carded): boolean {
  const [one, other] = [keysOf(a), keysOf(b)]
  return one !== null && one.key !== undefined && one.key === other?.key
}

/** How to tell the two cards apart: by their identities, or by their channel keys if the identity is the same. */
function fingerprints(pinned: Carded, robot: Carded): [string, string] {
  const [was, is] = [keysOf(pinned), keysOf(robot)]
  const id = (card: Partial<Certificate> | null) => idOf(card ?? {}) ?? 'a damaged card'
  if (id(was) !== id(is)) return [id(was), id(is)]
  return [`${id(was)} with the channel key ${was?.noise}`, `${id(is)} with the channel key ${is?.noise}`]
}
