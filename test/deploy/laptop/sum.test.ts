import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { Builder, buildProgram } from '../../../deploy/laptop/build.ts'
import { refusal } from '../../fixtures/tools.ts'
import { DEEPER, LIBRARY, npmProgram, TINY, write } from './npmprogram.ts'

const build = (folder: string) => buildProgram(folder, LIBRARY)
const sumOf = (folder: string) => readFileSync(join(folder, 'medulla.sum'), 'utf8')
const hashIn = (sum: string, name: string) =>
  sum
    .split('\n')
    .find((line) => line.startsWith(`${name} `))
    ?.split(' ')[2]
/** Leaves a file behind if it is executed. */
const evil = (mark: string) =>
  `import fs from 'node:fs'\nfs.writeFileSync(${JSON.stringify(mark)}, '')\nexport default 'led'\n`

async function verify(folder: string) {
  const builder = new Builder(folder, LIBRARY)
  onTestFinished(() => builder.close())
  return builder.verify()
}

test('V10: V13: BUNDLE 15.1: a build records each module once, also those that others import', async () => {
  const folder = npmProgram()
  await build(folder)
  const sum = sumOf(folder)
  const hash = 'h1:[A-Za-z0-9+/]{43}='
  expect(sum).toMatch(new RegExp(`^@deep/er 2\\.0\\.0 ${hash}\ntiny 1\\.2\\.3 ${hash}\n$`))
  await build(folder)
  expect(sumOf(folder)).toBe(sum)
})

test('a program without modules gets no medulla.sum', async () => {
  const folder = npmProgram()
  write(folder, { 'program.ts': "import { robot } from 'medulla'\nrobot({ led: 'output' }, () => {})\n" })
  await build(folder)
  expect(existsSync(join(folder, 'medulla.sum'))).toBe(false)
})

test('V11: V9: BUNDLE 15.3: other files under the same version stop the build before they run, with both hashes', async () => {
  const folder = npmProgram()
  await build(folder)
  const sum = sumOf(folder)
  const mark = join(folder, 'executed')
  // as it would run while the module loads
  write(folder, { 'node_modules/tiny/index.js': evil(mark) })
  const refused = await refusal(() => build(folder))
  const recorded = hashIn(sum, 'tiny')
  const downloaded = /downloaded: (\S+)/.exec(refused.message)?.[1]
  expect(refused).toMatchObject({
    code: 'build-failed',
    message: `tiny@1.2.3 has other files than those recorded in medulla.sum\n  downloaded: ${downloaded}\n  recorded:   ${recorded}`,
    hint: 'medulla verify names the files; npm ci downloads all modules again',
  })
  expect(downloaded).toMatch(/^h1:/)
  expect(downloaded).not.toBe(recorded)
  expect(existsSync(mark)).toBe(false)
  expect(sumOf(folder)).toBe(sum)
})

test('V13: BUNDLE 15.2: a module that only another module imports is checked, too', async () => {
  const folder = npmProgram()
  await build(folder)
  write(folder, { 'node_modules/@deep/er/README.md': 'not even a file that is bundled\n' })
  expect((await refusal(() => build(folder))).message).toContain('@deep/er@2.0.0 has other files')
})

test('V10: V12: BUNDLE 15.2: lines are only added; those of other modules and versions are ignored and stay', async () => {
  const folder = npmProgram()
  await build(folder)
  const first = `unused 9.9.9 h1:${'A'.repeat(43)}=\ntiny 1.0.0 h1:${'B'.repeat(43)}=`
  const tiny = sumOf(folder).split('\n')[1]
  // without a newline at the end, as an editor may leave it
  writeFileSync(join(folder, 'medulla.sum'), first)
  await build(folder)
  expect(sumOf(folder).startsWith(`${first}\n`)).toBe(true)
  expect(sumOf(folder).split('\n')).toContain(tiny)
  expect(sumOf(folder).split('\n')).toHaveLength(5)
})

