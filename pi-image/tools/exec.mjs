/** Runs commands of the host for a build, and makes folders that are complete or absent. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { BuildError } from './error.mjs'

/** The cache is outside of the checkout: `npm ci` empties node_modules, and a root file system takes minutes to make. */
export function cacheFolder(name) {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), name)
}

/** @throws {BuildError} with the command's output, when it fails */
export function run(file, args, options = {}) {
  output(file, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
}

/** @returns {string} what the command prints */
export function output(file, args, options = {}) {
  try {
    const env = { ...process.env, LC_ALL: 'C' }
    return execFileSync(file, args, { encoding: 'utf8', maxBuffer: 64 << 20, stdio: 'pipe', env, ...options })
  } catch (error) {
    const text = `${error.stdout ?? ''}${error.stderr ?? ''}`.trim()
    throw new BuildError(
      `${file} ${args.join(' ')} failed: ${text || error.message}`,
      "df -h ~/.cache, and try again; what it says is from Debian's own tools",
    )
  }
}

/** Unless the folder exists: fills another folder beside it, then renames that. Safe when two builds run at the same time. */
export async function wholeOrNot(folder, fill) {
  if (existsSync(folder)) return
  removeLeftovers(folder)
  const beside = `${folder}.${process.pid}`
  mkdirSync(beside, { recursive: true })
  try {
    await fill(beside)
    if (!existsSync(folder)) renameSync(beside, folder)
  } finally {
    rmSync(beside, { recursive: true, force: true })
  }
}

/** Removes folders of builds that were interrupted. */
function removeLeftovers(folder) {
  if (!existsSync(dirname(folder))) return
  for (const name of readdirSync(dirname(folder))) {
    const pid = name.startsWith(`${basename(folder)}.`) ? name.slice(basename(folder).length + 1) : ''
    if (pid !== '' && !existsSync(`/proc/${pid}`)) rmSync(join(dirname(folder), name), { recursive: true, force: true })
  }
}

/** Names a build by everything that goes into it: text, bytes, and functions by their source. */
export function key(parts) {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part instanceof Function ? String(part) : part).update('\0')
  return hash.digest('hex').slice(0, 16)
}

/** @returns {number} SOURCE_DATE_EPOCH, else the time of the last commit: the latest time of any file that is made */
export function sourceDate(checkout) {
  const given = process.env.SOURCE_DATE_EPOCH
  if (given) return Number(given)
  return Number(output('git', ['log', '-1', '--format=%ct'], { cwd: checkout }))
}
