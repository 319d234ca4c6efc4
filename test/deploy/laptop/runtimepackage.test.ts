/** What `medulla runtime push` sends: the files of the built package that the robot's processes load. */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, posix } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { readRuntime } from '../../../deploy/laptop/runtimepackage.ts'
import { packPayload } from '../../../deploy/shared/bundle/payload.ts'
import { ROOT, sources, text } from '../../project/tree.ts'

const folder = mkdtempSync(join(tmpdir(), 'medulla-package-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Modules that a built file loads: of esbuild's and tsc's output, which write one statement in one way. */
const LOADED = /(?:\bfrom\s*|\bimport\s*\(?\s*)"(\.[^"\n]*)"|(?:\bfrom\s*|\bimport\s*\(?\s*)'(\.[^'\n]*)'/g

test('BUNDLE 14.1: the list holds every module that a listed one imports, and every file that is loaded by its path', async () => {
  const { files } = await readRuntime(ROOT)
  const names = new Set(files.map(({ name }) => name))
  for (const { name, bytes } of files) {
    if (!name.endsWith('.js')) continue
    for (const [, double, single] of Buffer.from(bytes).toString().matchAll(LOADED)) {
      const path = posix.join(posix.dirname(name), double ?? single ?? '')
      // The bundled builder of the test kit names files that only a laptop has.
      if (path.endsWith('.js')) expect(names, `${name} imports ${path}`).toContain(path)
    }
  }
  const byPath = sources(['runtime']).flatMap((path) => [
    ...text(path).matchAll(/runtime(?:Url|Path)\('([^']+\.js)'\)/g),
  ])
  expect(byPath.length).toBeGreaterThan(5)
  for (const [, path = ''] of byPath) expect(names).toContain(posix.join('dist/runtime', path))
})

test('BUNDLE 14.1: a folder and a tarball of the same package give the same payload', async () => {
  const { files, version } = await readRuntime(ROOT)
  const copy = join(folder, 'package')
  for (const name of [...files.map((file) => file.name), 'dist/runtime/files.json']) {
    mkdirSync(dirname(join(copy, name)), { recursive: true })
    cpSync(join(ROOT, name), join(copy, name))
  }
  const file = join(folder, 'medulla.tgz')
  execFileSync('tar', ['-czf', file, '-C', folder, 'package'])
  const packed = await readRuntime(file)
  expect(packed.version).toBe(version)
  const [one, two] = await Promise.all([packPayload(files), packPayload(packed.files)])
  expect([two.sha256, two.h1]).toEqual([one.sha256, one.h1])
})

test.each<[string, (path: string) => void, RegExp]>([
  ['an empty folder', (path) => mkdirSync(path), /is no package of medulla: package\.json cannot be read \(ENOENT\)/],
  ['a file', (path) => writeFileSync(path, 'text'), /is no package of medulla: it is no \.tgz file/],
  [
    'another package',
    (path) => {
      mkdirSync(path)
      writeFileSync(join(path, 'package.json'), '{"name":"left-pad","version":"1.0.0"}')
    },
    /it is the package "left-pad", expected "medulla"/,
  ],
])('%s is no package of medulla', async (name, make, message) => {
  const path = join(folder, name.replaceAll(' ', '-'))
  make(path)
  await expect(readRuntime(path)).rejects.toMatchObject({
    code: 'build-failed',
    message: expect.stringMatching(message),
  })
})
