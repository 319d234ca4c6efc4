/** Invariant: the body moves state between programs only after it hashed it against the root that its writer stated. */
import { closeSync, openSync } from 'node:fs'
import { Outbox, StateReader } from '../sdk/statearea.ts'
import type { Meta, Snapshot } from '../sdk/wire.ts'

/** Reads what a program wrote to its outbox; throws StateError when it is not what it said. */
export function readSnapshot(path: string, snapshot: Snapshot): { meta: Meta; state: Buffer } {
  const fd = openSync(path, 'r')
  try {
    return new StateReader(fd).read(snapshot)
  } finally {
    closeSync(fd)
  }
}

/** Puts a state into a program's inbox. */
export function fillInbox(path: string, state: Uint8Array, meta: Meta): Snapshot {
  const fd = openSync(path, 'r+')
  try {
    const { changed: _, ...snapshot } = new Outbox(fd).write(state, meta)
    return snapshot
  } finally {
    closeSync(fd)
  }
}
