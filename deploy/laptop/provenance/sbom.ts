/** A bill of materials in the format of CycloneDX. It has no time and no serial number: one bundle gives one document. */
import { ComponentType, HashAlgorithm } from '@cyclonedx/cyclonedx-library/Enums'
import { Bom, Component, Property, Tool } from '@cyclonedx/cyclonedx-library/Models'
import { JSON as Json, JsonSerializer } from '@cyclonedx/cyclonedx-library/Serialize'
import { Spec1dot6 } from '@cyclonedx/cyclonedx-library/Spec'
import type { ReadBuildInfo } from '../buildinfo.ts'

/** Hashes of npm's integrity by their names in CycloneDX. */
const ALGORITHMS: Readonly<Record<string, HashAlgorithm>> = {
  sha1: HashAlgorithm['SHA-1'],
  sha256: HashAlgorithm['SHA-256'],
  sha384: HashAlgorithm['SHA-384'],
  sha512: HashAlgorithm['SHA-512'],
}

/** JSON text. `h1` is the tree hash of the payload. */
export function billOfMaterials(info: ReadBuildInfo, h1: string): string {
  const bom = new Bom()
  const main = new Component(ComponentType.Firmware, info.program, { version: info.version, bomRef: 'program' })
  main.properties.add(new Property('medulla:h1', h1))
  main.properties.add(new Property('medulla:path', info.path))
  if (info.vcs !== null) {
    const { system, revision, time, modified } = info.vcs
    for (const [name, value] of Object.entries({
      '': system,
      '.revision': revision,
      '.time': time,
      '.modified': modified,
    }))
      main.properties.add(new Property(`medulla:vcs${name}`, String(value)))
  }
  bom.metadata.component = main
  for (const [name, version] of Object.entries(info.tools)) bom.metadata.tools.tools.add(new Tool({ name, version }))
  for (const { name, version, integrity, h1: hash } of info.modules) {
    const [scope, bare] = name.startsWith('@') ? name.split('/', 2) : [undefined, name]
    const purl = `pkg:npm/${scope === undefined ? '' : `${encodeURIComponent(scope)}/`}${bare}@${encodeURIComponent(version)}`
    const module = new Component(ComponentType.Library, bare ?? name, {
      version,
      bomRef: purl,
      purl,
      ...(scope === undefined ? {} : { group: scope }),
    })
    for (const each of integrity?.split(' ') ?? []) {
      const [, named = '', content = ''] = /^([a-z0-9]+)-([A-Za-z0-9+/=]+)$/.exec(each) ?? []
      const algorithm = ALGORITHMS[named]
      if (algorithm !== undefined) module.hashes.set(algorithm, Buffer.from(content, 'base64').toString('hex'))
    }
    if (hash !== null) module.properties.add(new Property('medulla:h1', hash))
    bom.components.add(module)
    main.dependencies.add(module.bomRef)
  }
  return new JsonSerializer(new Json.Normalize.Factory(Spec1dot6)).serialize(bom, { sortLists: true, space: 2 })
}
