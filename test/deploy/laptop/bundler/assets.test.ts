import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { buildProgram } from '../../../../deploy/laptop/build.ts'
import { packPayload } from '../../../../deploy/shared/bundle/payload.ts'
import { readTar, writeTar } from '../../../../deploy/shared/bundle/tar.ts'
import { checkProgram } from '../../../../runtime/store/entry.ts'
import { filesOf } from '../../../fixtures/bundles.ts'
import { manifestOf, releaseOf } from '../../../fixtures/manifests.ts'
import { refusal, tempFolder } from '../../../fixtures/tools.ts'

const opts = {
  sdk: fileURLToPath(new URL('../fixtures/sdk.ts', import.meta.url)),
  drivers: fileURLToPath(new URL('../fixtures/drivers.ts', import.meta.url)),
}
const BLINK = `import { robot } from 'medulla'\nrobot({ led: 'output' })\n`

function folderOf(files: Record<string, string | Uint8Array>): string {
  const folder = tempFolder()
  for (const [name, bytes] of Object.entries({ 'program.ts': BLINK, ...files })) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), bytes)
  }
  return folder
}

const about = (...assets: unknown[]): string => JSON.stringify({ name: 'x', version: '1.0.0', medulla: { assets } })
const build = (files: Record<string, string | Uint8Array>) => buildProgram(folderOf(files), opts)
const refused = (files: Record<string, string | Uint8Array>) => refusal(() => build(files))

test('BUNDLE 11.6: files that package.json names come along, byte for byte, sorted in the payload', async () => {
  const model = Uint8Array.from({ length: 256 }, (_, index) => index)
  const { files } = await build({
    'package.json': about('public/**', 'model.bin', 'sounds/*.wav', 'docs'),
    'public/index.html': '<h1>robot</h1>',
    'public/js/app.js': 'alert(1)',
    'public/.hidden': 'no',
    'model.bin': model,
    'sounds/horn.wav': 'RIFF',
    'sounds/readme.md': 'no',
    'docs/a.txt': 'a',
    'node_modules/x/public/page.html': 'no',
  })
  expect(
    files
      .slice(3)
      .map(({ name }) => name)
      .sort(),
  ).toEqual([
    'files/docs/a.txt',
    'files/model.bin',
    'files/public/index.html',
    'files/public/js/app.js',
    'files/sounds/horn.wav',
    'program.mjs.map',
  ])
  expect(files.find(({ name }) => name === 'files/model.bin')?.bytes).toEqual(Buffer.from(model))
  const { h1 } = await packPayload(files)
  const other = files.map((file) => (file.name === 'files/model.bin' ? { ...file, bytes: Buffer.from('x') } : file))
  expect((await packPayload(other)).h1).not.toBe(h1)
  const info = JSON.parse(Buffer.from(files[2]?.bytes ?? '').toString())
  expect(info.inputs.map(({ path }: { path: string }) => path)).toContain('public/index.html')
})

test('BUNDLE 11.6: patterns that name nothing or lead out of the folder, and names that no tar may hold, are refused', async () => {
  expect(await refused({ 'package.json': about('pubic/**') })).toMatchObject({
    code: 'build-failed',
    message: expect.stringContaining('"assets" names pubic/**, but no file in '),
    hint: expect.stringContaining('public/**'),
  })
  for (const path of ['../other/page.html', '/etc/passwd', 'a/../../b']) {
    expect((await refused({ 'package.json': about(path) })).message).toContain(
      "expected a path in the program's folder",
    )
  }
  expect((await refused({ 'package.json': about(5) })).hint).toContain('"assets": ["public/**", "model.bin"]')
  const named = await refused({ 'package.json': about('public/**'), 'public/größe 1.txt': '' })
  expect(named.message).toContain('public/größe 1.txt does not fit in a bundle')
  const long = `${'a'.repeat(90)}/b.txt`
  expect((await refused({ 'package.json': about('**/*.txt'), [long]: '' })).message).toContain('at most 94 characters')
})

test('BUNDLE 1.4: more files than a bundle holds, and larger ones, are refused before they are read', async () => {
  const many = Object.fromEntries(Array.from({ length: 1022 }, (_, index) => [`many/${index}.txt`, '']))
  expect((await refused({ 'package.json': about('many'), ...many })).message).toContain('at most 1021 fit in a bundle')
  const folder = folderOf({ 'package.json': about('large.bin'), 'large.bin': '' })
  const { truncateSync } = await import('node:fs')
  truncateSync(join(folder, 'large.bin'), 129 * 2 ** 20)
  const large = await refusal(() => buildProgram(folder, opts))
  expect(large.message).toContain('have 129.0 MB, at most 128.0 MB fit in a bundle: ')
  expect(large.message).toContain('large.bin (129.0 MB)')
})

test('BUNDLE 5.7: names that are one file on some file systems are refused by writer and reader', async () => {
  const file = (name: string) => ({ name, bytes: Buffer.from('x') })
  const both = await refusal(() => writeTar([file('files/A.txt'), file('files/a.txt')]))
  expect(both.message).toBe("tar: 'files/A.txt' and 'files/a.txt' differ only in case")
  const folder = await refusal(() => writeTar([file('files/a'), file('files/A/b')]))
  expect(folder.message).toBe("tar: 'files/a' is a file, and the folder of 'files/A/b'")
  const tar = await writeTar([file('files/a.txt'), file('files/b.txt')])
  const renamed = Buffer.from(tar)
  // the second entry, called like the first but for its case; the sum of its header is as large as before but for these bytes
  const at = renamed.indexOf('files/b.txt')
  renamed.write('files/A.txt', at)
  const sum = Number.parseInt(renamed.toString('latin1', at + 148, at + 154), 8) - 'b'.charCodeAt(0) + 'A'.charCodeAt(0)
  renamed.write(sum.toString(8).padStart(6, '0'), at + 148)
  expect((await refusal(() => readTar(renamed))).message).toContain('differ only in case')
})

