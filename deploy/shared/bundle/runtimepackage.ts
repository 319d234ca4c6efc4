/** What a release of kind `runtime` holds: the files that a runtime loads, and the package.json that they belong to (BUNDLE 14). */
import { Refusal } from '../errors.ts'
import { LIMITS } from './limits.ts'
import { NODE_RANGE_PATTERN, type Release, VERSION_PATTERN } from './release.ts'
import { isObject, quote } from './strict.ts'

/** The program name of every runtime release. */
export const RUNTIME_PROGRAM = 'medulla'
/** What a start of the runtime executes. */
export const RUNTIME_MAIN = 'dist/runtime/main.js'
export const RUNTIME_PACKAGE = 'package.json'

export interface RuntimePackage {
  version: string
  /** As in {@link Release.node}. */
  node: string
  /** Every package that the runtime may load from node_modules, with its exact version. */
  packages: Readonly<Record<string, string>>
}

/** Reads the fields of a package.json that matter to a robot. Throws Refusal `bad-bundle`. */
export function parseRuntimePackage(bytes: Uint8Array): RuntimePackage {
  const fail = (what: string): never => {
    throw new Refusal('bad-bundle', `${RUNTIME_PACKAGE}: ${what}`)
  }
  if (bytes.length > LIMITS.manifest) fail(`${bytes.length} bytes, at most ${LIMITS.manifest}`)
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch {
    return fail('not a JSON text in UTF-8')
  }
  if (!isObject(value)) return fail('expected a JSON object')
  const { name, version, type, engines, dependencies = {}, optionalDependencies = {} } = value
  if (name !== RUNTIME_PROGRAM) fail(`it is the package ${quote(name)}, expected ${quote(RUNTIME_PROGRAM)}`)
  if (type !== 'module') fail('expected "type": "module"')
  if (typeof version !== 'string' || version.length > LIMITS.text || !VERSION_PATTERN.test(version)) {
    return fail(`'version' is malformed: ${quote(version)}`)
  }
  const node = isObject(engines) ? engines.node : undefined
  if (typeof node !== 'string' || !NODE_RANGE_PATTERN.test(node)) {
    return fail(`'engines' has no range for node like ">=20.19": ${quote(node)}`)
  }
  if (!isObject(dependencies) || !isObject(optionalDependencies)) return fail('dependencies are malformed')
  const packages = Object.entries({ ...dependencies, ...optionalDependencies })
  if (packages.some(([, wanted]) => typeof wanted !== 'string')) fail('dependencies are malformed')
  return { version, node, packages: Object.fromEntries(packages) as Record<string, string> }
}

/** Checks the unpacked payload of a runtime release. Throws Refusal `bad-bundle`. */
export function checkRuntime(
  release: Pick<Release, 'program' | 'version' | 'node'>,
  files: ReadonlyMap<string, Uint8Array>,
): RuntimePackage {
  const about = parseRuntimePackage(files.get(RUNTIME_PACKAGE) ?? new Uint8Array())
  const other = [...files.keys()].find((name) => name !== RUNTIME_PACKAGE && !name.startsWith('dist/'))
  if (other !== undefined) {
    throw new Refusal('bad-bundle', `the payload holds ${quote(other)}, expected ${RUNTIME_PACKAGE} and files in dist/`)
  }
  if (!files.has(RUNTIME_MAIN)) throw new Refusal('bad-bundle', `the payload holds no ${RUNTIME_MAIN}`)
  // The release was admitted by its name, version and Node range: the package must say the same (BUNDLE 14.3).
  if (release.program !== RUNTIME_PROGRAM || release.version !== about.version || release.node !== about.node) {
    const said = `release says ${release.program} ${release.version} for node ${release.node}`
    const found = `${RUNTIME_PACKAGE} says ${RUNTIME_PROGRAM} ${about.version} for node ${about.node}`
    throw new Refusal('bad-bundle', `${said}, ${found}`)
  }
  return about
}

/** Refuses a runtime whose packages are not exactly those of the base install, which it would load (BUNDLE 14.5). */
export function unlikeBase(about: RuntimePackage, base: RuntimePackage): Refusal | null {
  const names = [...new Set([...Object.keys(about.packages), ...Object.keys(base.packages)])].sort()
  const differing = names.filter((name) => about.packages[name] !== base.packages[name])
  if (differing.length === 0) return null
  const list = differing.map((name) => {
    return `${name} ${about.packages[name] ?? 'not at all'} (installed: ${base.packages[name] ?? 'none'})`
  })
  return new Refusal(
    'wrong-packages',
    `medulla ${about.version} needs ${list.join(', ')}`,
    'install the new package on the robot instead, with apt or npm, as medulla was installed there',
  )
}
