import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, test } from 'vitest'
import { type Built, buildProgram } from '../../../deploy/laptop/build.ts'
import { parseBuildInfo } from '../../../deploy/laptop/buildinfo.ts'
import { differences } from '../../../deploy/laptop/provenance/compare.ts'
import { rebuild } from '../../../deploy/laptop/provenance/rebuild.ts'
import { SCALE } from '../../e2e/eventually.ts'
import { missing, refusal, run, tempFolder } from '../../fixtures/tools.ts'
import { commit, committed, LIBRARY, TINY, write } from './npmprogram.ts'

const NEEDS = missing('git', 'npm', 'tar')
const SLOW = { tags: ['slow'], timeout: 240_000 * SCALE, skip: NEEDS !== '' }
const QUICK = { skip: missing('git') !== '' }

const mapOf = ({ files }: Pick<Built, 'files'>) => new Map(files.map(({ name, bytes }) => [name, bytes]))
const infoOf = (files: ReadonlyMap<string, Uint8Array>) =>
  parseBuildInfo(files.get('buildinfo.json') ?? new Uint8Array())

/** What `medulla rebuild` does with a bundle of these files. */
async function again(files: ReadonlyMap<string, Uint8Array>, source: string, takesStateOf?: string) {
  const built = await rebuild(infoOf(files), { ...LIBRARY, source, takesStateOf, progress: () => {} })
  return differences(files, mapOf(built))
}

/** The files with one text changed in one of them, as a builder could sign them. */
function lying(files: ReadonlyMap<string, Uint8Array>, name: string, from: string | RegExp, to: string) {
  const text = Buffer.from(files.get(name) ?? []).toString()
  expect(text.replace(from, to)).not.toBe(text)
  return new Map([...files, [name, Buffer.from(text.replace(from, to))] as const])
}

const PROGRAM = "import { robot } from 'medulla'\nrobot({ led: 'output' }, () => {})\n"

/** A program without packages, in a folder of a repository. */
function inRepository(): { top: string; folder: string; revision: string } {
  const top = tempFolder()
  const folder = join(top, 'robots/blink')
  write(folder, { 'package.json': '{"name":"blink","version":"1.0.0"}', 'program.ts': PROGRAM })
  return { top, folder, revision: committed(top) }
}

/** A program with a package that npm installs from a file beside it. */
function withPackage(): string {
  const folder = tempFolder()
  mkdirSync(join(folder, 'package'))
  write(join(folder, 'package'), {
    ...TINY,
    'package.json': '{"name":"tiny","version":"1.2.3","type":"module"}',
    'index.js': "export default 'led'\n",
  })
  run(folder, 'tar', ['-czf', 'tiny-1.2.3.tgz', 'package'])
  rmSync(join(folder, 'package'), { recursive: true })
  const integrity = `sha512-${createHash('sha512')
    .update(readFileSync(join(folder, 'tiny-1.2.3.tgz')))
    .digest('base64')}`
  const about = { name: 'rover', version: '3.1.0', dependencies: { tiny: 'file:tiny-1.2.3.tgz' } }
  const packages = { '': about, 'node_modules/tiny': { version: '1.2.3', resolved: 'file:tiny-1.2.3.tgz', integrity } }
  write(folder, {
    'package.json': JSON.stringify(about),
    'package-lock.json': JSON.stringify({
      name: 'rover',
      version: '3.1.0',
      lockfileVersion: 3,
      requires: true,
      packages,
    }),
    'program.ts': "import { robot } from 'medulla'\nimport led from 'tiny'\nrobot({ [led]: 'output' }, () => {})\n",
    '.gitignore': 'node_modules\n',
  })
  run(folder, 'npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--offline', '--loglevel', 'error'])
  return folder
}

