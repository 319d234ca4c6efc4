/**
 * The folder of a slot's programs that stays over swaps, crashes and restarts, and goes with the slot (HANDOVER 14).
 *
 * Instances have users of their own: they share the folder by a group that nobody else is in.
 */
import { chmodSync, chownSync, mkdirSync, statSync } from 'node:fs'
import { lstat, opendir, rm, rmdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { timeScale } from '../../../deploy/shared/timescale.ts'
import type { Cause } from '../slot/cause.ts'
import type { SlotLog } from '../slot/log.ts'
import { FIRST_UID, UID_COUNT } from './uids.ts'

/** The last of the range, which no instance gets as its own group. */
export const DATA_GROUP = FIRST_UID + UID_COUNT
/** HANDOVER 14.4 */
const MOST_FILES = 10_000
const LOOK_MS = 5000
/** Looks in a row: a program that finds its folder full at its start has the time between them to delete. */
const PATIENCE = 3

export const dataFolderOf = (home: string, slot: string): string => join(home, 'slots', slot, 'data')

/** There, and writable for a program of the slot. `shared`: for any instance of it, whatever its user. */
export function openDataFolder(home: string, slot: string, shared: boolean): string {
  const folder = dataFolderOf(home, slot)
  const there = statSync(folder, { throwIfNoEntry: false })
  // a restart writes nothing here: the disk may be full
  if (there === undefined) mkdirSync(folder, { recursive: true, mode: 0o700 })
  if (!shared || (there?.gid === DATA_GROUP && (there.mode & 0o7777) === 0o2770)) return folder
  chownSync(folder, 0, DATA_GROUP)
  chmodSync(folder, 0o2770)
  return folder
}

/** Of a slot that never committed anything (HANDOVER 2.8): with the slot's own folder, when nothing else is in it. */
export async function dropDataFolder(home: string, slot: string): Promise<void> {
  const folder = dataFolderOf(home, slot)
  await rm(folder, { recursive: true, force: true }).catch(() => {})
  await rmdir(dirname(folder)).catch(() => {})
}

/** Bytes on disk; infinite for more files than {@link MOST_FILES}, or when it cannot be read. */
export async function bytesIn(folder: string): Promise<number> {
  let bytes = 0
  let files = 0
  const look = async (path: string): Promise<void> => {
    const entries = await opendir(path).catch(() => null)
    for await (const entry of entries ?? []) {
      if (++files > MOST_FILES) return
      const inner = join(path, entry.name)
      const stat = await lstat(inner).catch(() => null)
      // st_blocks is in units of 512 bytes, whatever the file system's blocks are (stat(2)); 0 on Windows
      bytes += Math.max((stat?.blocks ?? 0) * 512, stat?.blocks === undefined ? (stat?.size ?? 0) : 0)
      if (stat?.isDirectory()) await look(inner)
    }
  }
  await look(folder)
  return files > MOST_FILES ? Number.POSITIVE_INFINITY : bytes
}

/** A child of the body, as far as its folder goes. */
interface Watched {
  readonly options: { readonly log: Pick<SlotLog, 'add'> }
  readonly alive: boolean
  readonly exited: Promise<void>
  readonly fence: number
  fatal: Cause | null
  kill(): Promise<unknown>
}

/** HANDOVER 14.4: ends a program whose folder stays above its limit. */
export function watchDataFolder(child: Watched, { folder, mb }: { folder: string; mb: number }): void {
  let above = 0
  let looking = false
  const timer = setInterval(async () => {
    if (looking) return
    looking = true
    const bytes = await bytesIn(folder)
    looking = false
    above = bytes > mb * 2 ** 20 ? above + 1 : 0
    if (above === 0 || !child.alive) return
    const size =
      bytes === Number.POSITIVE_INFINITY ? `more than ${MOST_FILES} files` : `${(bytes / 2 ** 20).toFixed(1)} MB`
    const message = `its data folder holds ${size}, and limits.dataMb of the board is ${mb}`
    if (above === 1)
      child.options.log.add('runtime', `${message}: what is not needed has to be deleted`, child.fence, 'warn')
    if (above < PATIENCE) return
    child.fatal = { code: 'crashed', message }
    void child.kill()
  }, LOOK_MS * timeScale())
  timer.unref()
  void child.exited.then(() => clearInterval(timer))
}
