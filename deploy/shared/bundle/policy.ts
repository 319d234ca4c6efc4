/**
 * Decides whether a robot may install a verified release now: a pure function of the release and facts about the robot
 * (BUNDLE 10).
 */
import { Refusal } from '../errors.ts'
import type { Manifest } from './manifest.ts'
import { FIRST_START, NODE_RANGE_PATTERN, type Release } from './release.ts'

export interface RobotFacts {
  /** id of this robot */
  robot: string
  /** process.arch */
  arch: string
  /** process.version, with or without the v */
  node: string
  /** ms since 1970 */
  now: number
  clockSynced: boolean
  slot: string
  /** highest counter ever committed of this (kind, program); 0 if none */
  floor: number
  /** digest of the release that runs in the slot */
  committed: string | null
  /** how an earlier push of this digest ended */
  tried: 'committed' | 'rolled-back' | null
  retry: boolean
  /** name of a handle to its kind */
  handles: Record<string, string>
  /** name of a handle to the other slot that holds it; `holds` is another handle if the two cannot be held apart */
  leased: Record<string, { slot: string; holds: string }>
  /** names of the config values that are set */
  config: ReadonlySet<string>
  wire: number
}

/** How far a counter may be ahead of the robot's clock, and of a floor that is itself ahead of the clock (BUNDLE 10.9). */
export const AHEAD_OF_CLOCK_MS = 24 * 3600 * 1000
export const AHEAD_OF_FLOOR_MS = 60_000
/** The largest time that Date can represent, in ms. */
const MAX_TIME = 8.64e15

/** The highest counter that the robot takes (BUNDLE 10.9). */
export function highestCounter({ floor, now }: Pick<RobotFacts, 'floor' | 'now'>): number {
  return Math.max(now + AHEAD_OF_CLOCK_MS, floor + AHEAD_OF_FLOOR_MS)
}

/** Null: the release may be installed. Before unpacking there is no manifest, and hardware and wire are not checked. */
export function decide(release: Release, digest: string, manifest: Manifest | null, facts: RobotFacts): Refusal | null {
  return (
    forThisRobot(release, facts) ??
    history(release, digest, facts, {
      running: `${release.program} ${release.version} is what slot ${facts.slot} runs`,
      older:
        `push its source: medulla push FOLDER; or build it again: medulla build FOLDER --above ${facts.floor}; ` +
        'or go back: medulla rollback',
      newer: 'medulla push FOLDER',
    }) ??
    (manifest && hardware(release, manifest, facts))
  )
}

/** The facts for the program of a card, which is for any robot that starts from that card for the first time (BUNDLE 19). */
export function atFirstStart(facts: RobotFacts, { counter }: Pick<Release, 'counter'>): RobotFacts {
  // A robot without a clock of its own starts with the time of its image. A counter above all times would leave no number for the
  // releases after it (BUNDLE 19.4).
  const now = facts.clockSynced ? facts.now : Math.max(facts.now, Math.min(counter, MAX_TIME))
  return { ...facts, robot: FIRST_START, now }
}

/** Facts about a robot whose runtime is to be replaced; `committed` is the release that its runtime comes from. */
export type RuntimeFacts = Pick<
  RobotFacts,
  'robot' | 'arch' | 'node' | 'now' | 'clockSynced' | 'floor' | 'committed' | 'tried' | 'retry'
>

/** As {@link decide}, for a release that replaces the runtime (BUNDLE 14.4). */
export function decideRuntime(release: Release, digest: string, facts: RuntimeFacts): Refusal | null {
  const name = `${release.program} ${release.version}`
  if (release.kind !== 'runtime') {
    const hint = 'a program goes into a slot: medulla push'
    return addressed(release, facts) ?? new Refusal('wrong-slot', `${name} is a ${release.kind}, and no runtime`, hint)
  }
  return (
    addressed(release, facts) ??
    platform(release, facts) ??
    history(release, digest, facts, {
      running: `${name} is the runtime of this robot`,
      older: 'push the package again, not a bundle file: medulla runtime push; or go back: medulla runtime rollback',
      newer: 'medulla runtime push',
    })
  )
}

