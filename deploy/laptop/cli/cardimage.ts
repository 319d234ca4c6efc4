/**
 * The FAT partition of a card image, read and written without root by mtools. The image is the one of `npm run image`: a DOS
 * partition table whose first partition has the firmware and medulla.toml.
 */
import { spawn } from 'node:child_process'
import { closeSync, openSync, readSync } from 'node:fs'
import { chmod, rename, rm } from 'node:fs/promises'
import { Refusal } from '../../shared/errors.ts'

/** Bytes of the partition table, where its first entry is, and what an entry has where (UEFI specification 2.10, 5.2.1). */
const TABLE = { size: 512, signature: 510, first: 446, type: 4, start: 8, sector: 512 }
const FAT32 = [0x0b, 0x0c]
/** In cmdline.txt of every image of ours. */
const OURS = 'root=LABEL=medulla-root'

export class CardImage {
  /** The image and the partition's first byte, as mtools wants it. */
  readonly #drive: string

  private constructor(drive: string) {
    this.#drive = drive
  }

  /** Throws Refusal `usage` for another file than a Medulla card image, and `not-found` without mtools. */
  static async open(path: string): Promise<CardImage> {
    const image = new CardImage(`${path}@@${fatOffset(path)}`)
    const cmdline = await image.read('cmdline.txt')
    if (cmdline?.includes(OURS) !== true) throw isNoImage(path, 'its first partition is not that of a Medulla card')
    return image
  }

  /** Undefined when the partition has no such file. */
  async read(name: string): Promise<string | undefined> {
    const { status, stdout } = await mtool('mtype', ['-i', this.#drive, `::${name}`])
    return status === 0 ? stdout : undefined
  }

  /** Replaces a file that is there. Throws Refusal `internal` with what mtools says, such as a full disk. */
  async write(name: string, content: string | Uint8Array): Promise<void> {
    const { status, stderr } = await mtool('mcopy', ['-o', '-i', this.#drive, '-', `::${name}`], content)
    if (status !== 0) throw new Refusal('internal', `${name} could not be written into the image: ${stderr.trim()}`)
  }

  /** False when the partition has no such file. Throws Refusal `internal` with what mtools says. */
  async remove(name: string): Promise<boolean> {
    const found = await mtool('mdir', ['-b', '-i', this.#drive, `::${name}`])
    if (found.status !== 0) return false
    const { status, stderr } = await mtool('mdel', ['-i', this.#drive, `::${name}`])
    if (status !== 0) throw new Refusal('internal', `${name} could not be removed from the image: ${stderr.trim()}`)
    return true
  }
}

/** Writes the image in `from` (.img or .img.zst) to `to`, which only this user may read, or leaves no file. */
export async function copyImage(from: string, to: string): Promise<void> {
  const part = `${to}.part`
  const [command, args] = from.endsWith('.zst')
    ? ['zstd', ['--decompress', '--long=27', '--force', '--quiet', from, '-o', part]]
    : ['cp', ['--', from, part]]
  try {
    const { status, stderr } = await ended(command as string, args as string[], '', 'zstd')
    if (status !== 0) throw new Refusal('not-found', `${from} could not be read: ${stderr.trim()}`)
    // it gets the key of a Wi-Fi
    await chmod(part, 0o600)
    await rename(part, to)
  } finally {
    await rm(part, { force: true })
  }
}

function fatOffset(path: string): number {
  const table = Buffer.alloc(TABLE.size)
  let fd: number
  try {
    fd = openSync(path, 'r')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const hint = 'medulla image --from medulla-0.1.0-arm64.img.zst OUT.img   makes it'
    if (code === 'ENOENT') throw new Refusal('not-found', `there is no file ${path}`, hint)
    throw new Refusal('usage', `${path} cannot be read: ${code}`)
  }
  try {
    readSync(fd, table, 0, TABLE.size, 0)
  } finally {
    closeSync(fd)
  }
  if (table.readUInt16LE(TABLE.signature) !== 0xaa55) {
    throw isNoImage(path, path.endsWith('.zst') ? 'it is compressed' : 'it has no partition table')
  }
  const entry = table.subarray(TABLE.first)
  if (!FAT32.includes(entry[TABLE.type] ?? 0)) throw isNoImage(path, 'its first partition is not FAT')
  return entry.readUInt32LE(TABLE.start) * TABLE.sector
}

function isNoImage(path: string, why: string): Refusal {
  const hint = 'npm run image makes one; medulla image --from IMAGE.img.zst OUT.img unpacks it first'
  return new Refusal('usage', `${path} is not a card image of Medulla: ${why}`, hint)
}

interface Ended {
  status: number | null
  stdout: string
  stderr: string
}

function mtool(command: string, args: string[], input: string | Uint8Array = ''): Promise<Ended> {
  return ended(command, args, input, 'mtools')
}

async function ended(command: string, args: string[], input: string | Uint8Array, tool: string): Promise<Ended> {
  // no settings of the user: they could name another drive
  const env = { ...process.env, LC_ALL: 'C', MTOOLSRC: '/dev/null', MTOOLS_SKIP_CHECK: '1' }
  const child = spawn(command, args, { env })
  const texts = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      texts[name] += text
    })
  }
  // a tool that ends before it has read everything says why on stderr
  child.stdin.on('error', () => {}).end(input)
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('close', resolve).once('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') return reject(error)
      const install = `sudo apt install ${tool}   (macOS: brew install ${tool})`
      reject(new Refusal('not-found', `this needs ${tool}, which is not installed`, install))
    })
  })
  return { status, ...texts }
}
