/** Invariant: this file needs no other: a loader asks it before anything of a program is there. */
import type { Grant } from '../handle.ts'

const NEEDED: ReadonlySet<string> = new Set(['line', 'i2c', 'spi', 'listen'])

/** True when one of the grants is used by calls that Node does not have: ioctl, or dup of a descriptor. */
export function needsSystem(grants: readonly Grant[]): boolean {
  return grants.some(({ encoding }) => NEEDED.has(encoding ?? ''))
}
