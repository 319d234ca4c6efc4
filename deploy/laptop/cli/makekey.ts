import { join, relative } from 'node:path'
import type { Signer } from '../../shared/keys.ts'
import { readSettings, writeSettings } from '../config.ts'

/**
 * Makes a key without a passphrase in the config folder, and sets it as the key that signs. Throws `no-key` if there is one
 * already.
 */
export async function makeKey(dir: string, comment: string): Promise<{ path: string; signer: Signer }> {
  const { generateKey } = await import('../../shared/keys.ts')
  const path = join(dir, 'id_ed25519')
  const signer = await generateKey(path, comment)
  await writeSettings(dir, { ...readSettings(dir), key: relative(dir, path) })
  return { path, signer }
}
