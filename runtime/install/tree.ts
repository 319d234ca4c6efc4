/**
 * The files below a root folder. Invariant: nothing outside of the root is read or written, and a reader sees the whole old
 * file or the whole new one, also after a kill (test/install/tree.test.ts).
 *
 * A temporary file has a fixed name beside its target, so a run that was killed leaves nothing that the next one does not
 * replace or remove.
 */
import {
  accessSync,
  closeSync,
  constants,
  fchmodSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { Refusal } from '../../deploy/shared/errors.ts'

export class Tree {
  readonly root: string

  /** Throws Refusal `not-found` when there is no such folder. */
  constructor(root: string) {
    try {
      this.root = realpathSync(root)
    } catch (cause) {
      throw new Refusal('not-found', `there is no folder ${root}`, 'mkdir -p it first, or name another --root', {
        cause,
      })
    }
  }

  /** The place of a path of the robot on this computer. Throws `unsafe-home` when a link leads out of the root. */
  at(path: string): string {
    const place = join(this.root, path)
    if (this.root === '/') return place
    let folder = dirname(place)
    while (folder !== this.root && !exists(folder)) folder = dirname(folder)
    const real = realpathSync(folder)
    if (real === this.root || real.startsWith(`${this.root}/`)) return place
    throw new Refusal(
      'unsafe-home',
      `${folder} is a link that leads out of ${this.root}, to ${real}`,
      `ls -ld ${folder}`,
    )
  }

  /** Null: there is no such file. */
  text(path: string): string | null {
    const place = this.at(path)
    // A link inside of another root would be followed on this computer.
    if (this.root !== '/' && isLink(place)) return null
    return orNull(() => readFileSync(place, 'utf8'))
  }

  link(path: string): string | null {
    return orNull(() => readlinkSync(this.at(path)))
  }

  isFolder(path: string): boolean {
    return orNull(() => lstatSync(this.at(path)).isDirectory()) ?? false
  }

  has(path: string): boolean {
    return exists(this.at(path))
  }

  /** Throws Refusal `not-written`, before anything was changed, when the file or folder could not be made there. */
  checkWritable(path: string): void {
    let folder = dirname(this.at(path))
    while (!exists(folder)) folder = dirname(folder)
    this.#try(path, () => accessSync(folder, constants.W_OK | constants.X_OK))
  }

  /** `mode` null: that of the file that is replaced, as FAT allows. */
  write(path: string, text: string, mode: number | null): void {
    this.#try(path, () => {
      const place = this.at(path)
      mkdirSync(dirname(place), { recursive: true, mode: 0o755 })
      const temporary = temporaryOf(place)
      rmSync(temporary, { force: true })
      const fd = openSync(temporary, 'wx', mode ?? 0o644)
      try {
        writeFileSync(fd, text)
        if (mode !== null) fchmodSync(fd, mode)
        else orNull(() => fchmodSync(fd, statSync(place).mode & 0o777))
        fsyncSync(fd)
      } finally {
        closeSync(fd)
      }
      renameSync(temporary, place)
      sync(dirname(place))
    })
  }

  makeFolder(path: string, mode: number): void {
    this.#try(path, () => {
      mkdirSync(this.at(path), { recursive: true, mode })
    })
  }

  makeLink(path: string, target: string): void {
    this.#try(path, () => {
      const place = this.at(path)
      mkdirSync(dirname(place), { recursive: true, mode: 0o755 })
      rmSync(temporaryOf(place), { force: true })
      symlinkSync(target, temporaryOf(place))
      renameSync(temporaryOf(place), place)
      sync(dirname(place))
    })
  }

  /** Removes a file or link, what a killed run left beside it, and then its folder if that is one of `folders` and empty. */
  remove(path: string, folders: readonly string[] = []): void {
    this.#try(path, () => {
      const place = this.at(path)
      rmSync(place, { force: true })
      rmSync(temporaryOf(place), { force: true })
      if (folders.includes(dirname(path))) orNull(() => rmdirSync(dirname(place)))
    })
  }

  /** What a killed run left beside the file. */
  clearTemporary(path: string): void {
    const temporary = temporaryOf(this.at(path))
    if (exists(temporary)) this.#try(path, () => rmSync(temporary, { force: true }))
  }

  removeAll(path: string): void {
    this.#try(path, () => rmSync(this.at(path), { recursive: true, force: true }))
  }

  #try(path: string, action: () => void): void {
    try {
      action()
    } catch (cause) {
      if (cause instanceof Refusal) throw cause
      const { code = String(cause) } = cause as NodeJS.ErrnoException
      throw new Refusal('not-written', `${path} cannot be written: ${code}`, hintFor(path, code), { cause })
    }
  }
}

function hintFor(path: string, code: string): string {
  if (code === 'EROFS' && path.startsWith('/boot/'))
    return `sudo mount -o remount,rw ${path.split('/').slice(0, 3).join('/')}`
  if (code === 'EROFS') return 'sudo mount -o remount,rw /, and then the same command again'
  if (code === 'ENOSPC') return 'df -h shows which disk is full; make room, and then the same command again'
  if (code === 'EACCES') return `ls -ld ${dirname(path)} shows who may write there`
  if (code === 'EPERM') return `lsattr ${path} shows whether the file is locked (chattr -i unlocks it)`
  return `ls -l ${path}`
}

const temporaryOf = (place: string): string => join(dirname(place), `.${basename(place)}.medulla-new`)

function exists(place: string): boolean {
  return orNull(() => lstatSync(place)) !== null
}

const isLink = (place: string): boolean => orNull(() => lstatSync(place).isSymbolicLink()) ?? false

/** The result, or null when there is nothing of that name, or the file system does not know such a thing. */
function orNull<T>(read: () => T): T | null {
  try {
    return read()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ENOTEMPTY' || code === 'EINVAL' || code === 'EPERM')
      return null
    throw error
  }
}

/** Names in a folder are on disk once the folder is; FAT refuses that. */
function sync(folder: string): void {
  try {
    const fd = openSync(folder, 'r')
    try {
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
  } catch {
    // the file itself is on disk
  }
}
