/** Invariant: this file needs no other: a loader asks it before anything of a program is there. */
import type { Grant } from '../handle.ts'

/** True when one of the grants is used by ioctl. */
export function needsSystem(grants: readonly Grant[]): boolean {
  return grants.some(({ encoding }) => encoding === 'line' || encoding === 'i2c' || encoding === 'spi')
}
