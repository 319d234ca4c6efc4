/**
 * Reads and writes the state areas of programs, in slices of {@link SLICE_MS}, because a state may have 64 MiB (HANDOVER 8.7).
 * The body uses a program's state only if it matches the root that the program sent.
 */
import { closeSync, openSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import { Outbox, StateReader } from '../../sdk/statearea.ts'
import type { Meta, Snapshot } from '../../sdk/wire.ts'

/** ms; then the event loop has a turn. */
const SLICE_MS = 2

/** Reads the state that a program wrote to its outbox; rejects with StateError when it does not match its root. */
export async function readSnapshot(path: string, snapshot: Snapshot): Promise<{ meta: Meta; state: Buffer }> {
  const fd = openSync(path, 'r')
  try {
    return await inSlices(new StateReader(fd).reading(snapshot))
  } finally {
    closeSync(fd)
  }
}

/** Puts a state into a program's inbox. */
export async function fillInbox(path: string, state: Uint8Array, meta: Meta): Promise<Snapshot> {
  const fd = openSync(path, 'r+')
  try {
    const { changed: _, ...snapshot } = await inSlices(new Outbox(fd).writing(state, meta))
    return snapshot
  } finally {
    closeSync(fd)
  }
}

async function inSlices<T>(steps: Generator<void, T>): Promise<T> {
  let end = performance.now() + SLICE_MS
  for (;;) {
    const { done, value } = steps.next()
    if (done) return value
    if (performance.now() < end) continue
    await turn()
    end = performance.now() + SLICE_MS
  }
}
