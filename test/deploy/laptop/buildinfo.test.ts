import { cpSync, existsSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type Built, buildProgram, makeBundle } from '../../../deploy/laptop/build.ts'
import { parseBuildInfo, type ReadBuildInfo } from '../../../deploy/laptop/buildinfo.ts'
import { inspectBundle, inspectStored, unseal } from '../../../deploy/laptop/provenance/opened.ts'
import { billOfMaterials } from '../../../deploy/laptop/provenance/sbom.ts'
import { parseInner } from '../../../deploy/shared/bundle/inner.ts'
import { packPayload } from '../../../deploy/shared/bundle/payload.ts'
import { openSealed } from '../../../deploy/shared/bundle/seal.ts'
import { newRobot, newSigner } from '../../fixtures/bundles.ts'
import { missing, refusal, run, tempFolder } from '../../fixtures/tools.ts'
import { commit, committed, integrityOf, LIBRARY, npmProgram, write } from './npmprogram.ts'

const build = (folder: string) => buildProgram(folder, LIBRARY)

function infoOf({ files }: Pick<Built, 'files'>): ReadBuildInfo {
  return parseBuildInfo(files.find(({ name }) => name === 'buildinfo.json')?.bytes ?? new Uint8Array())
}

const needsGit = missing('git')
const needsTools = missing('git', 'sha256sum', 'openssl')

test(`V3: V4: BUNDLE 11.4: the build carries its commit, tools, Node range and every module, with npm's integrity${needsGit}`, {
  skip: needsGit !== '',
}, async () => {
  const folder = npmProgram()
  const revision = committed(folder)
  const info = infoOf(await build(folder))
  expect(info).toMatchObject({
    format: 'medulla-buildinfo/2',
    program: 'rover',
    version: '3.1.0',
    path: '@me/rover',
    main: 'program.ts',
    vcs: { system: 'git', revision, folder: '.', modified: false },
    tools: { medulla: '0.1.0', esbuild: '0.28.2' },
    node: '>=20.19',
    target: 'node20',
  })
  expect(Object.keys(info.tools)).toEqual(['medulla', 'esbuild'])
  expect(info.modules).toEqual([
    { name: '@deep/er', version: '2.0.0', integrity: integrityOf('deeper'), h1: expect.stringMatching(/^h1:/) },
    { name: 'tiny', version: '1.2.3', integrity: integrityOf('tiny'), h1: expect.stringMatching(/^h1:/) },
  ])
})

test(`V3: BUNDLE 11.11: a changed, a new and an ignored file of the program are "modified"; other files are not${needsGit}`, {
  skip: needsGit !== '',
}, async () => {
  const top = tempFolder()
  const folder = join(top, 'robots/rover')
  cpSync(npmProgram(), folder, { recursive: true })
  write(top, { 'README.md': 'a\n', '.gitignore': 'made.ts\n' })
  const revision = committed(top)
  const vcs = async () => infoOf(await build(folder)).vcs
  expect(await vcs()).toMatchObject({ revision, folder: 'robots/rover', modified: false })
  // neither what the build itself wrote, nor a file that is no part of the program
  write(top, { 'README.md': 'b\n', 'robots/rover/rover-3.1.0.medulla': 'x' })
  expect(await vcs()).toMatchObject({ modified: false })
  const program = (extra: string) =>
    `${extra}import { robot } from 'medulla'\nimport led from 'tiny'\nrobot({ [led]: 'output' }, () => {})\n`
  write(folder, { 'program.ts': program("import './made.ts'\n"), 'made.ts': 'globalThis.made = 1\n' })
  expect(await vcs()).toMatchObject({ revision, modified: true })
  const second = commit(top)
  expect(await vcs()).toMatchObject({ revision: second, modified: true })
  write(folder, { 'program.ts': program('// a comment\n') })
  expect(await vcs()).toMatchObject({ modified: true })
  commit(top)
  expect(await vcs()).toMatchObject({ modified: false })
  // a lock file has a say in what is built
  writeFileSync(join(folder, 'package-lock.json'), ' ', { flag: 'a' })
  expect(await vcs()).toMatchObject({ modified: true })
})

