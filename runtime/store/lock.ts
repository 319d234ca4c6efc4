/**
 * Invariant: a lock has at most one holder among live processes, and a killed holder does not keep it
 * (test/runtime/store/home.test.ts).
 *
 * The lock is a folder of numbered files; the holder's file has the highest number. It is made with link(2), which fails when
 * the name exists, and shows only whole files. Only numbers below the highest are removed, so a process that decided on an
 * outdated listing cannot win: its number exists already, or it finds a higher one when it lists the folder again.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { link, mkdir, readdir, readFile, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Refusal } from '../../deploy/shared/errors.ts'
import { recoverDir, tempName, writeAtomic } from './atomic.ts'
import { isMissing } from './record.ts'

interface Holder {
  pid: number
  /** Start time of the process, so that a recycled pid is not taken for the holder; null where there is no /proc. */
  start: string | null
  boot: string | null
  nonce: string
  released: boolean
}

export interface Lock {
  /** Idempotent. */
  release(): Promise<void>
}

/** Null where there is no /proc. */
export function bootId(): string | null {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    return null
  }
}

/** State and start time, fields 3 and 22 of proc_pid_stat(5). Null: there is no such process. */
function processStart(pid: number): { state: string; start: string } | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return { state: fields[0] ?? '', start: fields[19] ?? '' }
  } catch {
    return null
  }
}

function isAlive(holder: Holder): boolean {
  const boot = bootId()
  if (holder.released || holder.boot !== boot) return false
  if (boot === null) {
    try {
      process.kill(holder.pid, 0)
      return true
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'EPERM'
    }
  }
  const found = processStart(holder.pid)
  // A zombie has ended, and only waits for its parent.
  return found !== null && found.start === holder.start && found.state !== 'Z' && found.state !== 'X'
}

/** Null: the file is damaged by a power cut, so its boot is over; or a newer holder has removed it. */
async function readHolder(path: string): Promise<Holder | null> {
  try {
    const value = JSON.parse(await readFile(path, 'utf8')) as Partial<Holder> | null
    if (typeof value?.pid !== 'number' || typeof value.nonce !== 'string') return null
    return {
      pid: value.pid,
      start: value.start ?? null,
      boot: value.boot ?? null,
      nonce: value.nonce,
      released: value.released === true,
    }
  } catch (error) {
    if (isMissing(error) || error instanceof SyntaxError) return null
    throw error
  }
}

async function numbers(dir: string): Promise<number[]> {
  const names = await readdir(dir)
  return names
    .filter((name) => /^[1-9][0-9]{0,14}$/.test(name))
    .map(Number)
    .sort((a, b) => b - a)
}

/**
 * Throws Refusal `in-progress`, which names the holder. `what` is the subject of that message: `the robot home /x`. `inherited`: the lock of
 * this process, from before it was replaced by execve(2), is taken over.
 */
export async function takeLock(dir: string, what: string, inherited = false): Promise<Lock> {
  await mkdir(dir, { recursive: true, mode: 0o700 })
  const highest = (await numbers(dir))[0] ?? 0
  const holder = highest === 0 ? null : await readHolder(join(dir, String(highest)))
  const isOurs = inherited && holder?.pid === process.pid
  if (holder !== null && isAlive(holder) && !isOurs) throw held(what, holder.pid)

  const mine = highest + 1
  const path = join(dir, String(mine))
  const self: Holder = {
    pid: process.pid,
    start: processStart(process.pid)?.start ?? null,
    boot: bootId(),
    nonce: randomBytes(16).toString('hex'),
    released: false,
  }
  const temp = join(dir, tempName())
  await writeFile(temp, JSON.stringify(self), { mode: 0o600, flag: 'wx' })
  try {
    await link(temp, path)
  } catch (error) {
    // ENOENT: a new holder has removed the temporary file.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST' && !isMissing(error)) throw error
    throw held(what, (await readHolder(path))?.pid ?? null)
  } finally {
    await unlink(temp).catch(() => {})
  }
  const now = await numbers(dir)
  if (now[0] !== mine) {
    await unlink(path).catch(() => {})
    throw held(what, (await readHolder(join(dir, String(now[0]))))?.pid ?? null)
  }
  await recoverDir(dir)
  for (const old of now.slice(1)) await unlink(join(dir, String(old))).catch(() => {})
  let done = false
  return {
    async release() {
      if (done) return
      done = true
      // Marked and kept: if the file were removed, its number could be taken again.
      await writeAtomic(path, JSON.stringify({ ...self, released: true }))
    },
  }
}

/** The pid of the live process that holds the lock; null when there is none. */
export async function holderOf(dir: string): Promise<number | null> {
  const highest = (await numbers(dir).catch(() => []))[0]
  const holder = highest === undefined ? null : await readHolder(join(dir, String(highest)))
  return holder !== null && isAlive(holder) ? holder.pid : null
}

function held(what: string, pid: number | null): Refusal {
  const by = pid === null ? 'another process' : `process ${pid}`
  return new Refusal(
    'in-progress',
    `${what} is in use by ${by}`,
    pid === null ? undefined : `stop it first: kill ${pid}`,
  )
}
