/**
 * Reads and writes tars. Invariant: a list of files has exactly one tar that is accepted, the one that writeTar() makes
 * (BUNDLE 5.1; test/deploy/shared/bundle/payload.test.ts).
 */
import { Refusal } from '../errors.ts'
import type { TreeFile } from './h1.ts'
import { LIMITS } from './limits.ts'

/** Path segments of plain ASCII that do not begin with a dot: no escapes, no hidden files, no `..`. */
const NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]*(\/[A-Za-z0-9_][A-Za-z0-9._-]*)*$/
const EPOCH = new Date(0)

/**
 * Loads tar-stream, which takes 10 ms: call it early, while waiting for something else. In our bundle the CommonJS package
 * is only its `default`.
 */
export async function library(): Promise<typeof import('tar-stream')> {
  return (await import('tar-stream')).default
}

export const isFileName = (name: string): boolean => name.length <= LIMITS.name && NAME.test(name)

function checkNames(files: readonly TreeFile[]): void {
  if (files.length > LIMITS.files) throw new Refusal('too-large', `tar: ${files.length} files, at most ${LIMITS.files}`)
  const seen = new Map<string, string>()
  for (const { name } of files) {
    if (!isFileName(name)) {
      throw new Refusal('bad-bundle', `tar: bad file name ${JSON.stringify(name.slice(0, LIMITS.name))}`)
    }
    const other = seen.get(name.toLowerCase())
    if (other === name) throw new Refusal('bad-bundle', `tar: two files are named '${name}'`)
    // the two names are one file on some file systems (BUNDLE 5.7)
    if (other !== undefined) throw new Refusal('bad-bundle', `tar: '${other}' and '${name}' differ only in case`)
    seen.set(name.toLowerCase(), name)
  }
  for (const name of seen.values()) {
    for (let end = name.indexOf('/'); end >= 0; end = name.indexOf('/', end + 1)) {
      const file = seen.get(name.slice(0, end).toLowerCase())
      if (file !== undefined) throw new Refusal('bad-bundle', `tar: '${file}' is a file, and the folder of '${name}'`)
    }
  }
}

async function chunks(files: readonly TreeFile[]): Promise<Uint8Array[]> {
  checkNames(files)
  const { pack } = await library()
  const tar = pack()
  const parts: Uint8Array[] = []
  tar.on('data', (part) => parts.push(part as Uint8Array))
  const ended = new Promise<void>((resolve, reject) => {
    tar.on('end', resolve)
    tar.on('error', reject)
  })
  for (const { name, bytes } of files) {
    const header = { name, size: bytes.length, type: 'file', mode: 0o644, uid: 0, gid: 0, mtime: EPOCH } as const
    const content = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    await new Promise<void>((resolve, reject) => {
      tar.entry(header, content, (error) => (error ? reject(error) : resolve()))
    })
  }
  tar.finalize()
  await ended
  return parts
}

/** The tar of a list of files, sorted by name or in the given order. */
export async function writeTar(files: readonly TreeFile[], order: 'sorted' | 'given' = 'sorted'): Promise<Uint8Array> {
  const list = [...files]
  if (order === 'sorted') list.sort((a, b) => (a.name < b.name ? -1 : 1))
  return Buffer.concat(await chunks(list))
}

/** The files of a tar. Their bytes may be views of `tar`: do not change them. */
export async function readTar(tar: Uint8Array, order: 'sorted' | 'given' = 'sorted'): Promise<TreeFile[]> {
  // whole blocks of 512 bytes, and two zero blocks at the end (BUNDLE 5.1)
  if (tar.length < 1024 || tar.length % 512 !== 0)
    throw new Refusal('truncated', `tar: ${tar.length} bytes are no archive`)
  const files = await entries(tar)
  checkNames(files)
  if (order === 'sorted') {
    for (let i = 1; i < files.length; i++) {
      const [before, here] = [files[i - 1]?.name ?? '', files[i]?.name ?? '']
      if (!(before < here)) throw new Refusal('bad-bundle', `tar: '${here}' comes after '${before}'`)
    }
  }
  // this one comparison checks types, modes, owners, times, padding and trailing bytes (BUNDLE 5.2)
  let at = 0
  for (const part of await chunks(files)) {
    if (Buffer.compare(part, tar.subarray(at, at + part.length)) !== 0) {
      throw new Refusal('bad-bundle', `tar: byte ${at} on is not in canonical form`)
    }
    at += part.length
  }
  if (at !== tar.length) throw new Refusal('bad-bundle', `tar: ${tar.length - at} trailing bytes`)
  return files
}

async function entries(tar: Uint8Array): Promise<TreeFile[]> {
  const { extract } = await library()
  return new Promise((resolve, reject) => {
    const files: TreeFile[] = []
    const reader = extract()
    const fail = (error: unknown): void => {
      const cause =
        error instanceof Refusal ? error : new Refusal('bad-bundle', 'tar: malformed', undefined, { cause: error })
      reader.destroy()
      reject(cause)
    }
    reader.on('error', fail)
    reader.on('entry', (header, stream, next) => {
      stream.on('error', fail)
      if (header.type !== 'file')
        return fail(new Refusal('bad-bundle', `tar: '${header.name.slice(0, 80)}' is no regular file`))
      if (files.length >= LIMITS.files) return fail(new Refusal('too-large', `tar: more than ${LIMITS.files} files`))
      const parts: Uint8Array[] = []
      stream.on('data', (part) => parts.push(part as Uint8Array))
      stream.on('end', () => {
        files.push({ name: header.name, bytes: parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts) })
        next()
      })
      stream.resume()
    })
    reader.on('finish', () => resolve(files))
    reader.end(Buffer.from(tar.buffer, tar.byteOffset, tar.length))
  })
}