test(
  `V7: BUNDLE 16.1: the commit and the lock file that a bundle names give the same files${NEEDS}`,
  SLOW,
  async () => {
    const folder = withPackage()
    committed(folder)
    const files = mapOf(await buildProgram(folder, LIBRARY))
    expect(infoOf(files)).toMatchObject({ vcs: { modified: false }, modules: [{ name: 'tiny', version: '1.2.3' }] })
    // what has changed since then has no say
    write(folder, { 'program.ts': `${PROGRAM}// later\n`, 'node_modules/tiny/index.js': "export default 'other'\n" })
    expect(await again(files, folder)).toEqual([])
    commit(folder)
    expect(await again(files, pathToFileURL(folder).href)).toEqual([])
  },
)

test(
  `V7: BUNDLE 16.1: without a commit, the folder is copied, and its packages are installed again${NEEDS}`,
  SLOW,
  async () => {
    const folder = withPackage()
    const files = mapOf(await buildProgram(folder, LIBRARY))
    expect(await again(files, folder)).toEqual([])
    write(folder, { 'node_modules/tiny/index.js': "export default 'other'\n" })
    expect(await again(files, folder)).toEqual([])
    rmSync(join(folder, 'package-lock.json'))
    expect((await refusal(() => again(files, folder))).message).toContain('no package-lock.json')
  },
)

test(
  `V7: a project that links to a folder of its builder, as medulla new makes it, is rebuilt without it${NEEDS}`,
  SLOW,
  async () => {
    const folder = withPackage()
    const read = (name: string) => JSON.parse(readFileSync(join(folder, name), 'utf8'))
    const [about, lock] = [read('package.json'), read('package-lock.json')]
    about.dependencies.medulla = 'file:../not-here/medulla'
    Object.assign(lock.packages, {
      '': about,
      '../not-here/medulla': { version: '0.1.0' },
      'node_modules/medulla': { resolved: '../not-here/medulla', link: true },
    })
    write(folder, { 'package.json': JSON.stringify(about), 'package-lock.json': JSON.stringify(lock) })
    committed(folder)
    const files = mapOf(await buildProgram(folder, LIBRARY))
    expect(infoOf(files).vcs).toMatchObject({ modified: false })
    expect(await again(files, folder)).toEqual([])
  },
)

test(`V9: a module whose hash is a lie is caught${NEEDS}`, SLOW, async () => {
  const folder = withPackage()
  const files = mapOf(await buildProgram(folder, LIBRARY))
  const h1 = infoOf(files).modules[0]?.h1 ?? ''
  const lie = `h1:${'A'.repeat(43)}=`
  expect(await again(lying(files, 'buildinfo.json', h1, lie), folder)).toEqual([
    { file: 'buildinfo.json', where: 'modules[0].h1', bundle: `"${lie}"`, rebuilt: `"${h1}"` },
  ])
})

test('V9: BUNDLE 16.2: code that the named commit does not hold is caught, with its place', QUICK, async () => {
  const { folder, top } = inRepository()
  const files = mapOf(await buildProgram(folder, LIBRARY))
  expect(await again(files, top)).toEqual([])
  const evil = lying(files, 'program.mjs', 'output', 'servo')
  const found = await again(evil, folder)
  expect(found).toMatchObject([{ file: 'program.mjs', where: expect.stringMatching(/^line \d+, column \d+$/) }])
  expect(found[0]?.bundle).toContain('servo')
  expect(found[0]?.rebuilt).toContain('output')
})

test('V9: a lie about the commit, the version or the tools is caught', QUICK, async () => {
  const { top, folder, revision } = inRepository()
  const files = mapOf(await buildProgram(folder, LIBRARY))
  write(folder, { 'program.ts': `${PROGRAM}globalThis.more = 1\n` })
  const second = commit(top)
  const other = await again(lying(files, 'buildinfo.json', revision, second), top)
  expect(other.map(({ file }) => file)).toContain('program.mjs')
  expect(await again(lying(files, 'buildinfo.json', '"0.28.2"', '"0.27.0"'), top)).toEqual([
    { file: 'buildinfo.json', where: 'tools.esbuild', bundle: '"0.27.0"', rebuilt: '"0.28.2"' },
  ])
  const newer = lying(
    lying(files, 'buildinfo.json', '"version":"1.0.0"', '"version":"2.0.0"'),
    'manifest.json',
    '1.0.0',
    '2.0.0',
  )
  expect((await again(newer, top)).map(({ file }) => file).sort()).toEqual(['buildinfo.json', 'manifest.json'])
})