test('V8: BUNDLE 15.3: a hash with an unknown prefix is refused, also of a module that is not used', async () => {
  const folder = npmProgram()
  await build(folder)
  appendFileSync(join(folder, 'medulla.sum'), `other 1.0.0 h2:${'A'.repeat(43)}=\n`)
  expect(await refusal(() => build(folder))).toMatchObject({
    code: 'unknown-format',
    message: 'medulla.sum line 3: unknown hash h2:, known: h1:',
  })
})

test.each([
  ['a conflict of a merge', '<<<<<<< HEAD\n', 'medulla.sum line 3: expected the name of a module'],
  [
    'a line with too many words',
    `a 1.0.0 h1:${'A'.repeat(43)}= x\n`,
    'medulla.sum line 3: expected the name of a module',
  ],
  ['a hash that is none', 'a 1.0.0 h1:x\n', 'medulla.sum line 3: expected h1: and a SHA-256'],
  [
    'two hashes for one version',
    `tiny 1.2.3 h1:${'A'.repeat(43)}=\n`,
    'medulla.sum line 3: tiny 1.2.3 is recorded twice',
  ],
])('BUNDLE 15.3: %s stops the build', async (_what, line, message) => {
  const folder = npmProgram()
  await build(folder)
  appendFileSync(join(folder, 'medulla.sum'), line)
  expect((await refusal(() => build(folder))).message).toContain(message)
})

test('V14: unmodified modules are verified, and nothing of the program runs', async () => {
  const folder = npmProgram()
  await build(folder)
  const mark = join(folder, 'executed')
  write(folder, {
    'program.ts': `import fs from 'node:fs'\nimport led from 'tiny'\nfs.writeFileSync(${JSON.stringify(mark)}, led)\n`,
  })
  expect(await verify(folder)).toEqual({ modules: 2, modified: [], unrecorded: [] })
  expect(existsSync(mark)).toBe(false)
})

test('V14: changed, added and removed files of a modified module are named', async () => {
  const folder = npmProgram()
  await build(folder)
  write(folder, { 'node_modules/tiny/index.js': `${TINY['index.js']}\n`, 'node_modules/tiny/more/new.js': '' })
  rmSync(join(folder, 'node_modules/tiny/LICENSE'))
  const { modified } = await verify(folder)
  expect(modified).toMatchObject([
    {
      name: 'tiny',
      version: '1.2.3',
      recorded: hashIn(sumOf(folder), 'tiny'),
      files: [
        { path: 'LICENSE', how: 'removed' },
        { path: 'index.js', how: 'changed' },
        { path: 'more/new.js', how: 'added' },
      ],
    },
  ])
  write(folder, { 'node_modules/tiny/index.js': TINY['index.js'], 'node_modules/tiny/LICENSE': TINY.LICENSE })
  rmSync(join(folder, 'node_modules/tiny/more'), { recursive: true })
  expect((await verify(folder)).modified).toEqual([])
})

test('V14: BUNDLE 15.4: without a list of the recorded files, or with a forged one, no files are named', async () => {
  const folder = npmProgram()
  await build(folder)
  write(folder, { 'node_modules/@deep/er/lib/led.js': `${DEEPER['lib/led.js']}\n` })
  const list = join(folder, 'node_modules/.medulla/@deep+er@2.0.0.json')
  expect((await verify(folder)).modified).toMatchObject([{ files: [{ path: 'lib/led.js', how: 'changed' }] }])
  writeFileSync(list, readFileSync(list, 'utf8').replace(/[0-9a-f]{64}/, '0'.repeat(64)))
  expect((await verify(folder)).modified).toMatchObject([{ name: '@deep/er', files: null }])
  rmSync(list)
  expect((await verify(folder)).modified).toMatchObject([{ name: '@deep/er', files: null }])
})

test('V14: a module that no build has recorded yet is said to be unrecorded', async () => {
  expect(await verify(npmProgram())).toEqual({ modules: 2, modified: [], unrecorded: ['@deep/er@2.0.0', 'tiny@1.2.3'] })
})