test('BUNDLE 5.8: a payload may hold files/, and nothing else besides', async () => {
  const manifest = manifestOf()
  const map = (...names: string[]) =>
    new Map(
      [...filesOf(manifest), ...names.map((name) => ({ name, bytes: Buffer.from('x') }))].map((f) => [f.name, f.bytes]),
    )
  expect(checkProgram(releaseOf(), map('files/a.txt', 'files/b/c.bin'))).toEqual(manifest)
  for (const name of ['other.txt', 'file/a', 'node_modules/a.js', 'files']) {
    const { message } = await refusal(() => checkProgram(releaseOf(), map('files/a.txt', name)))
    expect(message).toContain(`the payload holds`)
    expect(message).toContain(name)
  }
})

const needing = (name: string): Record<string, string> => ({
  'program.ts': `import * as it from '${name}'\n${BLINK}console.log(it)\n`,
})

/** As npm lays it down: a package whose addon was not compiled. */
const native = (name: string, index = `module.exports = require('bindings')('x')\n`): Record<string, string> => ({
  [`node_modules/${name}/package.json`]: JSON.stringify({ name, version: '1.0.0' }),
  [`node_modules/${name}/index.js`]: index,
})

test.each([
  ['onoff', 'onoff is native: ask for an `output` handle instead'],
  ['rpio', 'rpio is native: ask for an `output`'],
  ['i2c-bus', 'i2c-bus is native: ask for an `i2c` handle instead; i2cBus(handle) of medulla/drivers'],
  ['spi-device', 'spi-device is native: ask for an `spi` handle instead'],
  ['pigpio', 'pigpio is native: ask for an `output`, `input`, `pwm` or `servo` handle instead'],
  ['serialport', 'serialport is native: ask for a `serial` handle instead'],
  ['node-libgpiod', 'node-libgpiod is native: ask for an `output` or `input` handle instead'],
  ['rpi-ws281x', 'rpi-ws281x is native: ask for an `spi` handle instead'],
  ['sharp', 'sharp is native: prepare images before the build'],
  ['better-sqlite3', 'better-sqlite3 is native: keep data in `state`'],
])('BUNDLE 11.8: a program that imports %s is told what to write instead, installed or not', async (name, text) => {
  const bare = await refused(needing(name))
  expect(bare.message).toContain(text)
  expect(bare.message).toContain('program.ts:1:')
  expect(bare.hint).toContain("robot({ led: 'output' }")
  expect((await refused({ ...needing(name), ...native(name) })).message).toContain(text)
})

test('BUNDLE 11.8: packages nobody has listed are known by what they load their addon with', async () => {
  const hidden = {
    'node_modules/wrapper/package.json': '{"name":"wrapper","version":"1.0.0"}',
    'node_modules/wrapper/index.js': `module.exports = require('lidar-native')\n`,
    ...native('lidar-native'),
  }
  const throws = await refused({ ...needing('wrapper'), ...hidden })
  expect(throws.message).toContain('lidar-native is native: no bundle can carry compiled code')
  const file = native('one-file', `module.exports = require('./build/Release/addon.node')\n`)
  expect((await refused({ ...needing('one-file'), ...file })).message).toContain('one-file is native')
})

test('BUNDLE 11.8: a native package that a dependency does without is no mistake, and a file called so is none', async () => {
  const { manifest } = await build({
    'program.ts': `import fast from 'optional'\nimport own from './onoff.ts'\n${BLINK}if (fast + own !== 'slowmine') throw new Error(fast)\n`,
    'onoff.ts': `export default 'mine'\n`,
    'node_modules/optional/package.json': '{"name":"optional","version":"1.0.0"}',
    'node_modules/optional/index.js': `try { module.exports = require('bufferutil') } catch (e) { if (e.code !== 'MODULE_NOT_FOUND') throw e\nmodule.exports = 'slow' }\n`,
    ...native('bufferutil', `module.exports = require('node-gyp-build')(__dirname)\n`),
  })
  expect(manifest.needs).toEqual({ led: 'output' })
})

test('a package that is not installed: what to type, and where', async () => {
  const folder = folderOf(needing('lodash/get.js'))
  const missing = await refusal(() => buildProgram(folder, opts))
  expect(missing.message).toContain('Could not resolve "lodash/get.js"')
  expect(missing.hint).toMatch(/^in .*: npm install lodash$/)
  const declared = await refused({
    ...needing('@me/lib'),
    'package.json': '{"name":"x","dependencies":{"@me/lib":"1"}}',
  })
  expect(declared.hint).toMatch(/: npm install$/)
  expect((await refused(needing('./nowhere.ts'))).hint).toBeUndefined()
})

test('a promise that is rejected while the program loads is shown, and where', async () => {
  const late = await refused({
    'program.ts': `${BLINK}async function connect(): Promise<void> {\n  throw new Error('no broker')\n}\nconnect()\nawait new Promise((done) => setTimeout(done, 50))\n`,
  })
  expect(late.message).toContain('the program throws while loading: no broker')
  expect(late.message).toContain('program.ts:4:')
})