test('V9: a bundle from a modified checkout cannot be rebuilt, and says so', QUICK, async () => {
  const { folder } = inRepository()
  write(folder, { 'program.ts': PROGRAM.replace('() =>', '(_: never) =>') })
  const files = mapOf(await buildProgram(folder, LIBRARY))
  expect(await again(files, folder)).toEqual(
    expect.arrayContaining([{ file: 'buildinfo.json', where: 'vcs.modified', bundle: 'true', rebuilt: 'false' }]),
  )
})

test(
  'V7: a program that was built from a file, and one that takes the state of another, are rebuilt',
  QUICK,
  async () => {
    const folder = tempFolder()
    write(folder, { 'program.ts': 'export {}\n', 'other.ts': PROGRAM })
    const files = mapOf(await buildProgram(join(folder, 'other.ts'), { ...LIBRARY, takesStateOf: 'old' }))
    expect(await again(files, folder, 'old')).toEqual([])
    expect((await again(files, folder)).map(({ file }) => file)).toEqual(['manifest.json'])
  },
)

test('BUNDLE 16.3: what cannot be rebuilt is refused, before anything is executed', QUICK, async () => {
  const { folder, top, revision } = inRepository()
  const files = mapOf(await buildProgram(folder, LIBRARY))
  const info = infoOf(files)
  const options = { ...LIBRARY, source: top, takesStateOf: undefined, progress: () => {} }
  const { vcs } = info
  if (vcs === null) throw new Error('the program is in a repository')
  const told = async (over: object, more: object = {}) =>
    (await refusal(() => rebuild({ ...info, ...over }, { ...options, ...more }))).message
  expect(await told({ format: 'medulla-buildinfo/1' })).toContain('does not say enough')
  expect(await told({ vcs: null }, { source: 'https://example.org/none.git' })).toContain('the bundle names no commit')
  expect(await told({ main: '../../../etc/x.ts' })).toContain('leads out of the source')
  expect(await told({ vcs: { ...vcs, revision: '0'.repeat(40) } })).toMatch(/^git checkout: /)
  expect(await told({ vcs: { ...vcs, folder: 'robots/none' } })).toBe(`commit ${revision} has no folder robots/none`)
  expect(await told({}, { source: join(top, 'none') })).toMatch(/^git clone: /)
  // a link in the repository leads nowhere else
  run(top, 'ln', ['-s', '/', 'out'])
  const linked = commit(top)
  expect(await told({ vcs: { ...vcs, revision: linked, folder: 'out' } })).toContain('has no folder out')
})

const filesOf = (files: Record<string, string>) =>
  new Map(Object.entries(files).map(([name, text]) => [name, Buffer.from(text)] as const))

test('BUNDLE 16.2: the first difference of each file is shown', () => {
  const was = filesOf({ a: 'one\ntwo äö three\nfour\n', b: 'x\0y', 'only.here': '', c: 'end', same: '1' })
  const is = filesOf({ a: 'one\ntwo äö thorn\n', b: 'x\0z', 'only.there': 'ab', c: 'end\nmore', same: '1' })
  expect(differences(was, is)).toEqual([
    { file: 'a', where: 'line 2, column 10', bundle: 'two äö three', rebuilt: 'two äö thorn' },
    { file: 'b', where: 'byte 2', bundle: '79', rebuilt: '7a' },
    { file: 'c', where: 'line 1, column 4', bundle: 'end', rebuilt: 'end' },
    { file: 'only.here', where: null, bundle: '0 bytes', rebuilt: null },
    { file: 'only.there', where: null, bundle: null, rebuilt: '2 bytes' },
  ])
})
