import { describe, expect, test } from 'vitest'
import { checkRuntime, parseRuntimePackage, unlikeBase } from '../../../../deploy/shared/bundle/runtimepackage.ts'

const about = {
  name: 'medulla',
  version: '1.2.3',
  type: 'module',
  engines: { node: '>=20.19' },
  dependencies: { esbuild: '0.28.2' },
  optionalDependencies: { koffi: '3.3.4' },
}
const release = { program: 'medulla', version: '1.2.3', node: '>=20.19' }
const encoded = (value: unknown) => Buffer.from(JSON.stringify(value))
const files = (over: object = {}, more: Record<string, string> = { 'dist/runtime/main.js': '' }) => {
  const others = Object.entries(more).map(([name, text]) => [name, Buffer.from(text)] as const)
  return new Map<string, Uint8Array>([['package.json', encoded({ ...about, ...over })], ...others])
}

test('a runtime is read from its package.json', () => {
  expect(checkRuntime(release, files())).toEqual({
    version: '1.2.3',
    node: '>=20.19',
    packages: { esbuild: '0.28.2', koffi: '3.3.4' },
  })
})

test.each([
  ['without a main file', files({}, { 'dist/drivers/index.js': '' }), 'the payload holds no dist/runtime/main.js'],
  [
    'with a file elsewhere',
    files({}, { 'dist/runtime/main.js': '', 'node_modules/koffi/index.js': '' }),
    'the payload holds "node_modules/koffi/index.js", expected package.json and files in dist/',
  ],
])('BUNDLE 14.2: a payload %s is refused', (_, payload, message) => {
  expect(() => checkRuntime(release, payload)).toThrow(message)
})

describe('BUNDLE 14.3: a package.json is refused that', () => {
  test.each<[string, object, RegExp]>([
    ['has another name', { name: 'other' }, /it is the package "other"/],
    [
      'has another version than the release',
      { version: '1.2.4' },
      /release says medulla 1\.2\.3.*says medulla 1\.2\.4/,
    ],
    ['needs another Node than the release', { engines: { node: '>=22.1' } }, /says medulla 1\.2\.3 for node >=22\.1/],
    ['has a range of Node that releases cannot have', { engines: { node: '^20' } }, /no range for node/],
    ['has no version', { version: 7 }, /'version' is malformed: 7/],
    ['has a version with a space', { version: '1 2' }, /'version' is malformed/],
    ['is no module', { type: 'commonjs' }, /expected "type": "module"/],
    ['has malformed dependencies', { dependencies: { a: 1 } }, /dependencies are malformed/],
    ['has a list of dependencies', { optionalDependencies: [] }, /dependencies are malformed/],
  ])('%s', (_, over, message) => {
    expect(() => checkRuntime(release, files(over))).toThrow(message)
  })

  test.each(['', '[]', '{', '\xff'])('is no object: %j', (text) => {
    expect(() => parseRuntimePackage(Buffer.from(text, 'latin1'))).toThrow(/^package\.json: /)
  })
})

test('BUNDLE 14.5: packages of other versions than those of the base install are refused, each named', () => {
  const base = { version: '1.0.0', node: '>=20.19', packages: { esbuild: '0.28.2', koffi: '3.3.4' } }
  expect(unlikeBase({ ...base, version: '1.2.3' }, base)).toBeNull()
  const packages = { esbuild: '0.29.0', other: '1.0.0' }
  expect(unlikeBase({ ...base, version: '1.2.3', packages }, base)).toMatchObject({
    code: 'wrong-packages',
    message:
      'medulla 1.2.3 needs esbuild 0.29.0 (installed: 0.28.2), koffi not at all (installed: 3.3.4), other 1.0.0 (installed: none)',
    hint: expect.stringMatching(/with apt or npm/),
  })
})
