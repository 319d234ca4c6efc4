import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { FENCE_BLOCK } from '../../../runtime/store/fences.ts'
import { MAX_TRIED, ReleaseMemory } from '../../../runtime/store/memory.ts'
import { encodeRecord } from '../../../runtime/store/record.ts'
import { Slots } from '../../../runtime/store/slots.ts'
import { seeded } from '../../fixtures/random.ts'
import { tempFolder } from '../../fixtures/tools.ts'
import { compile, run } from './bed.ts'

const digest = (n: number): string => `sha256:${n.toString(16).padStart(64, '0')}`
const blink = (counter: number): { kind: string; program: string; counter: number } => ({
  kind: 'program',
  program: 'blink',
  counter,
})

test('a commit, a stop and a rollback are what the next start finds', async () => {
  const dir = tempFolder()
  const slots = await Slots.open({ dir })
  expect(slots.get('main')).toMatchObject({ current: null, previous: null, stopped: false })
  await slots.commit('main', digest(1), blink(10))
  await slots.commit('main', digest(2), blink(20))
  await slots.rolledBack(digest(3))
  await slots.setStopped('main', true)
  expect(slots.digests()).toEqual(new Set([digest(1), digest(2)]))

  const again = await Slots.open({ dir })
  expect(again.problems).toEqual([])
  expect(again.names()).toEqual(['main'])
  expect(again.get('main')).toMatchObject({ current: digest(2), previous: digest(1), stopped: true })
  expect([1, 2, 3, 4].map((n) => again.tried(digest(n)))).toEqual(['committed', 'committed', 'rolled-back', null])
  expect(again.floor('program', 'blink')).toBe(20)
  expect(again.floor('runtime', 'blink')).toBe(0)

  // an operator's order to go back: the floor stays
  await again.commit('main', digest(1), blink(10))
  expect(again.get('main')).toMatchObject({ current: digest(1), previous: digest(2), stopped: false })
  expect(again.floor('program', 'blink')).toBe(20)
  // a committed one that is rolled back later stays committed
  await again.rolledBack(digest(2))
  expect(again.tried(digest(2))).toBe('committed')
  await again.fallBack('main', digest(2), [digest(1)], 'bad-hash: …')
  expect(again.get('main')).toMatchObject({ current: digest(2), previous: null, alarm: 'bad-hash: …' })
  await expect(again.commit('../up', digest(1), blink(1))).rejects.toMatchObject({ code: 'usage' })
})

test('HANDOVER 7.11: how releases did is what the next start finds, of those that the slot keeps', async () => {
  const dir = tempFolder()
  const slots = await Slots.open({ dir })
  const run = { ranMs: 9000, well: true, crashes: 0, crashMs: null }
  const undone = (n: number) => ({
    digest: digest(n),
    program: 'blink',
    version: `${n}.0.0`,
    signer: 's',
    pusher: 'p',
    time: 't',
  })
  await slots.setUndone('main', undone(50))
  expect(slots.names()).toEqual([])
  for (let n = 1; n <= 12; n++) {
    await slots.commit('main', digest(n), blink(n))
    await slots.setRun('main', digest(n), { ...run, ranMs: n }, true)
  }
  await slots.setRun('main', digest(99), run, true)
  await slots.setRun('main', digest(12), { ...run, crashes: 3, crashMs: 900 }, false)
  for (const n of [20, 21, 22, 23, 24, 22, 11]) await slots.setUndone('main', undone(n))
  const again = await Slots.open({ dir })
  const { runs, undone: failed } = again.get('main')
  expect(Object.keys(runs).sort()).toEqual(again.releases('main').sort())
  expect(runs[digest(12)]).toEqual({ ...run, crashes: 3, crashMs: 900 })
  // it was gone back to, and failed
  expect(runs[digest(11)]).toEqual({ ...run, ranMs: 11, well: false })
  expect(failed.map(({ version }) => version)).toEqual(['22.0.0', '24.0.0', '23.0.0', '21.0.0'])
  // one that is committed after all is no longer among those that failed
  await again.commit('main', digest(22), blink(22))
  expect(again.get('main').undone.map(({ version }) => version)).toEqual(['24.0.0', '23.0.0', '21.0.0'])
})

