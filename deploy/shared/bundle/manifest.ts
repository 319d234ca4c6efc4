/** Manifests: what a program needs from a robot, written by the build from the program's call of robot() (BUNDLE 4). */

import { CONFIG_NAME } from '../api.ts'
import { NAME_PATTERN } from '../names.ts'
import { LIMITS } from './limits.ts'
import { type ManifestParam, readParams } from './params.ts'
import { VERSION_PATTERN } from './release.ts'
import { encodeJson, Fields, readJson } from './strict.ts'

export interface Manifest {
  format: 'medulla-manifest/1'
  program: string
  version: string
  entry: 'program.mjs'
  /** version of the messages between body and program */
  wire: number
  sdk: string
  /** handle name to kind */
  needs: Record<string, string>
  /** periods of the program's every() calls */
  ratesMs: number[]
  state: { version: number; encoding: 'json' | 'bytes' } | null
  params: Record<string, ManifestParam>
  /** the program whose state this one takes over if it replaces it; absent: only the state of a program with its own name */
  takesStateOf?: string
  /** names of the config values that the program needs; absent: none */
  config?: string[]
}

export const MANIFEST_FORMAT = 'medulla-manifest/1'
const KEYS = ['format', 'program', 'version', 'entry', 'wire', 'sdk', 'needs', 'ratesMs', 'state', 'params'] as const
/** Checks only the form of a kind. The robot knows the kinds, and refuses a kind that is newer than itself by name. */
const KIND = /^[a-z][a-z0-9-]{0,31}$/
const HANDLE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/
const MAX_RATE_MS = 86_400_000

export function encodeManifest(manifest: Manifest): Uint8Array {
  const { takesStateOf, config = [] } = manifest
  const ordered = {
    ...Object.fromEntries(KEYS.map((key) => [key, manifest[key]])),
    ...(takesStateOf === undefined ? {} : { takesStateOf }),
    ...(config.length === 0 ? {} : { config }),
  }
  const bytes = encodeJson(ordered)
  parseManifest(bytes)
  return bytes
}

export function parseManifest(bytes: Uint8Array): Manifest {
  // also bounds the size, since the author of a bundle chooses it (BUNDLE 1.4)
  const read = readJson(bytes, 'manifest', MANIFEST_FORMAT, LIMITS.manifest)
  read.keys(KEYS, ['takesStateOf', 'config'])
  return {
    format: MANIFEST_FORMAT,
    program: read.text('program', NAME_PATTERN, 64),
    version: read.text('version', VERSION_PATTERN, LIMITS.text),
    entry: read.oneOf('entry', ['program.mjs']),
    wire: read.integer('wire', 1, 1_000_000),
    sdk: read.text('sdk', VERSION_PATTERN, LIMITS.text),
    needs: readNeeds(read),
    ratesMs: readRates(read),
    state: readState(read),
    params: readParams(read),
    // keys that older builds do not write (BUNDLE 4.4, 4.5)
    ...(read.has('takesStateOf') ? { takesStateOf: read.text('takesStateOf', NAME_PATTERN, 64) } : {}),
    ...(read.has('config') ? { config: readConfig(read) } : {}),
  }
}

function readNeeds(read: Fields): Record<string, string> {
  const needs = new Map<string, string>()
  for (const [name, kind] of Object.entries(read.object('needs'))) {
    if (!HANDLE_NAME.test(name)) read.fail(`'needs' has a malformed name ${JSON.stringify(name.slice(0, 80))}`)
    if (typeof kind !== 'string' || !KIND.test(kind)) read.fail(`'needs' gives '${name}' no kind`)
    else needs.set(name, kind)
  }
  if (needs.size > LIMITS.needs) read.fail(`'needs' has ${needs.size} handles, at most ${LIMITS.needs}`)
  return Object.fromEntries(needs)
}

/** Names of config values: at least one, none twice (BUNDLE 4.5). */
function readConfig(read: Fields): string[] {
  const names = new Set<string>()
  for (const name of read.list('config', LIMITS.config)) {
    if (typeof name !== 'string' || !CONFIG_NAME.test(name)) return read.fail(`'config' has a malformed name`)
    if (names.has(name)) read.fail(`'config' has ${name} twice`)
    names.add(name)
  }
  if (names.size === 0) read.fail(`'config' is empty`)
  return [...names]
}

function readRates(read: Fields): number[] {
  return read.list('ratesMs', LIMITS.rates).map((rate) => {
    if (typeof rate === 'number' && rate > 0 && rate <= MAX_RATE_MS) return rate
    return read.fail(`'ratesMs' must hold numbers above 0 and up to ${MAX_RATE_MS}`)
  })
}

function readState(read: Fields): Manifest['state'] {
  if (read.get('state') === null) return null
  const state = new Fields(read.object('state'), 'manifest state')
  state.keys(['version', 'encoding'])
  return { version: state.integer('version', 1, 1_000_000), encoding: state.oneOf('encoding', ['json', 'bytes']) }
}
