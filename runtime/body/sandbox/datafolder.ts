/**
 * The data folder of a slot: it outlives swaps, crashes and restarts, and is removed with the slot (HANDOVER 14).
 *
 * Each instance has a user of its own; they share the folder through a group that only they are in.
 */
import { chmodSync, chownSync, mkdirSync, statSync } from 'node:fs'
import { lstat, opendir, rm, rmdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { timeScale } from '../../../deploy/shared/timescale.ts'
import type { Cause } from '../slot/cause.ts'
import type { SlotLog } from '../slot/log.ts'
import { FIRST_UID, UID_COUNT } from './uids.ts'

/** The gid behind the last uid of an instance. */
export const DATA_GROUP = FIRST_UID + UID_COUNT
/** Most files and folders in a data folder (HANDOVER 14.4). */
const MOST_FILES = 10_000
const LOOK_MS = 5000
/** Looks in a row above the limit: a program that starts with a full folder has the time between them to delete files. */
const PATIENCE = 3

export const dataFolderOf = (home: string, slot: string): string => join(home, 'slots', slot, 'data')

/** Makes the folder, writable for programs of the slot. `shared`: for instances with users of their own. */
export function openDataFolder(home: string, slot: string, shared: boolean): string {
  const folder = dataFolderOf(home, slot)
  const there = statSync(folder, { throwIfNoEntry: false })
  // Nothing is written when the folder is there and right: the disk may be full.
  if (there === undefined) mkdirSync(folder, { recursive: true, mode: 0o700 })
  if (!shared || (there?.gid === DATA_GROUP && (there.mode & 0o7777) === 0o2770)) return folder
  chownSync(folder, 0, DATA_GROUP)
  chmodSync(folder, 0o2770)
  return folder
}

/** Removes the data folder of a slot that never committed a program, and the slot's folder when it is empty (HANDOVER 2.8). */
export async function dropDataFolder(home: string, slot: string): Promise<void> {
  const folder = dataFolderOf(home, slot)
  await rm(folder, { recursive: true, force: true }).catch(() => {})
  await rmdir(dirname(folder)).catch(() => {})
}

/** Bytes on disk; infinite for more than {@link MOST_FILES} files. */
export async function bytesIn(folder: string): Promise<number> {
  let bytes = 0
  let files = 0
  const look = async (path: string): Promise<void> => {
    const entries = await opendir(path).catch(() => null)
    for await (const entry of entries ?? []) {
      if (++files > MOST_FILES) return
      const inner = join(path, entry.name)
      const stat = await lstat(inner).catch(() => null)
      // st_blocks counts units of 512 bytes on every file system (stat(2)); 0 on Windows.
      bytes += Math.max((stat?.blocks ?? 0) * 512, stat?.blocks === undefined ? (stat?.size ?? 0) : 0)
      if (stat?.isDirectory()) await look(inner)
    }
  }
  await look(folder)
  return files > MOST_FILES ? Number.POSITIVE_INFINITY : bytes
}

/** What watchDataFolder needs of a child. */
interface Watched {
  readonly options: { readonly log: Pick<SlotLog, 'add'> }
  readonly alive: boolean
  readonly exited: Promise<void>
  readonly fence: number
  fatal: Cause | null
  kill(): Promise<unknown>
}

/** Ends a program whose data folder stays above its limit (HANDOVER 14.4). */
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
      child.options.log.add('runtime', `${message}: delete files, or the program is ended`, child.fence, 'warn')
    if (above < PATIENCE) return
    child.fatal = { code: 'crashed', message }
    void child.kill()
  }, LOOK_MS * timeScale())
  timer.unref()
  void child.exited.then(() => clearInterval(timer))
}
