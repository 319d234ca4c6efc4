import { join, relative } from 'node:path'
import type { Signer } from '../../shared/keys.ts'
import { readSettings, writeSettings } from './config.ts'

/** A key without a passphrase in the config folder, which signs from now on. Throws where one is there already. */
export async function makeKey(dir: string, comment: string): Promise<{ path: string; signer: Signer }> {
  const { generateKey } = await import('../../shared/keys.ts')
  const path = join(dir, 'id_ed25519')
  const signer = await generateKey(path, comment)
  await writeSettings(dir, { ...readSettings(dir), key: relative(dir, path) })
  return { path, signer }
}
