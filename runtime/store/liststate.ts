/**
 * What a robot remembers of its list of operators beside the list: a counter of the changes, the public half of the recovery
 * key, and the keys that it never lets in again (HANDOVER 19.1 to 19.3).
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as z from 'zod'
import { PUBLIC_KEY_PATTERN } from '../../deploy/shared/bundle/sshsig.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { writeAtomic } from './atomic.ts'
import { isMissing } from './record.ts'

/** Revoked keys that a robot remembers. */
export const MAX_REVOKED = 1024

const count = z.int().min(0)
const ListState = z.strictObject({
  format: z.literal('medulla-list/1'),
  /** Raised by one with each change of the list. */
  counter: count,
  /** `key` is an `ssh-ed25519 …` line; `counter` is that of the change that set the key. */
  recovery: z.strictObject({ key: z.string().regex(PUBLIC_KEY_PATTERN), counter: count }).nullable(),
  revoked: z
    .array(z.strictObject({ key: z.string().regex(/^SHA256:[A-Za-z0-9+/]{43}$/), counter: count }))
    .max(MAX_REVOKED),
})
export type ListState = z.infer<typeof ListState>

export const NO_STATE: ListState = { format: 'medulla-list/1', counter: 0, recovery: null, revoked: [] }

const fileOf = (folder: string): string => join(folder, 'list.json')

/** Robots of earlier versions have no such file. Throws Refusal `usage` for a damaged one: a revoked key must not come back. */
export async function readListState(folder: string): Promise<ListState> {
  const path = fileOf(folder)
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (isMissing(error)) return NO_STATE
    throw error
  }
  try {
    return ListState.parse(JSON.parse(text))
  } catch (cause) {
    const hint = 'put the file back from a backup: it holds the keys that are never let in again'
    throw new Refusal('usage', `${path} is damaged`, hint, { cause })
  }
}

export async function writeListState(folder: string, state: ListState): Promise<void> {
  await writeAtomic(fileOf(folder), `${JSON.stringify(state, null, 2)}\n`, 0o644)
}
