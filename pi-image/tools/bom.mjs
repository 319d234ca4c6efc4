/** The bill of materials of a root file system: Debian's packages and those of npm. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { output } from './exec.mjs'

/** @returns {{ name: string, version: string, architecture: string }[]} Debian's packages, sorted */
export function installedPackages(root) {
  const format = `${['Package', 'Version', 'Architecture'].map((field) => `\${${field}}`).join('\\t')}\\n`
  const text = output('dpkg-query', [`--admindir=${join(root, 'var/lib/dpkg')}`, '--show', `--showformat=${format}`])
  return text
    .trimEnd()
    .split('\n')
    .sort()
    .map((line) => {
      const [name, version, architecture] = line.split('\t')
      return { name, version, architecture }
    })
}

/** @returns {string} CycloneDX 1.6 in JSON (https://cyclonedx.org/docs/1.6/json/) */
export function billOfMaterials(root, { version, packages, time }) {
  const debian = packages.map((each) => ({
    type: 'library',
    name: each.name,
    version: each.version,
    purl: `pkg:deb/debian/${each.name}@${encodeURIComponent(each.version)}?arch=${each.architecture}&distro=trixie`,
  }))
  const npm = npmPackages(join(root, 'usr/lib/medulla/node_modules')).map((each) => ({
    type: 'library',
    name: each.name,
    version: each.version,
    licenses: [{ expression: each.license }],
    purl: `pkg:npm/${each.name.replace('@', '%40')}@${each.version}`,
  }))
  const bill = {
    $schema: 'http://cyclonedx.org/schema/bom-1.6.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: {
      timestamp: new Date(time * 1000).toISOString(),
      component: { type: 'firmware', name: 'medulla-image', version },
    },
    components: [...debian, ...npm].map((each) => ({ 'bom-ref': each.purl, ...each })),
  }
  return `${JSON.stringify(bill, null, 2)}\n`
}

function npmPackages(folder) {
  return readdirSync(folder)
    .sort()
    .flatMap((name) =>
      name.startsWith('@') ? readdirSync(join(folder, name)).map((part) => `${name}/${part}`) : [name],
    )
    .filter((name) => existsSync(join(folder, name, 'package.json')))
    .map((name) => JSON.parse(readFileSync(join(folder, name, 'package.json'), 'utf8')))
}
