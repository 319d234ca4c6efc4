/**
 * The runtimes that were pushed to a robot, in `<home>/runtimes`. Invariant: state.json names a runtime whose tree is whole, or
 * the base install; a kill at any point leaves the old or the new choice (HANDOVER 17.3; test/runtime/store/runtimes.test.ts).
 *
 * The tree of a release is in `<hex of its digest>/tree`, beside the signed release. The digest covers the release, the release
 * has the hash of all files, and so a start needs nothing else to check a tree.
 */
import { existsSync } from 'node:fs'
import { chmod, mkdir, readdir, readFile, readlink, rm, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type TreeFile, treeHash } from '../../deploy/shared/bundle/h1.ts'
import { parseRelease, releaseDigest } from '../../deploy/shared/bundle/release.ts'
import { RUNTIME_MAIN } from '../../deploy/shared/bundle/runtimepackage.ts'
import { Refusal, type RefusalCode } from '../../deploy/shared/errors.ts'
import { makeDirAtomic, recoverDir, removeDirAtomic, syncDir, writeAtomic, writeNew } from './atomic.ts'
import { digestHex } from './entry.ts'
import { readOrNote } from './memory.ts'
import { encodeRecord } from './record.ts'
import type { VerifiedRuntime } from './verifier.ts'

/** A runtime that was pushed. */
export interface PushedRuntime {
  digest: string
  version: string
  counter: number
  /** Version of the base install when it was pushed. */
  base: string
  /** Fingerprints of who signed and who pushed it. */
  signer: string
  pusher: string
  time: string
}

/** A runtime that was undone, and is refused until it is pushed with `--retry`. */
export interface FailedRuntime {
  digest: string
  version: string
  reason: string
  time: string
}

/** What the next body has to write a receipt of. */
export interface RuntimeNews {
  outcome: 'committed' | 'rolled-back'
  /** Null: the base install. */
  from: string | null
  to: string | null
  version: string
  signer?: string
  pusher?: string
  code?: RefusalCode
  reason?: string
}

export interface RuntimeState {
  format: 'medulla-runtimes/1'
  /** The runtime that is started; null: the base install. */
  current: PushedRuntime | null
  /** The runtime before it, to which the robot goes back; null: the base install. */
  previous: PushedRuntime | null
  /** When `current` was chosen. */
  since: string | null
  /** Starts of `current` in a row after which it was not seen healthy. */
  starts: number
  /** Whether `current` was ever healthy. */
  confirmed: boolean
  /** The boot of the last start; the starts of the base install count within one boot only. */
  boot: string | null
  /** Newest first, {@link MAX_FAILED} at most. */
  failed: readonly FailedRuntime[]
  news: readonly RuntimeNews[]
}

/** Trees that are kept: the current one, the previous one, and the newest failed one. */
const MAX_TREES = 3
const MAX_FAILED = 8
const MAX_NEWS = 16

const EMPTY: RuntimeState = {
  format: 'medulla-runtimes/1',
  current: null,
  previous: null,
  since: null,
  starts: 0,
  confirmed: true,
  boot: null,
  failed: [],
  news: [],
}

export const runtimesFolder = (home: string): string => join(home, 'runtimes')

/** Whether a runtime was ever pushed to this home, or a start was ever counted. */
export const hasRuntimes = (home: string): boolean => existsSync(join(runtimesFolder(home), 'state.json'))

export class Runtimes {
  readonly #dir: string
  #state: RuntimeState
  #last: Promise<unknown> = Promise.resolve()
  /** For the log: a file that was damaged, and what it means. */
  readonly problems: string[]

  private constructor(dir: string, state: RuntimeState, problems: string[]) {
    this.#dir = dir
    this.#state = state
    this.problems = problems
  }

  /** For the holder of the home's lock. A damaged state.json counts as none: the base install is started. */
  static async open(home: string): Promise<Runtimes> {
    const dir = runtimesFolder(home)
    if (existsSync(dir)) await recoverDir(dir)
    const problems: string[] = []
    const state = await readOrNote<RuntimeState>(join(dir, 'state.json'), EMPTY.format, problems)
    return new Runtimes(dir, state ?? EMPTY, problems)
  }

  get state(): RuntimeState {
    return this.#state
  }

