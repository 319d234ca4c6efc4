/** What a path means as a program: its folder, its main file, its name and its version. */
import { readFileSync, statSync } from 'node:fs'
import { basename, dirname, extname, join } from 'node:path'
import { NAME_PATTERN } from './api.ts'
import { VERSION_PATTERN } from './bundle/release.ts'
import type { Json, JsonObject } from './bundle/strict.ts'
import { Refusal } from './errors.ts'

export interface Source {
  root: string
  /** relative to root */
  entry: string
  program: string
  version: string
}

/** `path` is absolute: a folder or a .ts, .mts, .js or .mjs file. Throws `build-failed`. */
export function findSource(path: string, opts: { program?: string; version?: string }): Source {
  const found = statSync(path, { throwIfNoEntry: false })
  if (!found) throw failed(`there is no ${path}`)
  const folder = found.isDirectory()
  const root = folder ? path : dirname(path)
  const about = readPackage(root)
  const entry = folder ? findEntry(root, about) : basename(path)
  if (!/\.(m?ts|m?js)$/.test(entry)) throw failed(`expected a .ts, .mts, .js or .mjs file, got ${entry}`)
  const own = typeof about.name === 'string' ? about.name.replace(/^@[^/]*\//, '') : null
  const program = opts.program ?? own ?? basename(entry, extname(entry)).toLowerCase()
  const version = opts.version ?? (typeof about.version === 'string' ? about.version : '0.0.0')
  if (!NAME_PATTERN.test(program)) {
    throw failed(
      `'${program}' cannot be the name of a program`,
      'a-z, 0-9, dot, dash and underscore; set "name" in package.json',
    )
  }
  if (!VERSION_PATTERN.test(version) || version.length > 128) throw failed(`'${version}' cannot be a version`)
  return { root, entry, program, version }
}

function findEntry(root: string, about: JsonObject): string {
  const medulla = about.medulla
  const named = typeof medulla === 'object' && medulla !== null && !Array.isArray(medulla) ? medulla.entry : undefined
  const given = named ?? about.main
  if (typeof given === 'string') {
    if (isFile(join(root, given))) return given.replace(/^\.\//, '')
    throw failed(`package.json names ${given}, which is not there`)
  }
  const candidates = ['program.ts', 'program.mjs', 'program.js', 'index.ts']
  for (const name of candidates) if (isFile(join(root, name))) return name
  throw failed(
    `no program in ${root}: expected ${candidates.join(', ')} or "main" in package.json`,
    'start one with: medulla new',
  )
}

export function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false
}

function readPackage(root: string): JsonObject {
  const path = join(root, 'package.json')
  if (!isFile(path)) return {}
  try {
    const value = JSON.parse(readFileSync(path, 'utf8')) as Json
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  } catch (cause) {
    throw failed(`package.json: ${cause instanceof Error ? cause.message : String(cause)}`)
  }
  throw failed('package.json: expected an object')
}

function failed(message: string, hint?: string): Refusal {
  return new Refusal('build-failed', message, hint)
}