test('V3: a build executes nothing that the settings of a repository name', { skip: needsGit !== '' }, async () => {
  const folder = npmProgram()
  const revision = committed(folder)
  const [mark, script] = [join(folder, '.git/executed'), join(folder, '.git/evil.sh')]
  writeFileSync(script, `#!/bin/sh\ntouch '${mark}'\n`, { mode: 0o755 })
  for (const [key, value] of Object.entries({
    'core.fsmonitor': script,
    'log.showSignature': 'true',
    'gpg.program': script,
    'filter.x.clean': script,
    'diff.external': script,
    'core.hooksPath': join(folder, '.git'),
  })) {
    run(folder, 'git', ['config', key, value])
  }
  write(folder, {
    '.git/info/attributes': '* filter=x\n',
    'program.ts': "import 'tiny'\nimport { robot } from 'medulla'\nrobot({ led: 'output' }, () => {})\n",
  })
  expect(infoOf(await build(folder)).vcs).toMatchObject({
    revision,
    modified: true,
    time: expect.stringMatching(/^20/),
  })
  expect(existsSync(mark)).toBe(false)
})

test('V3: a program in no checkout, or that no commit holds, has no revision', { skip: needsGit !== '' }, async () => {
  const folder = npmProgram()
  expect(infoOf(await build(folder)).vcs).toBeNull()
  // a home that is a repository says nothing about an untracked program in it
  run(folder, 'git', ['init', '--quiet', '.'])
  expect(infoOf(await build(folder)).vcs).toBeNull()
  write(folder, { '.gitignore': '*\n!.gitignore\n' })
  commit(folder)
  expect(infoOf(await build(folder)).vcs).toBeNull()
})

test(`V5: BUNDLE 11.12: the hash of a module is Go's dirhash of its installed files, as sha256sum makes it${needsTools}`, {
  skip: needsTools !== '',
}, async () => {
  const folder = npmProgram()
  write(folder, { 'node_modules/tiny/node_modules/inner/package.json': '{"name":"inner","version":"1.0.0"}' })
  const { modules } = infoOf(await build(folder))
  for (const { name, version, h1 } of modules) {
    const script = `find . -name node_modules -prune -o -type f -print | cut -c 3- | sed "s,^,${name}@${version}/," | LC_ALL=C sort |
      while read -r f; do printf '%s  %s\\n' "$(sha256sum < "\${f#${name}@${version}/}" | cut -d ' ' -f 1)" "$f"; done |
      openssl dgst -sha256 -binary | base64`
    expect(h1).toBe(`h1:${run(join(folder, 'node_modules', name), 'sh', ['-c', script]).trim()}`)
  }
})

test(`V1: V2: a clone elsewhere gives the same bytes, whatever a newer release in the registry is${needsGit}`, {
  skip: needsGit !== '',
}, async () => {
  const one = npmProgram()
  committed(one)
  const two = join(tempFolder(), 'cloned here')
  run(one, 'git', ['clone', '--quiet', one, two])
  cpSync(join(one, 'node_modules'), join(two, 'node_modules'), { recursive: true })
  const [first, second] = [await build(one), await build(two)]
  expect((await packPayload(second.files)).h1).toBe((await packPayload(first.files)).h1)
  for (const { name, bytes } of first.files) {
    expect(second.files.find((file) => file.name === name)?.bytes, name).toEqual(bytes)
  }
})

test('V2: BUNDLE 11.13: an installed version that the lock file does not name is refused', async () => {
  const folder = npmProgram()
  write(folder, {
    'node_modules/tiny/package.json': '{"name":"tiny","version":"1.2.4","type":"module","main":"index.js"}',
  })
  const refused = await refusal(() => build(folder))
  expect(refused).toMatchObject({ code: 'build-failed', hint: `in ${folder}: npm ci` })
  expect(refused.message).toBe(`tiny 1.2.4 is installed, but ${join(folder, 'package-lock.json')} says 1.2.3`)
})

test('BUNDLE 11.13: one version that is installed twice with different files is refused', async () => {
  const folder = npmProgram()
  write(folder, {
    'node_modules/tiny/node_modules/@deep/er/package.json':
      '{"name":"@deep/er","version":"2.0.0","type":"module","main":"led.js"}',
    'node_modules/tiny/node_modules/@deep/er/led.js': "export const led = 'led'\n",
    'program.ts':
      "import { robot } from 'medulla'\nimport led from 'tiny'\nimport { led as other } from '@deep/er'\nrobot({ [led || other]: 'output' }, () => {})\n",
  })
  expect((await refusal(() => build(folder))).message).toContain(
    '@deep/er@2.0.0 is installed twice, with different files',
  )
})

