/** Imports types only, so that a loader can use it before it loads anything else. */
import type { Grant } from '../handle.ts'

const NEEDED: ReadonlySet<string> = new Set(['line', 'i2c', 'spi', 'listen'])

/** True when a grant needs system calls that Node does not have: ioctl, or dup of a descriptor. */
export function needsSystem(grants: readonly Grant[]): boolean {
  return grants.some(({ encoding }) => NEEDED.has(encoding ?? ''))
}
