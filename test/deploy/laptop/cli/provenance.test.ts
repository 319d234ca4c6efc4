/** From "what runs here?" to the source: inspect, verify and rebuild, of files and of a simulated robot. */
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { glob } from 'tinyglobby'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { SCALE } from '../../../e2e/eventually.ts'
import { missing } from '../../../fixtures/tools.ts'
import { committed, TINY, write } from '../npmprogram.ts'
import { Laptop } from './medulla.ts'

const SLOW = { tags: ['slow'], timeout: 600_000 * SCALE }

let laptop: Laptop
let revision = ''
const folder = (): string => join(laptop.dir, 'rover')

beforeAll(async () => {
  laptop = new Laptop()
  await laptop.sim({ model: 'sim', handles: { led: { kind: 'output', line: 17 } } })
  write(folder(), {
    'package.json': '{"name":"@me/rover","version":"3.1.0","type":"module","dependencies":{"tiny":"1.2.3"}}\n',
    'program.ts': `import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { robot } from 'medulla'
import led from 'tiny'
robot({ [led]: 'output' }, ({ every, log }) => {
  const info = JSON.parse(readFileSync(new URL('../buildinfo.json', import.meta.url), 'utf8'))
  log(\`I am \${info.path} \${info.version} of \${info.vcs?.revision}, with \${info.modules.map(({ name, version }) => \`\${name}@\${version}\`)}\`)
  every(100, () => {})
})
`,
    '.gitignore': 'node_modules\n',
    'node_modules/tiny/package.json': TINY['package.json'],
    'node_modules/tiny/index.js': "export default 'led'\n",
  })
  revision = missing('git') === '' ? committed(folder()) : ''
}, 120_000 * SCALE)
afterAll(() => laptop.close())

test(
  'V3: V4: V5: inspect shows a bundle file in the columns of go version -m, with hashes and as JSON',
  SLOW,
  async () => {
    expect(await laptop.run('build', 'rover', '-o', 'rover.medulla')).toMatchObject({ status: 0 })
    const short = await laptop.run('inspect', 'rover.medulla')
    expect(short).toMatchObject({ status: 0, stderr: '' })
    const commit = revision === '' ? [] : ['\tbuild\tvcs=git', `\tbuild\tvcs.revision=${revision}`, expect.stringMatching(/^\tbuild\tvcs\.time=2\d{3}-/), '\tbuild\tvcs.folder=.', '\tbuild\tvcs.modified=false'] // biome-ignore format: one list
    const rest = [
      expect.stringMatching(/^\trelease\tsha256:[0-9a-f]{64}$/),
      expect.stringMatching(/^\tsigner\tSHA256:/),
      '\tbuild\tesbuild=0.28.2',
      '\tbuild\tnode=>=20.19',
      '\tbuild\ttarget=node20',
      ...commit,
      '',
    ]
    expect(short.stdout.split('\n')).toEqual([
      'rover.medulla: medulla 0.1.0',
      '\tpath\t@me/rover',
      '\tmod\trover\t3.1.0',
      ...rest,
    ])
    const long = await laptop.run('inspect', 'rover.medulla', '--modules', '--hashes')
    const [sum = ''] = readFileSync(join(folder(), 'medulla.sum'), 'utf8').split('\n')
    expect(long.stdout.split('\n').slice(1)).toEqual([
      '\tpath\t@me/rover',
      expect.stringMatching(/^\tmod\trover\t3\.1\.0\th1:[A-Za-z0-9+/]{43}=$/),
      `\tdep\t${sum.replaceAll(' ', '\t')}`,
      ...rest,
    ])
    const { events } = await laptop.json('inspect', 'rover.medulla')
    expect(events).toMatchObject([
      { event: 'inspected', where: 'rover.medulla', path: '@me/rover', modules: [{ name: 'tiny', version: '1.2.3' }] },
    ])
    const sbom = JSON.parse((await laptop.run('inspect', 'rover.medulla', '--sbom')).stdout)
    expect(sbom).toMatchObject({ bomFormat: 'CycloneDX', components: [{ name: 'tiny' }] })
  },
)

test('BUNDLE 8.6: a laptop without the key is told which key to give', SLOW, async () => {
  const other = await laptop.start(['inspect', 'rover.medulla'], { MEDULLA_CONFIG: join(laptop.dir, 'other') }).ended
  expect(other).toMatchObject({ status: 3, stdout: '' })
  expect(other.stderr).toContain('sealed to other keys than those of this laptop')
  expect(other.stderr).toContain('--identity FILE')
  const key = join(laptop.dir, 'config/age.key')
  const given = laptop.start(['inspect', 'rover.medulla', '-i', key], { MEDULLA_CONFIG: join(laptop.dir, 'other') })
  expect(await given.ended).toMatchObject({ status: 0, stderr: '' })
})

