/** Installs the packages of a lock file for a rebuild, without scripts of theirs. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { isObject, type JsonObject } from '../../shared/bundle/strict.ts'
import { Refusal } from '../../shared/errors.ts'

const run = promisify(execFile)
const MAX_OUTPUT = 16 * 1024 * 1024
const FILES = ['package.json', 'package-lock.json'] as const

/** `folder` has both files, which are unchanged afterwards. Throws `build-failed`. */
export async function installPackages(folder: string): Promise<void> {
  const texts = await Promise.all(FILES.map((name) => readFile(join(folder, name), 'utf8')))
  const changed = withoutLinks(folder, texts)
  if (changed !== null) await writeFiles(folder, changed)
  try {
    await npmCi(folder)
  } finally {
    if (changed !== null) await writeFiles(folder, texts)
  }
}

async function writeFiles(folder: string, texts: readonly string[]): Promise<void> {
  for (const [index, name] of FILES.entries()) await writeFile(join(folder, name), texts[index] ?? '')
}

/**
 * The two files without links to folders that are not here, as `medulla new` makes one to medulla itself: npm ci refuses them.
 * Null if there is no such link.
 */
function withoutLinks(folder: string, texts: readonly string[]): string[] | null {
  const [about, lock] = texts.map((text) => JSON.parse(text.replace(/^\uFEFF/, '')) as JsonObject)
  const packages = lock?.packages
  if (about === undefined || lock === undefined || !isObject(packages)) return null
  const gone: string[] = []
  for (const [key, entry] of Object.entries(packages)) {
    if (!isObject(entry) || entry.link !== true || typeof entry.resolved !== 'string') continue
    if (existsSync(resolve(folder, entry.resolved))) continue
    delete packages[key]
    delete packages[entry.resolved]
    gone.push(key.replace(/^node_modules\//, ''))
  }
  if (gone.length === 0) return null
  for (const owner of [about, packages['']]) {
    for (const list of ['dependencies', 'devDependencies', 'optionalDependencies']) {
      const named = isObject(owner) ? owner[list] : undefined
      if (isObject(named)) for (const name of gone) delete named[name]
    }
  }
  return [about, lock].map((value) => JSON.stringify(value))
}

async function npmCi(folder: string): Promise<void> {
  const options = { cwd: folder, maxBuffer: MAX_OUTPUT, shell: process.platform === 'win32' }
  const npm = (...more: string[]) =>
    run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel', 'error', ...more], options)
  try {
    await npm()
  } catch (cause) {
    // development packages may come from a place that only the builder has
    await npm('--omit=dev').catch(() => {
      throw new Refusal('build-failed', `npm ci: ${reasonOf(cause)}`, undefined, { cause })
    })
  }
}

/** The first sentence of npm's report. */
function reasonOf(cause: unknown): string {
  const { stderr = '', message = String(cause) } = cause as { stderr?: string; message?: string }
  return /^npm error (?!code\b)(\S.*)$/m.exec(stderr)?.[1] ?? message
}