test('floors, tried digests and fencing numbers survive the deletion of a slot', async () => {
  const dir = tempFolder()
  const slots = await Slots.open({ dir })
  await slots.commit('main', digest(1), blink(10))
  const fence = slots.nextFence()
  await slots.remove('main')
  await expect(slots.remove('other')).rejects.toMatchObject({ code: 'not-found' })
  expect(slots.get('main').current).toBeNull()
  const again = await Slots.open({ dir })
  expect(again.floor('program', 'blink')).toBe(10)
  expect(again.tried(digest(1))).toBe('committed')
  expect(again.nextFence()).toBeGreaterThan(fence)
})

test('BUNDLE 10.14: a floor that was reset stays so over restarts, and no copy of it in a slot brings it back', async () => {
  const dir = tempFolder()
  const slots = await Slots.open({ dir })
  await slots.commit('main', digest(1), blink(10))
  await slots.commit('other', digest(2), { ...blink(30), program: 'other' })
  await slots.resetFloor('program', 'blink')
  expect(slots.floor('program', 'blink')).toBe(0)
  const again = await Slots.open({ dir })
  expect(again.floor('program', 'blink')).toBe(0)
  expect(again.floor('program', 'other')).toBe(30)
  expect(again.get('main').current).toBe(digest(1))
  await again.commit('main', digest(3), blink(5))
  expect((await Slots.open({ dir })).floor('program', 'blink')).toBe(5)
})

test('fencing numbers never repeat: over restarts without a goodbye, slots, and the end of a block', async () => {
  const dir = tempFolder()
  const seen = new Set<number>()
  let last = 0
  for (let boot = 0; boot < 4; boot++) {
    const slots = await Slots.open({ dir })
    for (let n = 0; n < FENCE_BLOCK * 1.4; n++) {
      const fence = slots.nextFence()
      expect(fence).toBeGreaterThan(last)
      last = fence
      seen.add(fence)
      if (n % 400 === 0) await slots.close()
    }
  }
  expect(seen.size).toBe(4 * FENCE_BLOCK * 1.4)
})

test('a disk that takes no new block gives no fencing number rather than an old one', async () => {
  const dir = tempFolder()
  const slots = await Slots.open({ dir })
  const store = join(dir, 'store')
  await rm(store, { recursive: true })
  for (let n = 0; n < FENCE_BLOCK; n++) slots.nextFence()
  await slots.close()
  expect(() => slots.nextFence()).toThrow('no fencing number is left')
})

test('tried digests are bounded to the newest', async () => {
  const dir = tempFolder()
  await mkdir(join(dir, 'store'))
  const memory = await ReleaseMemory.open(join(dir, 'store'))
  for (let n = 0; n < MAX_TRIED + 5; n++) await memory.learn({ digest: digest(n), outcome: 'rolled-back' })
  const again = await ReleaseMemory.open(join(dir, 'store'))
  expect([0, 4, 5, MAX_TRIED + 4].map((n) => again.tried(digest(n)))).toEqual([
    null,
    null,
    'rolled-back',
    'rolled-back',
  ])
})

test('damaged files are told and what is known otherwise is used: floor and fence have a second copy', async () => {
  const dir = tempFolder()
  const slots = await Slots.open({ dir })
  const fences = Array.from({ length: 10 }, () => slots.nextFence())
  await slots.commit('main', digest(2), blink(20))
  await slots.commit('main', digest(1), blink(10))
  for (const name of ['floors.json', 'tried.json', 'fences.json']) {
    const path = join(dir, 'store', name)
    await writeFile(path, (await readFile(path, 'utf8')).replace(/[0-9](?=[^0-9]*$)/, 'x'))
  }
  const again = await Slots.open({ dir })
  expect(again.problems).toHaveLength(3)
  expect(again.problems[0]).toContain('floors.json was changed on disk')
  expect(again.floor('program', 'blink')).toBe(20)
  expect(again.tried(digest(1))).toBe('committed')
  expect(again.nextFence()).toBeGreaterThan(Math.max(...fences))

  await writeFile(join(dir, 'slots/main/slot.json'), '')
  const third = await Slots.open({ dir })
  expect(third.problems).toHaveLength(1)
  expect(third.get('main').current).toBeNull()
})

