/** Programs of test/programs, built by the product's own build against the built SDK, once for each test file. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Built, buildProgram, makeBundle } from '../../deploy/laptop/build.ts'
import { encodeInner } from '../../deploy/shared/bundle/inner.ts'
import { encodeManifest, type Manifest } from '../../deploy/shared/bundle/manifest.ts'
import { packPayload } from '../../deploy/shared/bundle/payload.ts'
import { encodeRelease, type Release, releaseDigest } from '../../deploy/shared/bundle/release.ts'
import { seal } from '../../deploy/shared/bundle/seal.ts'
import type { Signer } from '../../deploy/shared/keys.ts'
import { releaseOf } from '../fixtures/manifests.ts'

const DIST = fileURLToPath(new URL('../../dist', import.meta.url))
const PROGRAMS = fileURLToPath(new URL('../programs', import.meta.url))

export const RUNTIME = join(DIST, 'runtime/main.js')
export const CLI = join(DIST, 'deploy/laptop/cli/main.js')
export const LOADER = join(DIST, 'runtime/sdk/loader.js')

for (const file of [RUNTIME, CLI]) {
  if (!existsSync(file)) throw new Error(`${file} is not there: these tests run the built product (npm run build)`)
}

export const source = (name: string): string => join(PROGRAMS, `${name}.ts`)

export interface Named {
  /** name on the robot; default: that of the file */
  program?: string
  version?: string
  /** source file; default: test/programs/NAME.ts */
  file?: string
  /** that of the counter by default */
  takesStateOf?: string
}

const builds = new Map<string, Promise<Built>>()

export function build(
  name: string,
  { program = name, version = '1.0.0', file, takesStateOf }: Named = {},
): Promise<Built> {
  const key = `${file ?? name} ${program} ${version} ${takesStateOf}`
  const known = builds.get(key)
  if (known !== undefined) return known
  const sdk = join(DIST, 'runtime/sdk/index.js')
  const drivers = join(DIST, 'drivers/index.js')
  // under whatever name: what these programs do to the state of the counter is what their tests are about
  const usual = file === undefined && program !== 'counter' ? 'counter' : undefined
  const takes = takesStateOf ?? usual
  const built = buildProgram(file ?? source(name), {
    program,
    version,
    sdk,
    drivers,
    ...(takes && { takesStateOf: takes }),
  })
  builds.set(key, built)
  return built
}

export interface To {
  id: string
  age: string
}

export interface Made {
  bytes: Uint8Array
  digest: string
  release: Release
}

let last = 0
/** As the laptop counts: the time in ms, and never the same twice. */
export function nextCounter(): number {
  last = Math.max(Date.now(), last + 1)
  return last
}

export interface BundleOptions extends Named {
  counter?: number
  expires?: string
  arch?: string[]
  node?: string
  slot?: string
}

export async function bundle(name: string, signer: Signer, to: To, options: BundleOptions = {}): Promise<Made> {
  const { counter = nextCounter(), expires, arch, node, slot, ...named } = options
  const { files, manifest } = await build(name, named)
  const rest = { ...(expires && { expires }), ...(arch && { arch }), ...(node && { node }), ...(slot && { slot }) }
  return makeBundle(files, manifest, { signer, robots: [to], counter, ...rest })
}

/** A bundle with any part of it as the caller wants it: what `makeBundle` would never make. */
export async function forge(
  name: string,
  signer: Signer,
  to: To,
  change: { release?: Partial<Release>; manifest?: Partial<Manifest>; unsigned?: true },
): Promise<Made> {
  const { files, manifest } = await build(name)
  const changed = files.map((file) =>
    file.name === 'manifest.json' && change.manifest !== undefined
      ? { name: file.name, bytes: encodeManifest({ ...manifest, ...change.manifest }) }
      : file,
  )
  const { sha256, length, unpacked, h1, bytes: payload } = await packPayload(changed)
  const release = releaseOf({
    program: manifest.program,
    version: manifest.version,
    payload: { sha256, length, unpacked },
    h1,
    counter: nextCounter(),
    created: new Date().toISOString(),
    recipients: [to.id],
    ...change.release,
  })
  const bytes = encodeRelease(release)
  const signature = change.unsigned === true ? '' : await signer.sign('release@medulla', bytes)
  const inner = await encodeInner({ release: bytes, signature, payload })
  return { bytes: await seal(inner, [to.age]), digest: releaseDigest(bytes), release }
}