  /** The file that a start executes. */
  mainOf(digest: string): string {
    return join(this.#treeOf(digest), RUNTIME_MAIN)
  }

  /** Writes a verified runtime to disk; nothing chooses it yet. A tree that is there and whole is kept. */
  install(verified: VerifiedRuntime): Promise<void> {
    return this.#queue(async () => {
      const { digest, releaseBytes, signature, files } = verified
      const path = join(this.#dir, digestHex(digest))
      if (existsSync(path)) {
        const whole = await this.check(digest).then(
          () => true,
          () => false,
        )
        if (whole) return
        await removeDirAtomic(path)
      }
      await mkdir(this.#dir, { recursive: true, mode: 0o700 })
      await this.#makeRoom(digest)
      await makeDirAtomic(path, async (temp) => {
        await writeNew(join(temp, 'release'), releaseBytes)
        await writeNew(join(temp, 'release.sig'), signature)
        await writeTree(join(temp, 'tree'), files)
      })
    })
  }

  /** From now on starts begin with this runtime, which has not been healthy yet. The installed one becomes the previous one. */
  choose(runtime: PushedRuntime): Promise<void> {
    return this.#write((before) => ({
      ...before,
      current: runtime,
      previous: before.current,
      since: runtime.time,
      starts: 0,
      confirmed: false,
      failed: before.failed.filter(({ digest }) => digest !== runtime.digest),
    }))
  }

  /** An operator's order: the previous runtime is the current one again. `time` is now. */
  goBack(time: string): Promise<void> {
    return this.#write((before) => back(before, time))
  }

  /** The base install was replaced after the push, as by apt or npm: it is the newer choice. */
  leaveToBase(time: string): Promise<void> {
    return this.#write((before) => back({ ...before, previous: null }, time))
  }

  /** Puts the previous runtime in the place of one that failed, and remembers which and why. */
  undo(reason: string, time: string): Promise<void> {
    return this.#write((before) => {
      const { current } = before
      if (current === null) return before
      const { digest, version } = current
      const failed = [{ digest, version, reason, time }, ...before.failed.filter((each) => each.digest !== digest)]
      const after = back(before, time)
      const news: RuntimeNews = {
        outcome: 'rolled-back',
        from: digest,
        to: after.current?.digest ?? null,
        version,
        signer: current.signer,
        pusher: current.pusher,
        code: 'died-at-start',
        reason,
      }
      return { ...after, failed: failed.slice(0, MAX_FAILED), news: [...before.news, news].slice(-MAX_NEWS) }
    })
  }

  /** Nothing was replaced: everything is as it was. */
  restore(state: RuntimeState): Promise<void> {
    return this.#write(() => state)
  }

  /** A start begins: it counts as one that failed until {@link confirm} or {@link ended}. */
  started(boot: string | null): Promise<void> {
    return this.#write((before) => {
      const reset = before.current === null && before.boot !== boot
      return { ...before, starts: reset ? 1 : before.starts + 1, boot }
    })
  }

  /**
   * The runtime `healthy` (null: the base install) was seen healthy. Changes nothing when another one is chosen by now: that
   * has not started yet.
   */
  confirm(healthy: string | null): Promise<void> {
    return this.#write((before) => {
      const { current, previous, confirmed, news } = before
      if (healthy !== (current?.digest ?? null)) return before
      const after = { ...before, starts: 0, confirmed: true }
      if (confirmed || current === null) return after
      const { digest, version, signer, pusher } = current
      const one: RuntimeNews = {
        outcome: 'committed',
        from: previous?.digest ?? null,
        to: digest,
        version,
        signer,
        pusher,
      }
      return { ...after, news: [...news, one].slice(-MAX_NEWS) }
    })
  }

  /** The start that was counted last ended by order, before it could be confirmed: it says nothing about the runtime. */
  ended(): Promise<void> {
    return this.#write((before) => ({ ...before, starts: Math.max(0, before.starts - 1) }))
  }

  /** The receipts of these were written. */
  told(count: number): Promise<void> {
    return this.#write((before) => ({ ...before, news: before.news.slice(count) }))
  }

  /** Throws Refusal `bad-hash` when a file of the tree differs from the signed release, is missing or was added. */
  async check(digest: string): Promise<void> {
    const folder = join(this.#dir, digestHex(digest))
    const bytes = await readFile(join(folder, 'release')).catch((cause) => {
      throw changed(digest, `its release cannot be read: ${(cause as NodeJS.ErrnoException).code}`)
    })
    if (releaseDigest(bytes) !== digest) throw changed(digest, 'its release is another one')
    const files = await readTree(this.#treeOf(digest)).catch((cause) => {
      throw changed(digest, (cause as Error).message)
    })
    const [expected, found] = [parseRelease(bytes).h1, treeHash(files)]
    if (found !== expected) throw changed(digest, `expected ${expected}, got ${found}`)
  }

  /** Lets the tree find the packages of the base install. `modules` null: there are none. */
  async link(digest: string, modules: string | null): Promise<void> {
    const path = join(this.#treeOf(digest), LINK)
    if ((await readlink(path).catch(() => null)) === modules) return
    await rm(path, { force: true })
    if (modules !== null) await symlink(modules, path)
    await syncDir(dirname(path))
  }

  /** Resolves when every write has ended. */
  async close(): Promise<void> {
    await this.#last
  }

  #treeOf(digest: string): string {
    return join(this.#dir, digestHex(digest), 'tree')
  }

  /** Removes trees, so that with a new one there are at most {@link MAX_TREES}. */
  async #makeRoom(incoming: string): Promise<void> {
    const { current, previous, failed } = this.#state
    const kept = [current?.digest, previous?.digest, ...failed.map(({ digest }) => digest)]
    const wanted = [...new Set(kept)].filter((digest) => digest !== undefined && digest !== incoming)
    const stay = new Set(wanted.slice(0, MAX_TREES - 1).map((digest) => digestHex(digest as string)))
    const trees = (await readdir(this.#dir)).filter((name) => /^[0-9a-f]{64}$/.test(name))
    for (const name of trees) if (!stay.has(name)) await removeDirAtomic(join(this.#dir, name))
  }

  #write(change: (before: RuntimeState) => RuntimeState): Promise<void> {
    return this.#queue(async () => {
      const after = change(this.#state)
      // No write where nothing changes: most robots never get another runtime.
      if (JSON.stringify(after) === JSON.stringify(this.#state)) return
      await mkdir(this.#dir, { recursive: true, mode: 0o700 })
      await writeAtomic(join(this.#dir, 'state.json'), encodeRecord(after))
      this.#state = after
    })
  }

  #queue<T>(job: () => Promise<T>): Promise<T> {
    const next = this.#last.then(job, job)
    this.#last = next.catch(() => {})
    return next
  }
}

/** In a tree, the only thing that the release does not have. */
const LINK = 'node_modules'

const changed = (digest: string, why: string) =>
  new Refusal('bad-hash', `the runtime ${digest} was changed on disk: ${why}`, 'medulla runtime push')

/** The previous runtime was healthy once: only a confirmed runtime is ever replaced. */
function back(before: RuntimeState, time: string): RuntimeState {
  return { ...before, current: before.previous, previous: null, since: time, starts: 0, confirmed: true }
}

/** Readable for everybody: confined processes of other users load these files, through a mount (HANDLES 13.4). */
async function writeTree(tree: string, files: ReadonlyMap<string, Uint8Array>): Promise<void> {
  const folders = new Set([tree])
  for (const name of files.keys()) {
    for (let path = dirname(join(tree, name)); path !== tree; path = dirname(path)) folders.add(path)
  }
  const sorted = [...folders].sort()
  for (const folder of sorted) await mkdir(folder)
  await Promise.all(
    [...files].map(async ([name, bytes]) => {
      await writeNew(join(tree, name), bytes, 0o644)
      // Again, because the umask of the service takes rights away.
      await chmod(join(tree, name), 0o644)
    }),
  )
  for (const folder of sorted) {
    await chmod(folder, 0o755)
    await syncDir(folder)
  }
}

async function readTree(tree: string): Promise<TreeFile[]> {
  const found: TreeFile[] = []
  const walk = async (folder: string): Promise<void> => {
    for (const entry of await readdir(join(tree, folder), { withFileTypes: true })) {
      const name = folder === '' ? entry.name : `${folder}/${entry.name}`
      if (entry.isDirectory()) await walk(name)
      else if (entry.isFile()) found.push({ name, bytes: await readFile(join(tree, name)) })
      else if (name !== LINK || !entry.isSymbolicLink()) throw new Error(`${name} is no regular file`)
    }
  }
  await walk('')
  return found
}
