/** Reads the files of a medulla package that a robot needs, from a folder or from the tarball that `npm pack` makes (BUNDLE 14.1). */
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import type { TreeFile } from '../shared/bundle/h1.ts'
import { LIMITS } from '../shared/bundle/limits.ts'
import { checkRuntime, parseRuntimePackage, RUNTIME_PACKAGE, RUNTIME_PROGRAM } from '../shared/bundle/runtimepackage.ts'
import { library } from '../shared/bundle/tar.ts'
import { Refusal } from '../shared/errors.ts'

/** Written by the build of medulla: the files that the processes of a robot load. */
const LIST = 'dist/runtime/files.json'
/** npm puts every file of a package below this folder. */
const TARBALL_ROOT = 'package/'

export interface RuntimeFiles {
  files: TreeFile[]
  program: string
  version: string
  node: string
}

type Read = (name: string) => Promise<Uint8Array>

/** `path` is the folder of a package, or a .tgz file. Throws `build-failed`. */
export async function readRuntime(path: string): Promise<RuntimeFiles> {
  const found = await stat(path).catch(() => undefined)
  if (found === undefined) throw new Refusal('usage', `no such file or folder: ${path}`)
  const fail = (what: string, cause?: unknown) =>
    new Refusal('build-failed', `${path} is no package of medulla: ${what}`, 'npm pack medulla', { cause })
  const read: Read = found.isDirectory() ? (name) => readFile(join(path, name)) : await tarball(path, fail)
  const file = (name: string) =>
    read(name).catch((cause: Error) => {
      throw fail(`${name} cannot be read (${(cause as NodeJS.ErrnoException).code ?? cause.message})`, cause)
    })
  const about = await file(RUNTIME_PACKAGE)
  const { version, node } = parse(about, fail)
  const names = namesIn(await file(LIST), fail)
  const others = await Promise.all(names.map(async (name) => ({ name, bytes: await file(name) })))
  const files = [{ name: RUNTIME_PACKAGE, bytes: about }, ...others]
  const release = { program: RUNTIME_PROGRAM, version, node }
  checkRuntime(release, new Map(files.map(({ name, bytes }) => [name, bytes])))
  return { files, ...release }
}

type Fail = (what: string, cause?: unknown) => Refusal

function parse(bytes: Uint8Array, fail: Fail) {
  try {
    return parseRuntimePackage(bytes)
  } catch (cause) {
    throw fail((cause as Error).message, cause)
  }
}

function namesIn(bytes: Uint8Array, fail: Fail): string[] {
  try {
    const { files } = JSON.parse(Buffer.from(bytes).toString()) as { files?: unknown }
    if (Array.isArray(files) && files.every((name) => typeof name === 'string' && name.startsWith('dist/')))
      return files
  } catch {
    // not JSON: refused below
  }
  throw fail(`${LIST} is malformed`)
}

async function tarball(path: string, fail: Fail): Promise<Read> {
  const packed = await readFile(path)
  const tar = await promisify(gunzip)(packed, { maxOutputLength: LIMITS.unpacked }).catch((cause: unknown) => {
    throw fail('it is no .tgz file', cause)
  })
  const { extract } = await library()
  const files = new Map<string, Uint8Array>()
  await new Promise<void>((resolve, reject) => {
    const reader = extract()
    reader.on('error', (cause) => reject(fail('its tar is malformed', cause)))
    reader.on('entry', ({ name }, stream, next) => {
      const parts: Uint8Array[] = []
      stream.on('data', (part) => parts.push(part as Uint8Array))
      stream.on('end', () => {
        if (name.startsWith(TARBALL_ROOT)) files.set(name.slice(TARBALL_ROOT.length), Buffer.concat(parts))
        next()
      })
      stream.resume()
    })
    reader.on('finish', () => resolve())
    reader.end(tar)
  })
  return async (name) => {
    const bytes = files.get(name)
    if (bytes === undefined) throw new Error('it is absent')
    return bytes
  }
}
