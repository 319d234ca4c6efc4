/**
 * Invariant: no two living instances have the same uid, and a uid that any process has is not given out (HANDLES 13.2;
 * test/runtime/body/sandbox/confinement.test.ts).
 *
 * No other program gives out this range: it is above the containers of systemd (up to 0x6fffffff) and every default range of
 * useradd and newuidmap, outside of DynamicUser (61184 to 65519), and below 2^31.
 */
import { readdirSync, statSync } from 'node:fs'

export const FIRST_UID = 0x7d640000
export const UID_COUNT = 65536

export class Uids {
  readonly #used = new Set<number>()
  #next: number

  /** `start`: where to begin in the range; random, so that two runtimes on one machine do not take the same uids. */
  constructor(start = Math.floor(Math.random() * UID_COUNT)) {
    this.#next = start
  }

  /** The uid, and gid, of a new instance. Throws when all are in use. */
  take(): number {
    const living = uidsOfProcesses()
    for (let tried = 0; tried < UID_COUNT; tried++) {
      const uid = FIRST_UID + (this.#next++ % UID_COUNT)
      if (this.#used.has(uid) || living.has(uid)) continue
      this.#used.add(uid)
      return uid
    }
    throw new Error('every uid for programs is in use')
  }

  /** An instance of the last runtime goes on with this uid. */
  adopt(uid: number): void {
    this.#used.add(uid)
  }

  /** To be called when every process of the instance has ended. */
  release(uid: number): void {
    this.#used.delete(uid)
  }
}

/** The uids of all processes, also of those that a killed runtime left behind. */
function uidsOfProcesses(): Set<number> {
  const uids = new Set<number>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d/.test(name)) continue
    const uid = statSync(`/proc/${name}`, { throwIfNoEntry: false })?.uid
    if (uid !== undefined) uids.add(uid)
  }
  return uids
}
