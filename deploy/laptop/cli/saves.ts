/**
 * Watches the files of a program for `medulla watch`. Invariant: no save is lost: the files that are saved while nobody waits
 * in next() are returned by its next call, all together (test/deploy/laptop/cli/watch.test.ts).
 */
import { statSync } from 'node:fs'
import { basename, dirname, sep } from 'node:path'
import type { FSWatcher } from 'chokidar'

/** A save is complete after this time without a further file: editors and checkouts write files one after the other. */
const SETTLE_MS = 5

/**
 * chokidar reports no second change of a file within 50 ms, and a formatter that runs on save is that quick: look again
 * after this.
 */
const RECHECK_MS = 60

export class Saves {
  readonly #watcher: FSWatcher
  readonly #folders: Set<string>
  /** null: every file in the folders counts, since it is not known which files the build needs */
  #files: ReadonlySet<string> | null = null
  readonly #saved = new Set<string>()
  #onSave = (): void => {}

  private constructor(watcher: FSWatcher, folders: Set<string>) {
    this.#watcher = watcher
    this.#folders = folders
    watcher.on('all', (event, path) => {
      if (event === 'addDir' && this.#files === null) this.#watchFolder(path)
      if (event.endsWith('Dir') || this.#files?.has(path) === false) return
      this.#save(path)
    })
    watcher.on('error', () => {}) // if a folder is gone, the next build says so
  }

  /** Watches folders rather than files, because many editors save by renaming a new file over the old one. */
  static async open(folder: string): Promise<Saves> {
    const { watch } = await import('chokidar')
    const folders = new Set([folder])
    const watcher = watch(folder, {
      depth: 0,
      ignoreInitial: true,
      ignored: (path) => !folders.has(path) && isNoise(basename(path)),
    })
    await new Promise<void>((resolve) => watcher.once('ready', resolve))
    return new Saves(watcher, folders)
  }

  /** From now on saves of these files count; with `all`, saves of every file in their folders. */
  follow(files: readonly string[], all = false): void {
    const own = files.filter((file) => !file.includes(`${sep}node_modules${sep}`))
    for (const file of own) this.#watchFolder(dirname(file))
    this.#files = all ? null : new Set(own)
  }

  get pending(): boolean {
    return this.#saved.size > 0
  }

  /** Whether a save is pending now, or comes within this time. */
  async within(ms: number): Promise<boolean> {
    return this.pending || this.#event(ms)
  }

  /** Waits for a save, and returns the paths of its files. */
  async next(): Promise<string[]> {
    while (!this.pending) await this.#event()
    while (await this.#event(SETTLE_MS)) {
      // further files of the same save
    }
    const saved = [...this.#saved]
    this.#saved.clear()
    return saved
  }

  close(): Promise<void> {
    return this.#watcher.close()
  }

  #save(path: string): void {
    this.#saved.add(path)
    this.#onSave()
    const time = changedAt(path)
    setTimeout(() => {
      if (changedAt(path) !== time) this.#save(path)
    }, RECHECK_MS).unref()
  }

  /** Waits for the next event; false when none came within this time. */
  #event(withinMs?: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = withinMs === undefined ? undefined : setTimeout(() => resolve(false), withinMs)
      this.#onSave = () => {
        clearTimeout(timer)
        resolve(true)
      }
    })
  }

  #watchFolder(folder: string): void {
    if (this.#folders.has(folder)) return
    this.#folders.add(folder)
    this.#watcher.add(folder)
  }
}

/** Modification time in ns; null: the file does not exist. */
const changedAt = (path: string): bigint | null =>
  statSync(path, { bigint: true, throwIfNoEntry: false })?.mtimeNs ?? null

/** Backups and swap files of editors, and node_modules. */
const isNoise = (name: string): boolean => name.startsWith('.') || name.endsWith('~') || name === 'node_modules'
