import { spawnSync } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { buildProgram } from '../../../../deploy/laptop/build.ts'
import { writeTree } from '../../../../deploy/laptop/bundler/tree.ts'
import { refusal, tempFolder } from '../../../fixtures/tools.ts'

const opts = {
  sdk: fileURLToPath(new URL('../fixtures/sdk.ts', import.meta.url)),
  drivers: fileURLToPath(new URL('../fixtures/drivers.ts', import.meta.url)),
}

type Files = Record<string, string>

/** The text of a program that prints `what`, after `imports`. */
const prints = (what: string, imports = ''): string =>
  `import { robot } from 'medulla'\n${imports}\nrobot({ led: 'output' })\nconsole.log(${what})\n`

function folderOf(files: Files): string {
  const folder = tempFolder()
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  return folder
}

/** Built, taken elsewhere, and run by plain Node: what it prints. */
async function runs(path: string): Promise<string> {
  const { files } = await buildProgram(path, opts)
  const elsewhere = tempFolder()
  writeTree(elsewhere, files)
  const { stdout, stderr } = spawnSync(process.execPath, ['program.mjs'], { cwd: elsewhere, encoding: 'utf8' })
  expect(stderr).toBe('')
  return stdout.trim()
}

const printed = (files: Files): Promise<string> => runs(folderOf(files))

test('BUNDLE 11.5: a module knows its folder and its file, as CommonJS and as ESM, in its own folder of the program', async () => {
  const text = await printed({
    'program.ts': prints(
      '[where, here, old.there, old.file, import.meta.dirname.slice(-5)].join()',
      `import { basename, dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import old from './lib/old.cjs'
import { where } from './deep/er/where.mjs'
const __dirname = dirname(fileURLToPath(import.meta.url))
const here = basename(__dirname)`,
    ),
    'deep/er/where.mjs': `export const where = new URL('.', import.meta.url).pathname.split('/').slice(-4).join('/')\n`,
    'lib/old.cjs': `#!/usr/bin/env node\n'use strict'\nconst path = require('path')\nexports.there = path.basename(path.join(__dirname, 'views'))\nexports.file = path.relative(path.dirname(__dirname), __filename)\n`,
  })
  expect(text).toBe('files/deep/er/,files,views,lib/old.cjs,files')
})

test('BUNDLE 11.7: old CommonJS runs in sloppy mode: undeclared names, octal literals, with, arguments.callee', async () => {
  const text = await printed({
    'program.ts': prints(
      '[a, b, c, d].join()',
      `import a from 'old-a'\nimport b from 'old-b'\nimport c from 'old-c'\nimport d from './d.cjs'`,
    ),
    'node_modules/old-a/package.json': '{"name":"old-a","version":"1.0.0"}',
    'node_modules/old-a/index.js': `var two = require('./two')\nexports.count = function () { for (i = 0; i < 3; i++); return i + two }\nmodule.exports = exports.count() + typeof require('f' + 's').readFileSync\n`,
    'node_modules/old-a/two.js': 'module.exports = 2\n',
    'node_modules/old-b/package.json': '{"name":"old-b","version":"1.0.0"}',
    'node_modules/old-b/index.js': `var o = { x: 010 }\ntry { require('not-there-at-all') } catch (e) { o.y = e.code }\nwith (o) { module.exports = x + y }\n`,
    'node_modules/old-c/package.json': '{"name":"old-c","version":"1.0.0"}',
    'node_modules/old-c/index.js': `module.exports = (function f() { return arguments.callee === f })() + typeof (function () { return this })()\n`,
    'd.cjs': `total = 4\nmodule.exports = total + require('path').basename(__filename)\n`,
  })
  expect(text).toBe('5function,8MODULE_NOT_FOUND,trueobject,4d.cjs')
})

test('a strict module stays strict, and one that is sloppy only in name is bundled as it is', async () => {
  const { files } = await buildProgram(
    folderOf({
      'program.ts': prints('plain', `import plain from 'plain'`),
      'node_modules/plain/package.json': '{"name":"plain","version":"1.0.0"}',
      'node_modules/plain/index.js': `var a = 1\nmodule.exports = a + (typeof global === 'object' ? 1 : 0)\n`,
    }),
    opts,
  )
  expect(Buffer.from(files[0]?.bytes ?? '').toString()).not.toContain('compileFunction')
})

test('package.json and tsconfig.json with a byte order mark, of the program and of a dependency', async () => {
  const folder = folderOf({
    'package.json': '\uFEFF{"name":"@me/marked","version":"1.2.0","dependencies":{"two":"1.0.0"}}',
    'tsconfig.json': '\uFEFF{"compilerOptions":{"experimentalDecorators":true}}',
    'program.ts': prints(
      'two',
      `import two from 'two'\nconst note = (_: object, name: string): void => void name\nclass A { @note go(): void {} }\nnew A().go()`,
    ),
    'node_modules/two/package.json': '\uFEFF{"name":"two","version":"1.0.0"}',
    'node_modules/two/index.js': '\uFEFFmodule.exports = 2\n',
  })
  expect(await runs(folder)).toBe('2')
  const { manifest, files } = await buildProgram(folder, opts)
  expect(manifest).toMatchObject({ program: 'marked', version: '1.2.0' })
  expect(JSON.parse(Buffer.from(files[2]?.bytes ?? '').toString()).modules).toMatchObject([
    { name: 'two', version: '1.0.0' },
  ])
})

