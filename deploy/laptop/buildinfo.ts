/** Lists the inputs of a build by names that do not depend on the paths of this computer (BUNDLE 11). */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { dirname, relative } from 'node:path'
import { encodeJson } from '../shared/bundle/strict.ts'
import { isDependency, packageOf, slashes } from './bundler/logical.ts'

export interface BuildInfo {
  format: 'medulla-buildinfo/1'
  program: string
  version: string
  /** the main module, relative to the program's folder */
  main: string
  tools: { medulla: string; node: string; esbuild: string }
  modules: { name: string; version: string }[]
  inputs: { path: string; sha256: string }[]
}

/** Names and hashes of the inputs, and the packages that they belong to. `inputs` are absolute paths. */
export function describeInputs(
  root: string,
  sdk: string,
  inputs: readonly string[],
): Pick<BuildInfo, 'modules' | 'inputs'> & { medulla: string } {
  const own = packageOf(sdk)
  const ownRoot = own?.root ?? dirname(sdk)
  const modules = new Map<string, string>()
  const listed: BuildInfo['inputs'] = []
  for (const file of inputs) {
    const sha256 = createHash('sha256').update(readFileSync(file)).digest('hex')
    listed.push({ path: nameOf(file), sha256 })
  }
  listed.sort((a, b) => (a.path < b.path ? -1 : 1))
  const sorted = [...modules].map(([key, version]) => ({ name: key.slice(0, key.lastIndexOf('@')), version }))
  sorted.sort((a, b) => (`${a.name}@${a.version}` < `${b.name}@${b.version}` ? -1 : 1))
  return { modules: sorted, inputs: listed, medulla: own?.version ?? '0.0.0' }

  function nameOf(file: string): string {
    const dependency = isDependency(file) ? packageOf(file) : null
    if (dependency && dependency.root !== ownRoot) {
      const id = `${dependency.name}@${dependency.version}`
      modules.set(id, dependency.version)
      return `${id}/${slashes(relative(dependency.root, file))}`
    }
    const inside = slashes(relative(root, file))
    if (!inside.startsWith('../')) return inside
    const beside = slashes(relative(ownRoot, file))
    return beside.startsWith('../') ? inside : `medulla/${beside}`
  }
}

export function encodeBuildInfo(info: BuildInfo): Uint8Array {
  return encodeJson(info)
}
