/** Invariant: no save is lost: what is saved while nobody waits is told at the next call, all of it together. */
import { statSync } from 'node:fs'
import { basename, dirname, sep } from 'node:path'
import type { FSWatcher } from 'chokidar'

/** A save is over when nothing more came for this long: editors and checkouts write files one after the other. */
const SETTLE_MS = 5

/** For 50 ms after a change of a file chokidar tells no other one of it: a formatter that runs on save is that quick. */
const UNTOLD_MS = 60

export class Saves {
  readonly #watcher: FSWatcher
  readonly #folders: Set<string>
  /** null: whatever lies in the folders counts, as what the build needs is not known */
  #files: ReadonlySet<string> | null = null
  readonly #saved = new Set<string>()
  #told = (): void => {}

  private constructor(watcher: FSWatcher, folders: Set<string>) {
    this.#watcher = watcher
    this.#folders = folders
    watcher.on('all', (event, path) => {
      if (event === 'addDir' && this.#files === null) this.#look(path)
      if (event.endsWith('Dir') || this.#files?.has(path) === false) return
      this.#save(path)
    })
    watcher.on('error', () => {}) // a folder that has gone is seen by the build
  }

  /** Folders rather than files are watched: many editors save by moving a new file into the place of the old one. */
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

  /** From now on a save of these counts; of anything beside them, too, when `all`. */
  follow(files: readonly string[], all = false): void {
    const own = files.filter((file) => !file.includes(`${sep}node_modules${sep}`))
    for (const file of own) this.#look(dirname(file))
    this.#files = all ? null : new Set(own)
  }

  get pending(): boolean {
    return this.#saved.size > 0
  }

  /** Whether there is a save that nobody was told, now or within this time. */
  async within(ms: number): Promise<boolean> {
    return this.pending || this.#event(ms)
  }

  /** Waits for a save; paths of its files. */
  async next(): Promise<string[]> {
    while (!this.pending) await this.#event()
    while (await this.#event(SETTLE_MS)) {
      // more of it
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
    this.#told()
    const time = changedAt(path)
    setTimeout(() => {
      if (changedAt(path) !== time) this.#save(path)
    }, UNTOLD_MS).unref()
  }

  /** False when none came in this time. */
  #event(withinMs?: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = withinMs === undefined ? undefined : setTimeout(() => resolve(false), withinMs)
      this.#told = () => {
        clearTimeout(timer)
        resolve(true)
      }
    })
  }

  #look(folder: string): void {
    if (this.#folders.has(folder)) return
    this.#folders.add(folder)
    this.#watcher.add(folder)
  }
}

/** null: it is not there. */
const changedAt = (path: string): bigint | null =>
  statSync(path, { bigint: true, throwIfNoEntry: false })?.mtimeNs ?? null

/** Backups and swap files of editors, and what no program is made of. */
const isNoise = (name: string): boolean => name.startsWith('.') || name.endsWith('~') || name === 'node_modules'
