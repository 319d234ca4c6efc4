/**
 * Keeps a robot's card whose keys were rotated. Invariant: a card is only replaced by a later one of the same identity
 * (test/deploy/laptop/cli/keylife.test.ts).
 */
import type { Certificate } from '../shared/cert.ts'
import { type KnownRobot, readRobots, writeRobots } from './config.ts'

/**
 * Keeps a later certificate of a robot that is known, under each of its names. The caller has verified that the identity signed
 * it, and that it is later (CHANNEL 3.12).
 */
export async function renewCard(dir: string, card: KnownRobot['card']): Promise<void> {
  const known = readRobots(dir)
  const later = keysOf({ card })
  for (const robot of Object.values(known.robots)) {
    if (later !== null && isLater(later, keysOf(robot))) robot.card = card
  }
  await writeRobots(dir, known)
}

/** Whether a certificate is of the same identity as the one before, and was made later: its keys were rotated. */
export function isLater(next: Partial<Certificate>, before: Partial<Certificate> | null): boolean {
  if (before === null || before.key === undefined || next.key !== before.key) return false
  return Date.parse(next.created ?? '') > Date.parse(before.created ?? '')
}

/** What a card says, without verifying it; null for a damaged card. */
export function keysOf({ card }: Pick<KnownRobot, 'card'>): Partial<Certificate> | null {
  try {
    return JSON.parse(card.cert) as Partial<Certificate>
  } catch {
    return null
  }
}