test('a checkpoint comes back byte for byte, and one that was changed on disk is refused', async () => {
  const dir = tempFolder()
  const slots = await Slots.open({ dir })
  expect(await slots.loadCheckpoint('main', 'blink')).toBeNull()
  const checkpoint = {
    program: 'blink',
    stateVersion: 3,
    encoding: 'bytes' as const,
    time: '2026-01-01T00:00:00.000Z',
    bytes: new Uint8Array([0, 10, 255, 10, 13]),
  }
  await slots.saveCheckpoint('main', checkpoint)
  expect(await (await Slots.open({ dir })).loadCheckpoint('main', 'blink')).toEqual(checkpoint)

  const path = join(dir, 'slots/main/checkpoint-blink')
  const bytes = await readFile(path)
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes)
    changed[at] = (changed[at] ?? 0) ^ 1
    await writeFile(path, changed)
    await expect(slots.loadCheckpoint('main', 'blink'), `byte ${at}`).rejects.toMatchObject({ code: 'bad-state' })
  }
  await writeFile(path, bytes.subarray(0, 40))
  await expect(slots.loadCheckpoint('main', 'blink')).rejects.toMatchObject({ code: 'bad-state' })
  await slots.saveCheckpoint('main', { ...checkpoint, bytes: new Uint8Array() })
  expect((await slots.loadCheckpoint('main', 'blink'))?.bytes).toHaveLength(0)
})

test('HANDOVER 5.9: each program has a checkpoint of its own; what an earlier runtime wrote is found by name', async () => {
  const dir = tempFolder()
  const slots = await Slots.open({ dir })
  const state = (program: string, text: string) => ({
    program,
    stateVersion: 1,
    encoding: 'json' as const,
    time: '2026-01-01T00:00:00.000Z',
    bytes: new Uint8Array(Buffer.from(text)),
  })
  await slots.saveCheckpoint('main', state('blink', '1'))
  await rename(join(dir, 'slots/main/checkpoint-blink'), join(dir, 'slots/main/checkpoint'))
  await slots.saveCheckpoint('main', state('count', '2'))
  const text = async (program: string) =>
    Buffer.from((await slots.loadCheckpoint('main', program))?.bytes ?? []).toString()
  expect([await text('blink'), await text('count'), await text('other')]).toEqual(['1', '2', ''])
  for (let i = 0; i < 12; i++) await slots.saveCheckpoint('main', state(`p${i}`, String(i)))
  expect(await readdir(join(dir, 'slots/main'))).toHaveLength(10)
  expect([await text('count'), await text('p11')]).toEqual(['', '11'])
})

test('what earlier versions wrote of parameters is that of the program that runs', async () => {
  const dir = tempFolder()
  const slots = await Slots.open({ dir })
  await slots.commit('main', digest(1), { kind: 'program', program: 'blink', counter: 1 })
  const { paramSets: _, ...before } = slots.get('main')
  const path = join(dir, 'slots/main/slot.json')
  await writeFile(path, encodeRecord({ ...before, params: { kp: 2 } } as never))
  const again = await Slots.open({ dir })
  expect(again.get('main').paramSets).toEqual({ blink: { kp: 2 } })
  await again.setParams('main', { blink: { kp: 3 } })
  expect((await Slots.open({ dir })).get('main').paramSets).toEqual({ blink: { kp: 3 } })
})

test('a kill at seeded points between commits: the last answered commit, its floor and its checkpoint are there', async () => {
  const dir = tempFolder()
  const script = await compile('./child.ts', dir)
  const random = seeded(21)
  const home = join(dir, 'home')
  let lastFence = 0
  for (let round = 0; round < 10 || lastFence <= 10; round++) {
    const child = run(script, ['slots', home])
    await child.line()
    await sleep(random() * 80)
    child.process.kill('SIGKILL')
    await child.ended
    const numbers = (what: string): number[] =>
      child.lines.filter((line) => line.startsWith(`${what} `)).map((line) => Number(line.slice(what.length)))
    const fences = numbers('fence')
    if (fences[0] !== undefined) expect(fences[0]).toBeGreaterThan(lastFence)
    lastFence = fences.at(-1) ?? lastFence

    const slots = await Slots.open({ dir: home })
    expect(slots.problems).toEqual([])
    const committed = numbers('commit').at(-1) ?? 0
    const floor = slots.floor('program', 'blink')
    expect([committed, committed + 1, floor]).toContain(floor)
    expect(floor).toBeGreaterThanOrEqual(committed)
    expect(slots.get('main').current).toBe(floor === 0 ? null : digest(floor))
    if (floor > 0) expect(slots.tried(digest(floor))).toBe('committed')
    const checkpoint = await slots.loadCheckpoint('main', 'blink')
    expect(checkpoint?.stateVersion ?? 0).toBeGreaterThanOrEqual(numbers('checkpoint').at(-1) ?? 0)
    if (checkpoint) expect(new Set(checkpoint.bytes)).toEqual(new Set([checkpoint.stateVersion % 256]))
    lastFence = Math.max(lastFence, slots.nextFence())
  }
  expect(lastFence).toBeGreaterThan(10)
})
