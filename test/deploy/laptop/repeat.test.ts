/** The same bytes from the same source, whoever builds it and where. Each build is a process of its own, of the compiled library. */
import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, cpSync, existsSync, mkdirSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { SCALE } from '../../e2e/eventually.ts'
import { missing, run, tempFolder } from '../../fixtures/tools.ts'
import { committed, npmProgram, write } from './npmprogram.ts'

const dist = (path: string) => fileURLToPath(new URL(`../../../dist/${path}`, import.meta.url))
const NOBODY = 65534

/** Prints the tree hash and the SHA-256 of the payload. */
const BUILD = `
const [folder, umask] = process.argv.slice(1)
process.umask(parseInt(umask, 8))
const { buildProgram } = await import(${JSON.stringify(dist('deploy/laptop/build.js'))})
const { packPayload } = await import(${JSON.stringify(dist('deploy/shared/bundle/payload.js'))})
const library = { sdk: ${JSON.stringify(dist('runtime/sdk/index.js'))}, drivers: ${JSON.stringify(dist('drivers/index.js'))} }
const { h1, sha256 } = await packPayload((await buildProgram(folder, library)).files)
console.log(JSON.stringify({ h1, sha256 }))
`

interface Way {
  node?: string
  env?: Record<string, string>
  umask?: string
  user?: number
}

function build(
  folder: string,
  { node = process.execPath, env = {}, umask = '022', user }: Way,
): { h1: string; sha256: string } {
  const { PATH = '' } = process.env
  const { stdout, stderr, status } = spawnSync(node, ['--input-type=module', '--eval', BUILD, folder, umask], {
    encoding: 'utf8',
    env: { PATH, ...env },
    cwd: folder,
    ...(user === undefined ? {} : { uid: user, gid: user }),
  })
  expect(status, stderr).toBe(0)
  return JSON.parse(stdout) as { h1: string; sha256: string }
}

/** A copy whose files were made in another order, so that a folder lists them in another order where it does not sort. */
function reversed(from: string, to: string): void {
  mkdirSync(to)
  for (const name of readdirSync(from).reverse()) {
    if (statSync(join(from, name)).isDirectory()) reversed(join(from, name), join(to, name))
    else cpSync(join(from, name), join(to, name), { preserveTimestamps: false })
  }
}

function give(folder: string, user: number): void {
  for (const name of ['', ...readdirSync(folder, { recursive: true, encoding: 'utf8' })])
    chownSync(join(folder, name), user, user)
}

function source(): string {
  const folder = npmProgram()
  const about =
    '{"name":"@me/rover","version":"3.1.0","type":"module","dependencies":{"tiny":"1.2.3"},"medulla":{"assets":["data/**"]}}\n'
  const data = Object.fromEntries(
    ['b', 'a', 'I', 'i', 'z', 'Z'].map((name) => [`data/${name}.${name === name.toLowerCase() ? 'low' : 'up'}`, name]),
  )
  write(folder, { 'package.json': about, ...data })
  if (missing('git') === '') committed(folder)
  return folder
}

const SLOW = { tags: ['slow'], timeout: 240_000 * SCALE }

test('V1: V2: BUNDLE 11.2: folder, time zone, locale, umask and order of files do not change a byte', SLOW, () => {
  const one = source()
  const first = build(one, { env: { TZ: 'UTC', LANG: 'C' } })
  const two = join(tempFolder(), 'another folder')
  reversed(one, two)
  expect(
    build(two, {
      umask: '077',
      env: { TZ: 'Pacific/Kiritimati', LC_ALL: 'tr_TR.UTF-8', LANG: 'ar_EG', HOME: two, NO_COLOR: '1' },
    }),
  ).toEqual(first)
})

const needsRoot = process.getuid?.() === 0 ? '' : ' (skipped: needs root, to become another user)'
test(`V1: BUNDLE 11.2: another user, to whom the files belong or not, builds the same bytes${needsRoot}`, {
  ...SLOW,
  skip: needsRoot !== '',
}, () => {
  const one = source()
  const first = build(one, {})
  // the repository of somebody else
  give(one, 1234)
  expect(build(one, {})).toEqual(first)
  const top = tempFolder()
  chmodSync(top, 0o755)
  const two = join(top, 'copy')
  reversed(one, two)
  give(two, NOBODY)
  // this test's own files may lie where another user cannot read them
  const readable = run(top, 'sh', [
    '-c',
    `setpriv --reuid ${NOBODY} --clear-groups test -r ${dist('deploy/laptop/build.js')} && echo yes || true`,
  ])
  if (readable.trim() === 'yes') expect(build(two, { user: NOBODY, env: { HOME: '/nonexistent' } })).toEqual(first)
})

const other = process.env.MEDULLA_OTHER_NODE ?? ''
const needsOther = existsSync(other) ? '' : ' (skipped: MEDULLA_OTHER_NODE names no other Node)'
test(`V1: BUNDLE 11.2: another version of Node builds the same files${needsOther}`, {
  ...SLOW,
  skip: needsOther !== '',
}, () => {
  const folder = source()
  // the zlib of another Node may compress the same files to other bytes (BUNDLE 5.6)
  expect(build(folder, { node: other }).h1).toBe(build(folder, {}).h1)
})
