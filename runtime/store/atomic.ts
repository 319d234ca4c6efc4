/**
 * Invariant: a reader sees the whole old file or the whole new one, also after a kill or a power cut
 * (test/runtime/store/bundles.test.ts).
 *
 * A temporary file is in the folder of its final name (no rename across file systems), and its name starts with
 * {@link TEMP_PREFIX}. {@link recoverDir} removes those that a kill left behind.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, open, readdir, rename, rm, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

export const TEMP_PREFIX = '.tmp-'

export function tempName(): string {
  return TEMP_PREFIX + randomBytes(12).toString('hex')
}

/** Makes the names in a folder durable: a rename is on disk only once its folder is. */
export async function syncDir(dir: string): Promise<void> {
  const handle = await open(dir, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

type Data = string | Uint8Array | readonly Uint8Array[]

/** Creates a file, which must not exist, and makes its bytes durable. */
export async function writeNew(path: string, data: Data, mode = 0o600): Promise<void> {
  const handle = await open(path, 'wx', mode)
  try {
    const parts = typeof data === 'string' || data instanceof Uint8Array ? [data] : data
    for (const part of parts) await handle.writeFile(part)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Replaces or creates a file. Throws the error of the file system; the old file is untouched then. */
export async function writeAtomic(path: string, data: Data, mode = 0o600): Promise<void> {
  const dir = dirname(path)
  const temp = join(dir, tempName())
  try {
    await writeNew(temp, data, mode)
    await rename(temp, path)
  } catch (error) {
    await unlink(temp).catch(() => {})
    throw error
  }
  await syncDir(dir)
}

/** Fills a folder under a temporary name, and renames it when everything in it is durable. */
export async function makeDirAtomic(path: string, fill: (temp: string) => Promise<void>): Promise<void> {
  const parent = dirname(path)
  const temp = join(parent, tempName())
  await mkdir(temp, { mode: 0o700 })
  try {
    await fill(temp)
    await syncDir(temp)
    await rename(temp, path)
  } catch (error) {
    await rm(temp, { recursive: true, force: true })
    throw error
  }
  await syncDir(parent)
}

/** Removes a folder; a kill in between leaves either the whole folder or only a temporary name. */
export async function removeDirAtomic(path: string): Promise<void> {
  const parent = dirname(path)
  const temp = join(parent, tempName())
  await rename(path, temp)
  await syncDir(parent)
  await rm(temp, { recursive: true, force: true })
}

/** Removes the temporary files of a folder, not those below it, and returns their names. For the folder's owner, before the first use. */
export async function recoverDir(dir: string): Promise<string[]> {
  const left = (await readdir(dir)).filter((name) => basename(name).startsWith(TEMP_PREFIX))
  for (const name of left) await rm(join(dir, name), { recursive: true, force: true })
  return left
}