test('V4: BUNDLE 8.6: a reader opens the bundle, and gets what its builder says, and who that is', async () => {
  const { files, manifest } = await build(npmProgram())
  const [signer, robot, reader, other] = [newSigner(), await newRobot(), await newRobot(), await newRobot()]
  const made = await makeBundle(files, manifest, { signer, robots: [robot], readers: [reader.age], counter: 1 })
  for (const identities of [[reader.identity], [other.identity, robot.identity]]) {
    const inspected = await inspectBundle(await unseal(made.bytes, identities))
    expect(inspected).toMatchObject({ digest: made.digest, signer: signer.fingerprint, info: { path: '@me/rover' } })
    expect(inspected.release.recipients).toEqual([robot.id])
  }
  expect(await refusal(() => unseal(made.bytes, [other.identity]))).toMatchObject({ code: 'no-key' })
  expect(await refusal(() => unseal(made.bytes, []))).toMatchObject({ code: 'no-key' })
})

test('V14: BUNDLE 8.7: of what a robot has on its disk, the file that was modified is named', async () => {
  const { files, manifest } = await build(npmProgram())
  const [signer, robot] = [newSigner(), await newRobot()]
  const { bytes, digest } = await makeBundle(files, manifest, { signer, robots: [robot], counter: 1 })
  const stored = { digest, ...(await parseInner(await openSealed(bytes, robot.identity))) }
  expect(await inspectStored(stored)).toMatchObject({ digest, signer: signer.fingerprint })
  const flipped = (from: Uint8Array) =>
    Buffer.from(from).fill((from.at(-40) ?? 0) ^ 1, from.length - 40, from.length - 39)
  const other = await newSigner().sign('release@medulla', stored.release)
  for (const [file, change] of [
    ['release', { release: flipped(stored.release) }],
    ['release.sig', { signature: stored.signature.replace(/[A-Y](?=.{20}\n)/, 'Z') }],
    ['payload.tar.gz', { payload: flipped(stored.payload) }],
    ['payload.tar.gz', { payload: stored.payload.subarray(0, -1) }],
  ] as const) {
    const refused = await refusal(() => inspectStored({ ...stored, ...change }))
    expect(refused, file).toMatchObject({ code: 'bad-hash' })
    expect(refused.message).toContain(`the robot's ${file} was modified: `)
  }
  // a good signature of somebody else is not for a laptop to judge: it shows who signed
  expect((await inspectStored({ ...stored, signature: other })).signer).not.toBe(signer.fingerprint)
})

test('V9: a bundle whose buildinfo names another program than the signed release is refused', async () => {
  const { files, manifest } = await build(npmProgram())
  const [signer, robot] = [newSigner(), await newRobot()]
  const changed = files.map((file) =>
    file.name === 'buildinfo.json'
      ? { ...file, bytes: Buffer.from(Buffer.from(file.bytes).toString().replace('"3.1.0"', '"3.1.1"')) }
      : file,
  )
  const { bytes } = await makeBundle(changed, manifest, { signer, robots: [robot], counter: 1 })
  const refused = await refusal(async () => inspectBundle(await unseal(bytes, [robot.identity])))
  expect(refused.message).toBe('buildinfo.json names rover 3.1.1, but the release is rover 3.1.0')
})

const OLD = {
  format: 'medulla-buildinfo/1',
  program: 'blink',
  version: '1.0.0',
  main: 'program.ts',
  tools: { medulla: '0.1.0', node: 'v20.20.2', esbuild: '0.28.2' },
  modules: [{ name: 'tiny', version: '1.2.3' }],
  inputs: [{ path: 'program.ts', sha256: '0'.repeat(64) }],
}
const bytesOf = (value: object) => Buffer.from(`${JSON.stringify(value)}\n`)

