import { chmod, mkdir, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { failure } from '../../../runtime/start.ts'
import { TEMP_PREFIX } from '../../../runtime/store/atomic.ts'
import { hasRuntimes, Runtimes } from '../../../runtime/store/runtimes.ts'
import { seeded } from '../../fixtures/random.ts'
import { tempFolder } from '../../fixtures/tools.ts'
import { compile, run } from './bed.ts'
import { pushed, runtime } from './madeupruntime.ts'

const isTree = (name: string): boolean => /^[0-9a-f]{64}$/.test(name)
const treeOf = (home: string, digest: string): string => join(home, 'runtimes', digest.replace('sha256:', ''), 'tree')

async function withTree(counter = 1) {
  const home = tempFolder()
  const store = await Runtimes.open(home)
  const made = await runtime(counter)
  await store.install(made)
  return { home, store, made, tree: treeOf(home, made.digest) }
}

test('HANDOVER 17.3: a tree is written as it was verified, readable for users of confined processes', async () => {
  const before = process.umask(0o077)
  try {
    const { store, made, tree } = await withTree()
    await store.check(made.digest)
    expect(store.mainOf(made.digest)).toBe(join(tree, 'dist/runtime/main.js'))
    for (const [name, bytes] of made.files) expect(await readFile(join(tree, name))).toEqual(Buffer.from(bytes))
    const mode = async (path: string) => ((await stat(join(tree, path))).mode & 0o777).toString(8)
    expect([await mode('.'), await mode('dist/runtime'), await mode('dist/runtime/main.js')]).toEqual([
      '755',
      '755',
      '644',
    ])
  } finally {
    process.umask(before)
  }
})

describe('HANDOVER 17.5: a start refuses a tree in which', () => {
  test.each<[string, (tree: string) => Promise<unknown>]>([
    ['a byte was changed', (tree) => writeFile(join(tree, 'dist/drivers/x.js'), 'y')],
    ['a file is missing', (tree) => rm(join(tree, 'dist/drivers/x.js'))],
    ['a file was added', (tree) => writeFile(join(tree, 'dist/runtime/added.js'), '')],
    ['a link was added', (tree) => symlink('/tmp', join(tree, 'dist/node_modules'))],
    [
      'node_modules is a folder',
      async (tree) => {
        await mkdir(join(tree, 'node_modules'))
        await writeFile(join(tree, 'node_modules/x.js'), '')
      },
    ],
    ['everything is gone', (tree) => rm(tree, { recursive: true })],
    ['the release was changed', (tree) => writeFile(join(tree, '../release'), '{}\n')],
    ['the release is gone', (tree) => rm(join(tree, '../release'))],
  ])('%s', async (_, change) => {
    const { store, made, tree } = await withTree()
    await change(tree)
    await expect(store.check(made.digest)).rejects.toMatchObject({ code: 'bad-hash' })
    // A push of the same runtime repairs the tree.
    await store.install(made)
    await store.check(made.digest)
  })
})

test('the packages of a tree are those of the base install, wherever that is at a start', async () => {
  const { store, made, tree } = await withTree()
  await store.link(made.digest, '/usr/lib/node_modules')
  await store.link(made.digest, '/opt/medulla/node_modules')
  expect(await readlink(join(tree, 'node_modules'))).toBe('/opt/medulla/node_modules')
  await store.check(made.digest)
  await store.link(made.digest, null)
  await expect(readlink(join(tree, 'node_modules'))).rejects.toMatchObject({ code: 'ENOENT' })
})

test('HANDOVER 17.3: at most three trees are kept, the current and the previous one among them', async () => {
  const home = tempFolder()
  const store = await Runtimes.open(home)
  const made = await Promise.all([1, 2, 3, 4, 5, 6].map(runtime))
  for (const one of made) {
    await store.install(one)
    await store.choose(pushed(one))
    await store.confirm(one.digest)
    const { current, previous } = store.state
    for (const kept of [current, previous]) if (kept !== null) await store.check(kept.digest)
    expect((await readdir(join(home, 'runtimes'))).filter(isTree).length).toBeLessThanOrEqual(3)
  }
})

describe('HANDOVER 17.6: starts are counted, and', () => {
  const state = async (...steps: ((store: Runtimes) => Promise<void>)[]) => {
    const home = tempFolder()
    const store = await Runtimes.open(home)
    const [one, two] = await Promise.all([runtime(1), runtime(2)])
    await store.choose(pushed(one))
    await store.confirm(one.digest)
    await store.choose(pushed(two))
    for (const step of steps) await step(store)
    await store.close()
    return { ...(await Runtimes.open(home)).state, one: one.digest, two: two.digest }
  }
  const started = (store: Runtimes) => store.started('a boot')
  const healthy = (store: Runtimes) => store.confirm(store.state.current?.digest ?? null)

  test('the first one of a new runtime must become healthy', async () => {
    expect(failure(await state())).toBeNull()
    expect(failure(await state(started))).toMatch(/before it was healthy/)
    expect(failure(await state(started, healthy))).toBeNull()
  })

  test('of a runtime that was healthy once, the third in a row that fails is the last', async () => {
    expect(failure(await state(started, healthy, started, started))).toBeNull()
    expect(failure(await state(started, healthy, started, started, started))).toBe('it failed 3 times in a row')
    expect(failure(await state(started, healthy, started, started, healthy, started))).toBeNull()
  })

  test('one that is healthy only after the next was chosen confirms itself, not the next', async () => {
    const after = await state(async (store) => store.confirm(store.state.previous?.digest ?? null))
    expect(after).toMatchObject({ current: { digest: after.two }, confirmed: false })
    expect(after.news.map(({ to }) => to)).toEqual([after.one])
  })

  test('one that ended by order does not count', async () => {
    expect(failure(await state(started, (store) => store.ended()))).toBeNull()
  })

  test('a runtime that is undone is remembered, and the one before it is healthy already', async () => {
    const after = await state(started, (store) => store.undo('it hung', '2026-01-02T00:00:00.000Z'))
    expect(after).toMatchObject({ current: { digest: after.one }, previous: null, confirmed: true, starts: 0 })
    expect(after.failed).toEqual([
      { digest: after.two, version: '1.0.2', reason: 'it hung', time: '2026-01-02T00:00:00.000Z' },
    ])
    expect(after.news.map(({ outcome, from, to }) => [outcome, from, to])).toEqual([
      ['committed', null, after.one],
      ['rolled-back', after.two, after.one],
    ])
  })

  test('those of the base install only within one boot', async () => {
    const store = await Runtimes.open(tempFolder())
    for (let each = 0; each < 4; each++) await store.started('a boot')
    expect(store.state.starts).toBe(4)
    await store.started('the next boot')
    expect(store.state.starts).toBe(1)
  })
})

test('a robot whose runtime was never replaced has no file of this', async () => {
  const home = tempFolder()
  const store = await Runtimes.open(home)
  await store.confirm(null)
  await store.ended()
  expect([hasRuntimes(home), await readdir(home)]).toEqual([false, []])
})

test('a damaged state.json counts as none, and says so', async () => {
  const { home, store, made } = await withTree()
  await store.choose(pushed(made))
  const file = join(home, 'runtimes/state.json')
  await chmod(file, 0o600)
  await writeFile(file, (await readFile(file, 'utf8')).replace('1.0.1', '1.0.9'))
  const damaged = await Runtimes.open(home)
  expect(damaged.state.current).toBeNull()
  expect(damaged.problems).toEqual([expect.stringMatching(/state\.json was changed on disk/)])
})

test('HANDOVER 17.3: after SIGKILL at any step of an installation, state.json names a whole tree', {
  tags: ['slow'],
}, async () => {
  const script = await compile('./child.ts', tempFolder())
  const home = tempFolder()
  const random = seeded(0xbeef)
  let [temps, chosen] = [0, 0]
  // on, until the kills have hit trees that were being written, and choices that were answered: else this test shows nothing
  for (let round = 0; round < 25 || temps === 0 || chosen <= 5; round++) {
    const child = run(script, ['runtimes', home])
    await child.line()
    for (let n = Math.floor(random() * 4); n > 0; n--) await child.line()
    await sleep(random() * 60)
    child.process.kill('SIGKILL')
    await child.ended
    if (hasRuntimes(home)) {
      temps += (await readdir(join(home, 'runtimes'))).filter((name) => name.startsWith(TEMP_PREFIX)).length
    }
    const store = await Runtimes.open(home)
    expect(store.problems).toEqual([])
    const { current, previous, failed } = store.state
    for (const kept of [current, previous]) if (kept !== null) await store.check(kept.digest)
    // What was answered last is what the file says, or the step after it.
    const last = child.lines.filter((line) => line.startsWith('chosen ')).at(-1)
    if (last === undefined) continue
    chosen++
    if (child.lines.at(-1) !== last) continue
    expect([current?.digest, ...failed.map(({ digest }) => digest)]).toContain(last.split(' ')[1])
  }
  expect(temps).toBeGreaterThan(0)
  expect(chosen).toBeGreaterThan(5)
})
