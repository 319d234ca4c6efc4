/**
 * Invariant: a state belongs to a program's name: a program gets the state of another program only where its manifest names
 * that one in `takesStateOf` (HANDOVER 5.9; test/e2e/owners.test.ts).
 */
import type { Refusal } from '../../../deploy/shared/errors.ts'
import type { Checkpoint } from '../../store/checkpoint.ts'
import type { SlotStore } from './context.ts'
import type { Runnable } from './running.ts'

export type StateOwner = Pick<Runnable, 'program' | 'manifest'>

/** Whether `to` goes on with the state of `from`. */
export const takesStateOf = (to: StateOwner, from: StateOwner): boolean =>
  to.program === from.program || to.manifest.takesStateOf === from.program

/** With what a program begins that replaces one of another name: its own last checkpoint, or null for its initial state. */
export type OwnState = Pick<Checkpoint, 'time'> | null

/** Notes for the pusher of `to` over `from`: which state `to` begins with, and whether that of `from` is kept. */
export function stateNotes({ to, from }: { to: StateOwner; from: StateOwner | null }, own: OwnState): string[] {
  if (from === null || to.program === from.program) return []
  const { program } = to
  const kept = from.manifest.state === null ? '' : `; the state of ${from.program} is kept for it`
  if (takesStateOf(to, from)) return kept === '' ? [] : [`${program} goes on with the state of ${from.program}`]
  if (to.manifest.state === null) return kept === '' ? [] : [kept.slice(2)]
  const began = own === null ? 'begins with its own initial state' : `goes on with its own state of ${own.time}`
  return [`${program} ${began}${kept}`]
}

/** The checkpoint from which a program is started; null: it begins with its initial state. */
export async function checkpointOf(
  store: Pick<SlotStore, 'loadCheckpoint' | 'isCommitted'>,
  runnable: Runnable,
  note: (level: string, text: string) => void,
): Promise<Checkpoint | null> {
  const { program, version, manifest } = runnable
  if (manifest.state === null) return null
  // A damaged checkpoint is not used: the program begins with its initial state, and the log says so (HANDOVER 9.7).
  const load = (owner: string): Promise<Checkpoint | null> =>
    store.loadCheckpoint(owner).catch((error: Refusal) => {
      note('error', `${error.code}: ${error.message}; ${program} begins with its initial state`)
      return null
    })
  const { takesStateOf } = manifest
  const checkpoint = (await load(program)) ?? (takesStateOf === undefined ? null : await load(takesStateOf))
  const isNewer = (checkpoint?.stateVersion ?? 0) > manifest.state.version
  // A pushed program fails with a newer checkpoint, and the old one comes back. A committed one has to begin without it.
  if (!isNewer || !store.isCommitted(runnable)) return checkpoint
  const found = `its checkpoint is of version ${checkpoint?.stateVersion}, newer than ${program} ${version} knows`
  note('error', `bad-state: ${found}; it begins with its initial state`)
  return null
}
