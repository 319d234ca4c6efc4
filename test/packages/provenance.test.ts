/** Public packages of different build habits: built, recorded, verified and rebuilt, with what npm really installs. */
import { execFileSync } from 'node:child_process'
import { appendFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { Builder, buildProgram } from '../../deploy/laptop/build.ts'
import { parseBuildInfo } from '../../deploy/laptop/buildinfo.ts'
import { differences } from '../../deploy/laptop/provenance/compare.ts'
import { rebuild } from '../../deploy/laptop/provenance/rebuild.ts'
import { committed, write } from '../deploy/laptop/npmprogram.ts'
import { SCALE } from '../e2e/eventually.ts'
import { missing, tempFolder } from '../fixtures/tools.ts'

const file = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const library = { sdk: file('runtime/sdk/index.ts'), drivers: file('drivers/index.ts') }

/** One file of CommonJS; UMD; ES modules only; compiled to both; with optional native parts; with many dependencies. */
const PACKAGES = ['lodash', 'dayjs', 'nanoid', 'rxjs', 'ws', 'express'] as const

interface Entry {
  version: string
  dependencies?: Record<string, string>
}
const lock = JSON.parse(readFileSync(file('test/packages/package-lock.json'), 'utf8')) as {
  packages: Record<string, Entry>
}

/** The entries of the lock file that these packages need, as Node finds them from each folder. */
function lockedFor(names: readonly string[]): Record<string, Entry> {
  const found = new Map<string, Entry>()
  const add = (from: string, name: string): void => {
    for (let folder = from; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')))) {
      const key = `${folder === '' ? '' : `${folder}/`}node_modules/${name}`
      const entry = lock.packages[key]
      if (entry !== undefined) {
        if (found.has(key)) return
        found.set(key, entry)
        for (const dependency of Object.keys(entry.dependencies ?? {})) add(key, dependency)
        return
      }
      if (folder === '') throw new Error(`${name} is not in the lock file`)
    }
  }
  for (const name of names) add('', name)
  return Object.fromEntries([...found].sort(([a], [b]) => (a < b ? -1 : 1)))
}

const NEEDS = missing('git', 'npm')

test(`V4: V7: V13: V14: six public packages are built, recorded, verified and rebuilt${NEEDS}`, {
  tags: ['slow'],
  timeout: 600_000 * SCALE,
  skip: NEEDS !== '',
}, async () => {
  const folder = tempFolder()
  const packages = lockedFor(PACKAGES)
  const dependencies = Object.fromEntries(
    PACKAGES.map((name) => [name, packages[`node_modules/${name}`]?.version ?? '']),
  )
  const about = { name: 'many', version: '1.0.0', type: 'module', dependencies }
  write(folder, {
    'package.json': JSON.stringify(about),
    'package-lock.json': JSON.stringify({
      ...about,
      lockfileVersion: 3,
      requires: true,
      packages: { '': about, ...packages },
    }),
    '.gitignore': 'node_modules\n',
    'program.ts': `import { robot } from 'medulla'
${PACKAGES.map((name, index) => `import * as m${index} from '${name}'`).join('\n')}
robot({ led: 'output' }, ({ log }) => log(String([${PACKAGES.map((_, index) => `m${index}`)}].length)))
`,
  })
  execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel', 'error'], { cwd: folder })
  const revision = committed(folder)

  const { files, manifest } = await buildProgram(folder, library)
  const bundle = new Map(files.map(({ name, bytes }) => [name, bytes]))
  const info = parseBuildInfo(bundle.get('buildinfo.json') ?? new Uint8Array())
  expect(info.vcs).toMatchObject({ revision, modified: false })
  const names = info.modules.map(({ name }) => name)
  expect(names).toEqual(expect.arrayContaining([...PACKAGES]))
  expect(names.length).toBeGreaterThan(30)
  for (const { name, version, integrity, h1 } of info.modules) {
    expect(integrity, `${name}@${version}`).toMatch(/^sha512-/)
    expect(h1).toMatch(/^h1:/)
  }
  const sum = readFileSync(join(folder, 'medulla.sum'), 'utf8')
  expect(sum).toBe(info.modules.map(({ name, version, h1 }) => `${name} ${version} ${h1}\n`).join(''))

  const builder = new Builder(folder, library)
  try {
    expect(await builder.verify()).toEqual({ modules: names.length, modified: [], unrecorded: [] })
    appendFileSync(join(folder, 'node_modules/lodash/lodash.js'), '\n')
    expect((await builder.verify()).modified).toMatchObject([
      { name: 'lodash', files: [{ path: 'lodash.js', how: 'changed' }] },
    ])
  } finally {
    await builder.close()
  }

  // installed anew from the registry or npm's cache, in another folder
  const options = { ...library, source: folder, takesStateOf: manifest.takesStateOf, progress: () => {} }
  const again = await rebuild(info, options)
  expect(differences(bundle, new Map(again.files.map(({ name, bytes }) => [name, bytes])))).toEqual([])
})