test('BUNDLE 11.4: a bundle of an older medulla is read, without what it does not say', () => {
  expect(parseBuildInfo(bytesOf(OLD))).toMatchObject({
    path: 'blink',
    vcs: null,
    node: null,
    tools: { node: 'v20.20.2' },
    modules: [{ name: 'tiny', version: '1.2.3', integrity: null, h1: null }],
  })
})

test('V8: BUNDLE 11.12: a hash with another version than h1: is refused, and so is what is no hash', async () => {
  const info = infoOf(await build(npmProgram()))
  const withHash = (h1: string) => bytesOf({ ...info, modules: [{ ...info.modules[1], h1 }] })
  expect(parseBuildInfo(withHash(info.modules[1]?.h1 ?? '')).modules).toHaveLength(1)
  const refused = await refusal(() => parseBuildInfo(withHash(`h2:${'A'.repeat(43)}=`)))
  expect(refused).toMatchObject({
    code: 'unknown-format',
    message: 'module tiny@1.2.3: unknown hash h2:, known: h1:',
  })
  expect((await refusal(() => parseBuildInfo(withHash('h1:short')))).code).toBe('bad-bundle')
})

test.each([
  ['no JSON', Buffer.from('{'), 'bad-bundle'],
  ['a list', Buffer.from('[]\n'), 'bad-bundle'],
  ['an unknown format', bytesOf({ ...OLD, format: 'medulla-buildinfo/3' }), 'unknown-format'],
  ['an unknown key', bytesOf({ ...OLD, more: 1 }), 'bad-bundle'],
  ['a control character', bytesOf({ ...OLD, main: 'a\u001b[2Jb' }), 'bad-bundle'],
  ['a text that changes its direction', bytesOf({ ...OLD, program: 'a\u202eb' }), 'bad-bundle'],
  ['a number for a name', bytesOf({ ...OLD, modules: [{ name: 1, version: '1.0.0' }] }), 'bad-bundle'],
])('buildinfo.json with %s is refused', async (_what, bytes, code) => {
  expect((await refusal(() => parseBuildInfo(bytes))).code).toBe(code)
})

test('BUNDLE 11.11: a folder of a commit that leads out of the repository is refused', async () => {
  const info = infoOf(await build(npmProgram()))
  const vcs = {
    system: 'git',
    revision: 'a'.repeat(40),
    time: '2026-01-02T03:04:05.000Z',
    folder: '.',
    modified: false,
  }
  expect(parseBuildInfo(bytesOf({ ...info, vcs })).vcs).toEqual(vcs)
  for (const folder of ['..', '../x', 'a/../../b', '/etc', ''])
    expect((await refusal(() => parseBuildInfo(bytesOf({ ...info, vcs: { ...vcs, folder } })))).code).toBe('bad-bundle')
})

test('V4: the bill of materials is CycloneDX 1.6, and the same for the same bundle', async () => {
  const folder = npmProgram()
  const built = await build(folder)
  const text = billOfMaterials(infoOf(built), 'h1:x')
  expect(billOfMaterials(infoOf(await build(folder)), 'h1:x')).toBe(text)
  const bom = JSON.parse(text)
  expect(bom).toMatchObject({
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    metadata: { component: { type: 'firmware', name: 'rover', version: '3.1.0' } },
    dependencies: expect.arrayContaining([
      { ref: 'program', dependsOn: ['pkg:npm/%40deep/er@2.0.0', 'pkg:npm/tiny@1.2.3'] },
    ]),
  })
  const [er, tiny] = bom.components
  expect(er).toMatchObject({ group: '@deep', name: 'er', version: '2.0.0', purl: 'pkg:npm/%40deep/er@2.0.0' })
  expect(tiny.hashes).toEqual([
    { alg: 'SHA-512', content: Buffer.from(integrityOf('tiny').slice(7), 'base64').toString('hex') },
  ])
  expect(tiny.properties).toEqual([{ name: 'medulla:h1', value: expect.stringMatching(/^h1:/) }])
})

test('a package without a lock file has no integrity, and is hashed all the same', async () => {
  const folder = npmProgram()
  rmSync(join(folder, 'package-lock.json'))
  for (const { integrity, h1 } of infoOf(await build(folder)).modules) {
    expect(integrity).toBeNull()
    expect(h1).toMatch(/^h1:/)
  }
})