test(
  'V4: V6: BUNDLE 8.7: BUNDLE 11.14: inspect shows what a robot runs, and the program reads the same',
  SLOW,
  async () => {
    expect(await laptop.run('push', 'rover')).toMatchObject({ status: 0 })
    const { events } = await laptop.json('inspect')
    expect(events).toMatchObject([{ event: 'inspected', where: 'sim/main', path: '@me/rover', version: '3.1.0' }])
    const { digest } = events[0] as { digest: string }
    const status = await laptop.json('status')
    expect(JSON.stringify(status.events)).toContain(digest)
    const logs = await laptop.run('logs')
    expect(logs.stdout).toContain(`I am @me/rover 3.1.0 of ${revision || 'undefined'}, with tiny@1.2.3`)
  },
)

test(
  'V7: V9: rebuild proves the source of a file and of what a robot runs, and shows where another differs',
  SLOW,
  async () => {
    // the package of the other program comes from no registry
    const own = join(laptop.dir, 'plain')
    const program = "import { robot } from 'medulla'\nrobot({ led: 'output' }, () => {})\n"
    write(own, { 'package.json': '{"name":"plain","version":"1.0.0"}', 'program.ts': program })
    expect(await laptop.run('build', 'plain', '-o', 'plain.medulla')).toMatchObject({ status: 0 })
    const file = await laptop.run('rebuild', 'plain.medulla', '--source', 'plain')
    expect(file).toMatchObject({ status: 0, stderr: '' })
    expect(file.stdout).toMatch(
      /^plain\.medulla: plain 1\.0\.0 is what plain gives\nall 4 files are the same: h1:\S+\n$/,
    )
    expect(await laptop.run('push', 'plain')).toMatchObject({ status: 0 })
    expect(await laptop.run('rebuild', '-d', 'sim', '--source', 'plain')).toMatchObject({ status: 0, stderr: '' })
    write(own, { 'program.ts': program.replace('{}', '{ void 7 }') })
    const { status, stdout, stderr } = await laptop.run('rebuild', '-d', 'sim', '--source', 'plain')
    expect(status).toBe(3)
    expect(stderr).toContain('sim/main is not what its source gives: ')
    expect(stdout).toMatch(
      /^buildinfo\.json: inputs\[\d+\]\.sha256\n {2}bundle: {2}"[0-9a-f]{64}"\n {2}rebuilt: "[0-9a-f]{64}"\n/,
    )
    expect(await laptop.run('rebuild', 'plain.medulla')).toMatchObject({ status: 2 })
  },
)

test(
  'V14: verify says that a folder, a file and a robot are unmodified, or which files were modified',
  SLOW,
  async () => {
    expect(await laptop.run('verify', 'rover')).toEqual({ status: 0, stdout: 'all modules verified\n', stderr: '' })
    const bundle = await laptop.run('verify', 'rover.medulla')
    expect(bundle).toMatchObject({ status: 0, stderr: '' })
    const verified =
      /: (?:rover 3\.1\.0|plain 1\.0\.0), signed by SHA256:\S+\nall 4 files verified: h1:[A-Za-z0-9+/]{43}=\n$/
    expect(bundle.stdout).toMatch(verified)
    expect((await laptop.run('verify', '-d', 'sim')).stdout).toMatch(verified)

    const [installed, own] = [join(folder(), 'node_modules/tiny/index.js'), "export default 'led'\n"]
    write(folder(), { 'node_modules/tiny/index.js': `${own}// more\n` })
    const folderWas = await laptop.run('verify', 'rover')
    expect(folderWas).toMatchObject({ status: 3 })
    expect(folderWas.stdout).toMatch(
      /^tiny@1\.2\.3 was modified\n {2}downloaded: h1:.*\n {2}recorded: {3}h1:.*\n {2}changed: index\.js\n$/,
    )
    expect(folderWas.stderr).toContain('1 of 1 modules was modified')
    expect(await laptop.run('push', 'rover')).toMatchObject({ status: 6 })
    writeFileSync(installed, own)

    const file = join(laptop.dir, 'rover.medulla')
    const bytes = readFileSync(file)
    bytes[bytes.length - 20] = (bytes[bytes.length - 20] ?? 0) ^ 1
    writeFileSync(join(laptop.dir, 'changed.medulla'), bytes)
    expect(await laptop.run('verify', 'changed.medulla')).toMatchObject({ status: 3 })

    for (const entry of await glob('**/store/*/payload.tar.gz', { cwd: laptop.dir, absolute: true, dot: true })) {
      const payload = readFileSync(entry)
      chmodSync(entry, 0o600)
      writeFileSync(entry, payload.fill(0, 100, 101))
    }
    const robot = await laptop.run('verify', '-d', 'sim')
    expect(robot).toMatchObject({ status: 3, stdout: '' })
    expect(robot.stderr).toContain("the robot's payload.tar.gz was modified: ")
  },
)
