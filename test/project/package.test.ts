import { readdirSync } from 'node:fs'
import { expect, test } from 'vitest'
import { ROOT, sources, text } from './tree.ts'

interface Package {
  scripts: Record<string, string>
  dependencies: Record<string, string>
  optionalDependencies: Record<string, string>
  devDependencies: Record<string, string>
}
interface Lock {
  packages: Record<
    string,
    {
      version?: string
      resolved?: string
      optional?: boolean
      optionalDependencies?: Record<string, string>
      os?: string[]
      cpu?: string[]
    }
  >
}

const manifest = JSON.parse(text('package.json')) as Package
const lock = JSON.parse(text('package-lock.json')) as Lock

test('the top level holds what the design names, and nothing else', () => {
  const known = new Set(
    [
      [
        '.biome.json',
        '.ci',
        '.git',
        '.gitignore',
        '.knip.json',
        '.npmrc',
        'LICENSE',
        'README.md',
        'CHANGELOG.md',
        'CONTRIBUTING.md',
      ],
      [
        'package-lock.json',
        'package.json',
        'tsconfig.json',
        'drivers',
        'deploy',
        'runtime',
        'robots',
        'test',
        'pi-image',
      ],
      ['node_modules', 'dist', 'coverage'], // not in git
    ].flat(),
  )
  expect(readdirSync(ROOT).filter((name) => !known.has(name) && !name.endsWith('.log'))).toEqual([])
})

test('every dependency is pinned to one version', () => {
  const { dependencies, optionalDependencies, devDependencies } = manifest
  for (const [name, version] of Object.entries({ ...dependencies, ...optionalDependencies, ...devDependencies })) {
    expect(version, name).toMatch(/^\d+\.\d+\.\d+(?:-[a-z0-9.]+)?$/)
    expect(lock.packages[`node_modules/${name}`]?.version, name).toBe(version)
  }
})

test('what needs a compiler or a Raspberry Pi is optional', () => {
  for (const name of ['onoff', 'i2c-bus', 'pigpio', 'koffi']) {
    expect(manifest.optionalDependencies, name).toHaveProperty([name])
    expect(lock.packages[`node_modules/${name}`]?.optional, name).toBe(true)
  }
})

test.each(['darwin-arm64', 'win32-x64'])('the lock file serves %s', (platform) => {
  const [os = '', cpu = ''] = platform.split('-')
  const tools = ['@esbuild/', '@koromix/koffi-', '@typescript/typescript-', '@biomejs/cli-', '@rolldown/binding-']
  for (const name of tools.map((prefix) => `${prefix}${platform}`)) {
    const entry = lock.packages[`node_modules/${name}`] ?? lock.packages[`node_modules/${name}-msvc`]
    expect(entry, name).toMatchObject({ optional: true, os: [os], cpu: [cpu] })
  }
})

/** npm leaves out what its registry did not have at that moment, and then `npm ci` fails everywhere. */
test('the lock file is whole', () => {
  const missing = Object.entries(lock.packages).flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies)
      .filter(
        (name) => !(`node_modules/${name}` in lock.packages) && !(`${path}/node_modules/${name}` in lock.packages),
      )
      .map((name) => `${path} wants ${name}`),
  )
  expect(missing).toEqual([])
})

test('nothing that cannot be optional is bound to a platform', () => {
  const bound = Object.entries(lock.packages).filter(
    ([, { optional, os, cpu }]) => !optional && (os ?? cpu) !== undefined,
  )
  expect(bound.map(([path]) => path)).toEqual([])
})

test('the lock file names no registry', () => {
  expect(Object.values(lock.packages).filter(({ resolved }) => resolved !== undefined)).toEqual([])
  expect(text('package-lock.json')).not.toMatch(/"resolved"|registry\./)
})

test('npm scripts contain no shell syntax', () => {
  for (const [name, script] of Object.entries(manifest.scripts)) {
    expect(script, name).toMatch(/^[A-Za-z0-9 ./:@=_-]+$/)
    expect(script, name).not.toMatch(/^\w+=/)
  }
})

/** Files that may have more than 400 lines, each with the reason why it is not two files. */
const LONG: Readonly<Record<string, string>> = {
  'deploy/shared/api.ts': 'a table: the routes, and the types that they carry',
  'runtime/body/slot/lifecycle.ts': 'a table: a row for each state and event, and the names in it',
}

test('no file is longer than 400 lines, but for tables', () => {
  const long = sources().filter((path) => text(path).split('\n').length - 1 > 400)
  expect(long.sort()).toEqual(Object.keys(LONG).sort())
})