function addressed({ recipients }: Release, { robot }: Pick<RobotFacts, 'robot'>): Refusal | null {
  // the signature covers the recipients, so a robot cannot forward its bundle to another robot (BUNDLE 10.1)
  if (recipients.includes(robot)) return null
  return new Refusal('wrong-robot', `release is for ${recipients.join(', ')}, this robot is ${robot}`)
}

function forThisRobot(release: Release, facts: RobotFacts): Refusal | null {
  const stranger = addressed(release, facts)
  if (stranger !== null) return stranger
  // slots run programs only, and a release may be bound to one slot (BUNDLE 10.2)
  if (release.kind !== 'program') {
    const hint = 'it replaces the runtime itself: medulla runtime push FILE'
    return new Refusal('wrong-slot', `a ${release.kind} release does not go into a slot`, hint)
  }
  if (release.slot !== null && release.slot !== facts.slot) {
    return new Refusal(
      'wrong-slot',
      `release is bound to slot ${release.slot}, not ${facts.slot}`,
      `push with --slot ${release.slot}`,
    )
  }
  return platform(release, facts)
}

/** Checks an installed release again: Node, runtime or board may have changed since (HANDOVER 9.9). */
export function unfit(
  release: Pick<Release, 'arch' | 'node'>,
  manifest: Manifest,
  facts: Pick<RobotFacts, 'arch' | 'node' | 'wire' | 'handles' | 'leased' | 'slot' | 'config'>,
): Refusal | null {
  return (
    platform(release, facts) ??
    wire(manifest, facts) ??
    unmet(manifest.needs, facts) ??
    unset(manifest.config, facts.config)
  )
}

function platform({ arch, node }: Pick<Release, 'arch' | 'node'>, facts: Pick<RobotFacts, 'arch' | 'node'>) {
  // the architecture (BUNDLE 10.3)
  if (!arch.includes('any') && !arch.includes(facts.arch)) {
    return new Refusal('wrong-arch', `release is for ${arch.join(', ')}, this robot is ${facts.arch}`)
  }
  // the version of Node (BUNDLE 10.4)
  if (!nodeSatisfies(node, facts.node)) {
    return new Refusal('wrong-node', `release needs node ${node}, this robot has ${facts.node}`)
  }
  return null
}

/** What to say of a release that runs already, and what to type when its counter is too low or too high. */
interface Words {
  running: string
  older: string
  newer: string
}

function history(release: Release, digest: string, facts: RuntimeFacts, words: Words): Refusal | null {
  const name = `${release.program} ${release.version}`
  // before the counter check, which would call the running release `not-newer`: its counter is the floor (BUNDLE 10.5)
  if (facts.committed === digest) return new Refusal('already-installed', words.running)
  // an old release must not come back by a push (BUNDLE 10.6)
  if (release.counter <= facts.floor) {
    return new Refusal(
      'not-newer',
      `${name} has counter ${dated(release.counter)}, this robot has committed ${dated(facts.floor)}`,
      words.older,
    )
  }
  // a release that failed once must be asked for explicitly (BUNDLE 10.7)
  if (facts.tried === 'rolled-back' && !facts.retry) {
    return new Refusal('tried-before', `${name} was tried and rolled back`, 'try it again with --retry')
  }
  // a clock that is not synchronised may be wrong by years (BUNDLE 10.8)
  if (release.expires !== null && facts.clockSynced && facts.now > Date.parse(release.expires)) {
    return new Refusal(
      'expired',
      `${name} expired at ${release.expires}`,
      'build the program again and push the new bundle',
    )
  }
  return ahead(release, name, facts, words.newer)
}