test('imports of data: URLs, of JSON and text, with and without an attribute, and top-level await', async () => {
  const text = await printed({
    'program.ts': prints(
      '[three, conf.speed, note.trim(), page.trim(), raw.length, (await later).speed].join()',
      `import three from 'data:text/javascript,export default 3'
import conf from './conf.json' with { type: 'json' }
import note from './note.txt'
import page from './page.html'
import raw from './note.bin' with { type: 'bytes' }
const later = import('./conf.json')
await later`,
    ),
    'conf.json': '{"speed":4}',
    'note.txt': 'größe\n',
    'note.bin': 'raw',
    'page.html': '<h1>robot</h1>\n',
  })
  expect(text).toBe('3,4,größe,<h1>robot</h1>,3,4')
})

test('a folder behind a symbolic link, and a workspace package that is one', async () => {
  const mono = folderOf({
    'packages/app/package.json': '{"name":"app","version":"1.0.0"}',
    'packages/app/program.ts': prints('word', `import { word } from '@me/lib'`),
    'packages/my lib/package.json': '{"name":"@me/lib","version":"1.0.0","main":"src/index.ts"}',
    'packages/my lib/src/index.ts': `import { readFileSync } from 'node:fs'\nexport const word: string = readFileSync(new URL('./word.dat', import.meta.url), 'utf8')\n`,
    'packages/my lib/src/word.dat': 'one',
  })
  mkdirSync(join(mono, 'packages/app/node_modules/@me'), { recursive: true })
  symlinkSync('../../../my lib', join(mono, 'packages/app/node_modules/@me/lib'))
  symlinkSync(join(mono, 'packages/app'), join(mono, 'link'))
  expect(await runs(join(mono, 'link'))).toBe('one')
  const names = async (path: string) => (await buildProgram(path, opts)).files.map(({ name }) => name)
  expect(await names(join(mono, 'link'))).toContain('files/node_modules/_me/lib/src/word.dat')
  const bytes = async (path: string) => Buffer.from((await buildProgram(path, opts)).files[0]?.bytes ?? '')
  expect(await bytes(join(mono, 'link'))).toEqual(await bytes(join(mono, 'packages/app/program.ts')))
})

test('the folder of npm init -y: main that is not there, and a compiled main that is old', async () => {
  const about = (main: string) => JSON.stringify({ name: 'my-robot', version: '1.0.0', main })
  const files = { 'program.ts': prints(`'source'`), 'package.json': about('index.js') }
  expect(await printed(files)).toBe('source')
  const compiled = { ...files, 'dist/program.js': prints(`'old'`), 'package.json': about('./dist/program.js') }
  expect(await printed(compiled)).toBe('source')
  const { 'program.ts': text, ...rest } = compiled
  expect(await printed({ ...rest, 'src/program.ts': text })).toBe('source')
  expect(await printed({ ...rest, 'package.json': about('dist/program.js') })).toBe('old')
  const none = await refusal(() => buildProgram(folderOf({ 'package.json': about('index.js') }), opts))
  expect(none.message).toContain('it names index.js, but there is no such file')
  expect(none.hint).toContain('"medulla": { "entry": "program.ts" }')
})

test('BUNDLE 11.6: workers given as a file: by URL, by path, by the own file, in TypeScript, and a worker that starts one', async () => {
  const waits = (worker: string) =>
    `await new Promise((done) => { const w = ${worker}; w.once('message', (m) => { w.terminate(); done(m) }) })`
  const text = await printed({
    'program.ts': prints(
      // when it is described no worker is started
      `Symbol.for('medulla.host') in globalThis || [${waits(`new Worker(new URL('./lib/work.ts', import.meta.url))`)}, ${waits(`new Worker('./lib/work.js')`)}, ${waits(`old()`)}].join()`,
      `import { Worker } from 'node:worker_threads'\nimport old from './lib/old.cjs'`,
    ),
    'lib/work.ts': `import { parentPort, Worker } from 'node:worker_threads'\nimport { basename } from 'node:path'\nconst inner = new Worker(new URL('inner.mjs', import.meta.url))\ninner.once('message', (m: string) => parentPort?.postMessage(\`\${m} \${basename(import.meta.dirname)}\`))\n`,
    'lib/inner.mjs': `import { parentPort } from 'node:worker_threads'\nparentPort.postMessage('hi')\n`,
    'lib/old.cjs': `const { isMainThread, parentPort, Worker } = require('worker_threads')\nif (isMainThread) module.exports = () => new Worker(__filename)\nelse parentPort.postMessage('self')\n`,
  })
  expect(text).toBe('hi lib,hi lib,self')
})

test('BUNDLE 11.6: what a module reads beside itself comes along: by URL, by __dirname, by require', async () => {
  const text = await printed({
    'program.mjs': prints(
      `[read(new URL('./page.html', import.meta.url)), old, horn.slice(-21), read(horn), data.n].join()`,
      `import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import old from './lib/old.cjs'
import horn from './sounds/horn.wav'
const require = createRequire(import.meta.url)
const data = require('./data.json')
const read = (file) => readFileSync(file, 'utf8')`,
    ),
    'page.html': 'page',
    'data.json': '{"n":7}',
    'lib/old.cjs': `const fs = require('fs'), path = require('path')\nmodule.exports = fs.readFileSync(path.join(__dirname, '..', 'lib', 'a.txt'), 'utf8') + fs.readFileSync(\`\${__dirname}/b.csv\`) + fs.readFileSync(__dirname + '/c.md')\n`,
    'lib/a.txt': 'a',
    'lib/b.csv': 'b',
    'lib/c.md': 'c',
    'sounds/horn.wav': 'RIFF',
  })
  expect(text).toBe('page,abc,files/sounds/horn.wav,RIFF,7')
})
