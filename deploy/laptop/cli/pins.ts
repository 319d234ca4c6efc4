/**
 * Invariant: the keys of a robot that is known by a name, or at an address, are never exchanged without the user's word
 * (test/cli/pins.test.ts). Whatever writes a robot's card to robots.json does it here.
 */
import type { Certificate } from '../../shared/cert.ts'
import { Refusal } from '../../shared/errors.ts'
import { type KnownRobot, type Robots, readRobots, writeRobots } from './config.ts'
import { idOf } from './robot.ts'

export interface PinOptions {
  /** The user's word: what stands in the way is forgotten. */
  replace?: boolean | undefined
  /** What to type to give that word. */
  again: string
  /** The address belongs to this robot for certain: it is a port of this computer that its process has. */
  own?: boolean
}

/**
 * Adds a robot, or its new address. Answers the other names that were forgotten for it. Throws `robot-mismatch` with both
 * fingerprints when the name, or the address, is of a robot with other keys.
 */
export async function pinRobot(dir: string, name: string, robot: KnownRobot, options: PinOptions): Promise<string[]> {
  const known = readRobots(dir)
  const others = options.own === true ? [] : namesAt(known, name, robot)
  if (options.replace !== true) refuseChange(known, name, others, robot, options.again)
  const before = known.robots[name]
  // one robot has one log, whatever its name is
  const seen = before !== undefined && sameKeys(before, robot) ? before.seen : undefined
  known.robots[name] = { ...robot, ...(seen === undefined ? {} : { seen }) }
  for (const other of others) {
    delete known.robots[other]
    if (known.default === other) delete known.default
  }
  await writeRobots(dir, known)
  return others
}

/** Before anything is done for a robot: would its card be refused under this name? Throws as {@link pinRobot}. */
export function checkPin(dir: string, name: string, card: KnownRobot['card'], { replace, again }: PinOptions): void {
  if (replace !== true) refuseChange(readRobots(dir), name, [], { address: '', card }, again)
}

/** Other names at this address, with other keys. */
function namesAt(known: Robots, name: string, robot: KnownRobot): string[] {
  return Object.entries(known.robots).flatMap(([other, { address, card }]) =>
    other !== name && address === robot.address && !sameKeys({ card }, robot) ? [other] : [],
  )
}

function refuseChange(known: Robots, name: string, others: readonly string[], robot: KnownRobot, again: string): void {
  const before = known.robots[name]
  const inTheWay = before !== undefined && !sameKeys(before, robot) ? name : others[0]
  const pinned = inTheWay === undefined ? undefined : known.robots[inTheWay]
  if (inTheWay === undefined || pinned === undefined) return
  const [was, is] = fingerprints(pinned, robot)
  const what = inTheWay === name ? name : `${robot.address} is ${inTheWay}, which`
  throw new Refusal(
    'robot-mismatch',
    `${what} is known as ${was}, this card is of ${is}: another robot, or one with new keys`,
    `check the robot: its card is robot.json in its home; if it is right to forget ${was}: ${again}`,
  )
}

type Carded = Pick<KnownRobot, 'card'>

function sameKeys(a: Carded, b: Carded): boolean {
  const [one, other] = [keysOf(a), keysOf(b)]
  return one !== null && other !== null && (['key', 'noise', 'age'] as const).every((key) => one[key] === other[key])
}

/** Of the identities; of the channel's keys where the identity is the same. */
function fingerprints(pinned: Carded, robot: Carded): [string, string] {
  const [was, is] = [keysOf(pinned), keysOf(robot)]
  const id = (card: Partial<Certificate> | null) => idOf(card ?? {}) ?? 'a damaged card'
  if (id(was) !== id(is)) return [id(was), id(is)]
  return [`${id(was)} with the channel key ${was?.noise}`, `${id(is)} with the channel key ${is?.noise}`]
}

function keysOf({ card }: Carded): Partial<Certificate> | null {
  try {
    return JSON.parse(card.cert) as Partial<Certificate>
  } catch {
    return null
  }
}
