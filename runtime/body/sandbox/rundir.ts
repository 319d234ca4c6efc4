/**
 * The folder of a program instance, in memory, removed when the instance ends. It holds the extracted program, the outbox and
 * inbox, a scratch file for rehearsals, and the FIFO through which the instance hands over to its successor (HANDOVER 5, 6).
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  accessSync,
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

function memoryFolder(): string {
  for (const folder of ['/dev/shm', '/run']) {
    try {
      accessSync(folder, constants.W_OK)
      return folder
    } catch {
      // Try the next folder.
    }
  }
  return tmpdir()
}

export interface RunDir {
  readonly path: string
  readonly outbox: string
  readonly inbox: string
  readonly fifo: string
  readonly scratch: string
  remove(): void
}

/** The folder for the files of the bundle: it exists, and is empty, when the instance is started. */
export const programOf = ({ path }: Pick<RunDir, 'path'>): string => join(path, 'program')

export interface SavedRunDirs {
  readonly base: string
  readonly count: number
}

export function runDirAt(path: string): RunDir {
  const [outbox, inbox, fifo, scratch] = ['outbox', 'inbox', 'handover', 'scratch'].map((name) => join(path, name)) as [
    string,
    string,
    string,
    string,
  ]
  return {
    path,
    outbox,
    inbox,
    fifo,
    scratch,
    remove: () => {
      rmSync(path, { recursive: true, force: true })
      rmSync(`${path}.channels`, { force: true })
    },
  }
}

/** Makes the folders of all instances. */
export class RunDirs {
  readonly base: string
  #count = 0
  /** The next folder, made ahead: mkfifo(1) costs a process. */
  #ahead: Promise<RunDir> | null = null

  /**
   * Removes the folders that a killed runtime of this home left: the home is locked, so no other one is using them. With
   * `kept` it goes on with those of the last runtime (HANDOVER 18).
   */
  constructor(home: string, kept?: SavedRunDirs) {
    if (kept !== undefined) {
      this.base = kept.base
      this.#count = kept.count
      return
    }
    const memory = memoryFolder()
    const prefix = `medulla-${createHash('sha256').update(home).digest('hex').slice(0, 16)}-`
    for (const name of readdirSync(memory)) {
      if (name.startsWith(prefix)) rmSync(join(memory, name), { recursive: true, force: true })
    }
    this.base = mkdtempSync(join(memory, prefix))
  }

  make(): Promise<RunDir> {
    const dir = this.#ahead ?? this.#make()
    this.#ahead = null
    return dir
  }

  prepare(): void {
    this.#ahead ??= this.#make()
    this.#ahead.catch(() => {})
  }

  save(): SavedRunDirs {
    return { base: this.base, count: this.#count }
  }

  async #make(): Promise<RunDir> {
    const path = join(this.base, String(++this.#count))
    mkdirSync(path, { mode: 0o700 })
    mkdirSync(programOf({ path }), { mode: 0o700 })
    const dir = runDirAt(path)
    for (const file of [dir.outbox, dir.inbox, dir.scratch]) writeFileSync(file, '', { mode: 0o600 })
    await run('mkfifo', ['-m', '600', dir.fifo])
    return dir
  }

  close(): void {
    rmSync(this.base, { recursive: true, force: true })
  }
}

/**
 * Opens one end of a FIFO in blocking mode without waiting for the other end (HANDOVER 6.2). A read-write descriptor is open
 * for that moment only, so that the body keeps no end.
 */
export function openFifoEnd(path: string, end: 'read' | 'write'): number {
  const guard = openSync(path, constants.O_RDWR)
  try {
    return openSync(path, end === 'read' ? constants.O_RDONLY : constants.O_WRONLY)
  } finally {
    closeSync(guard)
  }
}