/** A counter far ahead of the time would lock out every later bundle from a computer with a right clock (BUNDLE 10.9). */
function ahead(
  { counter }: Release,
  name: string,
  { floor, now, clockSynced }: RuntimeFacts,
  push: string,
): Refusal | null {
  if (counter <= highestCounter({ floor, now })) return null
  const floored = floor + AHEAD_OF_FLOOR_MS > now + AHEAD_OF_CLOCK_MS
  const clock = `this robot's clock (${timeOf(now)}${clockSynced ? '' : ', not synchronised'})`
  const limit = floored
    ? `more than 60 s beyond what it has committed (${dated(floor)})`
    : `more than 24 h ahead of ${clock}`
  const whose = clockSynced ? 'the computer that built it' : 'this robot, or of the computer that built it,'
  return new Refusal(
    'ahead-of-clock',
    `${name} has counter ${dated(counter)}, ${limit}`,
    `set the clock of ${whose} with: sudo timedatectl set-ntp true; or push its source: ${push}`,
  )
}

/** A counter, with the time that it stands for. */
function dated(counter: number): string {
  return counter <= MAX_TIME ? `${counter} (${timeOf(counter)})` : String(counter)
}

const timeOf = (ms: number): string => new Date(ms).toISOString()

function hardware(release: Release, manifest: Manifest, facts: RobotFacts): Refusal | null {
  // the release was checked by the name and version that it says: the manifest must say the same (BUNDLE 10.10)
  if (manifest.program !== release.program || manifest.version !== release.version) {
    return new Refusal(
      'bad-bundle',
      `release says ${release.program} ${release.version}, manifest says ${manifest.program} ${manifest.version}`,
    )
  }
  return wire(manifest, facts) ?? unmet(manifest.needs, facts) ?? unset(manifest.config, facts.config)
}

function wire(manifest: Manifest, facts: Pick<RobotFacts, 'wire'>): Refusal | null {
  // the messages between body and program must have the same version (BUNDLE 10.11)
  if (manifest.wire === facts.wire) return null
  const hint = 'build it with the medulla version that this robot runs'
  return new Refusal('wrong-wire', `program speaks wire ${manifest.wire}, this robot speaks ${facts.wire}`, hint)
}

/** A refusal for the first handle that a program needs and cannot get (BUNDLE 10.12). */
export function unmet(
  needs: Readonly<Record<string, string>>,
  { handles, leased, slot }: Pick<RobotFacts, 'handles' | 'leased' | 'slot'>,
): Refusal | null {
  for (const [name, kind] of Object.entries(needs)) {
    const has = Object.hasOwn(handles, name) ? handles[name] : undefined
    if (has === undefined) {
      const known = Object.keys(handles).join(', ') || 'none'
      return new Refusal(
        'missing-handle',
        `program needs ${kind} '${name}', this board has: ${known}`,
        `add '${name}' to board.json`,
      )
    }
    if (has !== kind) return new Refusal('wrong-kind', `program needs '${name}' as ${kind}, on this board it is ${has}`)
    const other = Object.hasOwn(leased, name) ? leased[name] : undefined
    if (other !== undefined) {
      const hint = `stop it first: medulla stop --slot ${other.slot}`
      const how =
        other.holds === name
          ? `which slot ${other.slot} holds`
          : `which goes together with '${other.holds}', and slot ${other.slot} holds that`
      return new Refusal('handle-leased', `slot ${slot} needs '${name}', ${how}`, hint)
    }
  }
  return null
}

/** A refusal for the config values that a program needs and that are not set on this robot (BUNDLE 10.15). */
export function unset(names: readonly string[] = [], set: ReadonlySet<string>): Refusal | null {
  const missing = names.filter((name) => !set.has(name))
  if (missing.length === 0) return null
  const what = `${missing.join(', ')}, which ${missing.length === 1 ? 'is' : 'are'}`
  const hint = missing.map((name) => `medulla config set ${name}`).join(' && ')
  return new Refusal('missing-config', `program needs ${what} not set on this robot`, hint)
}

/** `>=X.Y[.Z]`; anything else is false. */
export function nodeSatisfies(range: string, version: string): boolean {
  const got = /^v?(\d+)\.(\d+)\.(\d+)/.exec(version)
  if (!NODE_RANGE_PATTERN.test(range) || !got) return false
  const wanted = range.slice(2).split('.').map(Number)
  for (let i = 0; i < 3; i++) {
    const [have, want] = [Number(got[i + 1]), wanted[i] ?? 0]
    if (have !== want) return have > want
  }
  return true
}
