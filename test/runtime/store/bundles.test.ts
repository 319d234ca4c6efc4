import { createHash } from 'node:crypto'
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { Refusal } from '../../../deploy/shared/errors.ts'
import { generateKey } from '../../../deploy/shared/keys.ts'
import { recoverDir, TEMP_PREFIX, writeAtomic } from '../../../runtime/store/atomic.ts'
import { Bundles } from '../../../runtime/store/bundles.ts'
import { ENTRY_FILES, readEntry } from '../../../runtime/store/entry.ts'
import { seeded } from '../../fixtures/random.ts'
import { tempFolder } from '../../fixtures/tools.ts'
import { compile, META, makeVerified, run } from './bed.ts'

const refusal = (code: string): unknown => expect.objectContaining({ name: 'Refusal', code })

test('a bundle that was put is loaded and extracted read-only, byte for byte', async () => {
  const dir = tempFolder()
  const signer = await generateKey(join(dir, 'key'), 'me')
  const bundles = await Bundles.open(join(dir, 'store'))
  const verified = await makeVerified(signer, { code: 'let a = 1\n' })
  const record = await bundles.put(verified, META)
  expect(record).toMatchObject({ digest: verified.digest, signer: signer.fingerprint, ...META })
  expect(record.payload).toBe(createHash('sha256').update(verified.payload).digest('hex'))

  const again = await Bundles.open(join(dir, 'store'))
  expect(await again.load(verified.digest)).toEqual({ record, release: verified.release })
  const loaded = await readEntry(again.dir, verified.digest)
  expect(Buffer.from(loaded.payload)).toEqual(Buffer.from(verified.payload))
  expect(loaded.signature).toBe(verified.signature)

  const folder = join(dir, 'instance')
  expect(await again.extract(verified.digest, folder)).toEqual(record)
  expect((await readdir(folder)).sort()).toEqual(['buildinfo.json', 'manifest.json', 'program.mjs'])
  expect(await readFile(join(folder, 'program.mjs'), 'utf8')).toBe('let a = 1\n')
  for (const name of await readdir(folder)) expect((await stat(join(folder, name))).mode & 0o777).toBe(0o400)
  // the folder of one instance is never used for another
  await expect(again.extract(verified.digest, folder)).rejects.toThrow('EEXIST')
})

test('putting a bundle again keeps the first record, also from two callers at once', async () => {
  const dir = tempFolder()
  const signer = await generateKey(join(dir, 'key'), 'me')
  const bundles = await Bundles.open(join(dir, 'store'))
  const verified = await makeVerified(signer)
  const later = { ...META, time: '2027-01-01T00:00:00.000Z' }
  const [first, second] = await Promise.all([bundles.put(verified, META), bundles.put(verified, later)])
  expect(second).toEqual(first)
  expect(await bundles.list()).toEqual([verified.digest])
})

test('prune keeps what it is told to, and an unknown digest is not found', async () => {
  const dir = tempFolder()
  const signer = await generateKey(join(dir, 'key'), 'me')
  const bundles = await Bundles.open(dir)
  const all = await Promise.all([1, 2, 3].map((counter) => makeVerified(signer, { counter })))
  for (const one of all) await bundles.put(one, META)
  const [a, b, c] = all.map((one) => one.digest)
  expect((await bundles.prune(() => new Set([b ?? '']))).sort()).toEqual([a, c].sort())
  expect(await bundles.list()).toEqual([b])
  await expect(bundles.load(a ?? '')).rejects.toEqual(refusal('not-found'))
  await expect(bundles.load('../../etc')).rejects.toEqual(refusal('not-found'))
})

test('HANDOVER 8.5: what a push in another slot needs is not pruned, also when it is stored or committed meanwhile', async () => {
  const signer = await generateKey(join(tempFolder(), 'key'), 'me')
  const bundles = await Bundles.open(tempFolder())
  const [a, b, c] = await Promise.all([1, 2, 3].map((counter) => makeVerified(signer, { counter })))
  if (a === undefined || b === undefined || c === undefined) throw new Error('three were made')
  const committed = new Set([a.digest])
  const [releaseB, releaseC] = [bundles.hold(b.digest), bundles.hold(c.digest)]
  await Promise.all([a, b, c].map((one) => bundles.put(one, META)))
  const pruned = bundles.prune(() => committed)
  // its slot commits it, while the other slot's prune waits for its turn
  committed.add(b.digest)
  releaseB()
  expect(await pruned).toEqual([])
  // undone
  releaseC()
  expect(await bundles.prune(() => committed)).toEqual([c.digest])
  expect((await bundles.list()).sort()).toEqual([a.digest, b.digest].sort())
})

test('Y10: a byte changed on disk is refused at start, the last good one still starts, a new push heals it', async () => {
  const dir = tempFolder()
  const signer = await generateKey(join(dir, 'key'), 'me')
  const store = join(dir, 'store')
  const bundles = await Bundles.open(store)
  const good = await makeVerified(signer, { counter: 1 })
  const bad = await makeVerified(signer, { counter: 2, code: `// ${'x'.repeat(500)}\n` })
  for (const one of [good, bad]) await bundles.put(one, META)
  const entry = join(store, bad.digest.slice('sha256:'.length))
  const random = seeded(10)
  let flips = 0
  for (const name of ENTRY_FILES) {
    const path = join(entry, name)
    const bytes = await readFile(path)
    for (let n = 0; n < 40; n++) {
      const at = Math.floor(random() * bytes.length)
      const changed = Buffer.from(bytes)
      changed[at] = (changed[at] ?? 0) ^ (1 << Math.floor(random() * 8))
      await writeFile(path, changed)
      await expect(bundles.load(bad.digest), `${name} byte ${at}`).rejects.toEqual(refusal('bad-hash'))
      await expect(bundles.extract(bad.digest, join(dir, 'never'))).rejects.toEqual(refusal('bad-hash'))
      flips++
    }
    for (const shorter of [bytes.subarray(0, -1), Buffer.concat([bytes, Buffer.from(' ')]), Buffer.alloc(0)]) {
      await writeFile(path, shorter)
      await expect(bundles.load(bad.digest), name).rejects.toEqual(refusal('bad-hash'))
      await expect(bundles.extract(bad.digest, join(dir, 'never'))).rejects.toEqual(refusal('bad-hash'))
    }
    await writeFile(path, bytes)
  }
  expect(flips).toBe(160)
  // nothing of a damaged bundle was written for an instance
  await expect(readdir(join(dir, 'never'))).rejects.toThrow('ENOENT')
  await bundles.extract(good.digest, join(dir, 'instance'))

  await chmod(join(entry, 'payload.tar.gz'), 0o600)
  await writeFile(join(entry, 'payload.tar.gz'), 'x')
  await bundles.put(bad, { ...META, time: 'later' })
  expect((await bundles.load(bad.digest)).record.time).toBe('later')
})

test('P10: atomic on disk: a writer killed at seeded points of a loop of puts leaves only whole bundles', async () => {
  const dir = tempFolder()
  const script = await compile('./child.ts', dir)
  const random = seeded(7)
  let temps = 0
  let acknowledged = 0
  // on, until the kills have hit puts under way and puts that were answered: else this test shows nothing
  for (let round = 0; round < 12 || temps === 0 || acknowledged <= 10; round++) {
    const store = join(dir, `store${round}`)
    const child = run(script, ['put', store])
    await child.line()
    for (let n = Math.floor(random() * 5); n > 0; n--) await child.line()
    await sleep(random() * 20)
    child.process.kill('SIGKILL')
    await child.ended
    temps += (await readdir(store)).filter((name) => name.startsWith(TEMP_PREFIX)).length

    const bundles = await Bundles.open(store)
    const names = await readdir(store)
    expect(names.filter((name) => name.startsWith(TEMP_PREFIX))).toEqual([])
    const list = await bundles.list()
    for (const digest of list) expect((await bundles.load(digest)).record.digest).toBe(digest)
    // what was answered is there, unless a prune had begun
    const answered = child.lines.filter((line) => line.startsWith('sha256:'))
    if (!child.lines.includes('prune')) for (const digest of answered) expect(list).toContain(digest)
    acknowledged += answered.length
  }
  expect(temps).toBeGreaterThan(0)
  expect(acknowledged).toBeGreaterThan(10)
})

test('P10: a reader never sees a part of a file that is being replaced, and a failed write leaves the old one', async () => {
  const dir = tempFolder()
  const path = join(dir, 'file')
  await writeAtomic(path, 'a'.repeat(100_000))
  let writing = true
  const writer = (async () => {
    for (let n = 0; n < 40; n++) await writeAtomic(path, (n % 2 ? 'a' : 'b').repeat(100_000))
    writing = false
  })()
  while (writing) expect(await readFile(path, 'utf8')).toMatch(/^(a{100000}|b{100000})$/)
  await writer
  expect((await stat(path)).mode & 0o777).toBe(0o600)

  const folder = join(dir, 'folder')
  await mkdir(folder)
  await expect(writeAtomic(folder, 'x')).rejects.toThrow()
  expect(await recoverDir(dir)).toEqual([])
  await writeFile(join(dir, `${TEMP_PREFIX}left`), 'x')
  expect(await recoverDir(dir)).toEqual([`${TEMP_PREFIX}left`])
  expect((await readdir(dir)).sort()).toEqual(['file', 'folder'])
})

test('a store that cannot be written to answers with the error and stays usable', async () => {
  const dir = tempFolder()
  const signer = await generateKey(join(dir, 'key'), 'me')
  const bundles = await Bundles.open(join(dir, 'store'))
  const verified = await makeVerified(signer)
  await expect(bundles.put({ ...verified, digest: 'nonsense' }, META)).rejects.toBeInstanceOf(Refusal)
  await bundles.put(verified, META)
  expect(await bundles.list()).toEqual([verified.digest])
})
