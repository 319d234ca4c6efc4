import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { pack } from 'tar-stream'
import { expect, test } from 'vitest'
import { treeHash } from '../../../../deploy/shared/bundle/h1.ts'
import { gunzip, packPayload, unpackPayload } from '../../../../deploy/shared/bundle/payload.ts'
import type { Release } from '../../../../deploy/shared/bundle/release.ts'
import { readTar, writeTar } from '../../../../deploy/shared/bundle/tar.ts'
import { Refusal } from '../../../../deploy/shared/errors.ts'
import { filesOf } from '../../../fixtures/bundles.ts'
import { manifestOf, releaseOf } from '../../../fixtures/manifests.ts'
import { flip } from '../../../fixtures/random.ts'
import { missing, refusal, run, tempFolder } from '../../../fixtures/tools.ts'

const FILES = filesOf(manifestOf(), 'export const a = 1\n')

function releaseFor(bytes: Uint8Array, over: Partial<Release['payload']> = {}, h1 = treeHash(FILES)): Release {
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  return releaseOf({ h1, payload: { sha256, length: bytes.length, unpacked: 4096, ...over } })
}

function foreignTar(header: object, body = 'x'): Promise<Uint8Array> {
  const tar = pack()
  tar.entry({ name: 'a', mode: 0o644, uid: 0, gid: 0, mtime: new Date(0), type: 'file', ...header }, body)
  tar.finalize()
  return (async () => {
    const parts: Uint8Array[] = []
    for await (const part of tar) parts.push(part as Uint8Array)
    return Buffer.concat(parts)
  })()
}

test('V1: the same files give the same payload bytes, in any order', async () => {
  const one = await packPayload(FILES)
  const two = await packPayload([...FILES].reverse())
  expect(Buffer.compare(one.bytes, two.bytes)).toBe(0)
  expect([...one.bytes.subarray(0, 10)]).toEqual([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])
  const files = await unpackPayload(one.bytes, { ...releaseOf(), h1: one.h1, payload: one })
  expect([...files.keys()]).toEqual(['buildinfo.json', 'manifest.json', 'program.mjs'])
  for (const { name, bytes } of FILES) expect(Buffer.compare(files.get(name) ?? Buffer.alloc(0), bytes)).toBe(0)
})

/** Hashes made with sha256sum, sort in the C locale, and openssl, as Go's dirhash.Hash1 defines them. */
test.each([
  ['one file', { 'hello.txt': 'hello\n' }, 'U/MTbknduiUdDztSYaUnMfbpBiMl2oAft+3CdTktZ90='],
  ['no file', {}, '47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='],
  ['an empty file', { empty: '' }, 'qeRWy81PSQtvM1POcgo/T5uzgbJ/wGDTruTnDuezfz0='],
  ['spaces in a name', { b: 'y', 'a file with spaces': 'x' }, 'EwL6PCfySP/OYw2HHCTszJbfxw4QkKb6z1Yk5jVW2OE='],
  [
    'nested folders, sorted by bytes',
    { 'a/z': '3', 'a/b/c': '1', B: '4', 'a.b': '2' },
    'EZHU/kdnfsAD7RFiIcHD7GOORAPYUfcQmr3WSIxEH6w=',
  ],
  [
    'names beyond ASCII, sorted by their UTF-8',
    { '\u{1f600}.txt': '\u{1f600}', 'ä.txt': 'ä', z: 'z', '€': '€' },
    'HzjcbgC3J08VNIxv8fKfzD6Y17TZp01iSSTtJ4zF2l8=',
  ],
  [
    'bytes that are no text',
    { crlf: 'a\r\nb\r\n', bin: Buffer.from([0, 1, 2, 255]) },
    'tMMKphvbLZcjefbeJG2TieTbVIBrT6SaMi6a+ewOYuU=',
  ],
])('V5: BUNDLE 5.6: the tree hash of a fixed tree: %s', (_what, tree, hash) => {
  const files = Object.entries(tree).map(([name, content]) => ({ name, bytes: Buffer.from(content) }))
  expect(treeHash(files)).toBe(`h1:${hash}`)
  expect(treeHash(files.reverse())).toBe(`h1:${hash}`)
})

test('V5: BUNDLE 5.6: the tree hash is the one of Go', async () => {
  // golang.org/x/mod/sumdb/dirhash: lines of sha256sum, sorted, hashed
  const hello = createHash('sha256').update('hello').digest('hex')
  const world = createHash('sha256').update('world').digest('hex')
  const files = [
    { name: 'b', bytes: Buffer.from('world') },
    { name: 'a', bytes: Buffer.from('hello') },
  ]
  const sum = createHash('sha256').update(`${hello}  a\n${world}  b\n`).digest('base64')
  expect(treeHash(files)).toBe(`h1:${sum}`)
  expect(treeHash([])).toBe('h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=')
  // bytes, not UTF-16 units, decide the order
  const [high, low] = ['\u{10000}', '\uffff'].map((name) => ({ name, bytes: Buffer.alloc(0) }))
  if (!high || !low) throw new Error('no files')
  const empty = createHash('sha256').digest('hex')
  const sorted = createHash('sha256').update(`${empty}  ${low.name}\n${empty}  ${high.name}\n`).digest('base64')
  expect(treeHash([high, low])).toBe(`h1:${sorted}`)
  expect((await refusal(() => treeHash([{ name: 'a\nb', bytes: Buffer.alloc(0) }]))).code).toBe('bad-bundle')
})

const noTools = missing('sha256sum', 'tar')
test.skipIf(noTools)(`V5: sha256sum and tar agree${noTools}`, async () => {
  const folder = tempFolder()
  mkdirSync(join(folder, 'tree'))
  writeFileSync(join(folder, 'p.tar.gz'), (await packPayload(FILES)).bytes)
  expect(run(folder, 'tar', ['-xzvf', 'p.tar.gz', '-C', 'tree']).trim().split('\n')).toHaveLength(3)
  const lines = run(join(folder, 'tree'), 'sha256sum', ['buildinfo.json', 'manifest.json', 'program.mjs'])
  expect(treeHash(FILES)).toBe(`h1:${createHash('sha256').update(lines).digest('base64')}`)
})

test('BUNDLE 5.1, 5.2: only our own tar is read', async () => {
  const good = await foreignTar({})
  expect((await readTar(good)).map((file) => file.name)).toEqual(['a'])
  const headers: object[] = [
    { mode: 0o755 },
    { mode: 0o4644 },
    { uid: 1 },
    { gid: 1 },
    { mtime: new Date(1000) },
    { uname: 'root' },
    { type: 'symlink', linkname: '/etc/passwd' },
    { type: 'link', linkname: 'a' },
    { type: 'directory' },
    { type: 'fifo' },
    { type: 'character-device', devmajor: 1, devminor: 3 },
    { type: 'contiguous-file' },
    { name: '../a' },
    { name: '/a' },
    { name: 'a/../b' },
    { name: 'a//b' },
    { name: '.hidden' },
    { name: 'a b' },
    { name: 'ä' },
    { name: 'a'.repeat(101) },
    { name: `${'d/'.repeat(60)}a` },
    { name: 'a\nb' },
    { name: '' },
    { pax: { 'LIBARCHIVE.x': '1' } },
  ]
  for (const header of headers) {
    const body = 'type' in header ? '' : 'x'
    const refused = await refusal(async () => readTar(await foreignTar(header, body)))
    expect(['bad-bundle', 'truncated'], JSON.stringify(header)).toContain(refused.code)
  }
  const [a, b] = ['a', 'b'].map((name) => ({ name, bytes: Buffer.from(name) }))
  if (!a || !b) throw new Error('no files')
  const unsorted = await writeTar([b, a], 'given')
  expect((await refusal(() => readTar(unsorted))).message).toContain("'a' comes after 'b'")
  expect((await refusal(() => writeTar([a, a]))).message).toContain('two files are named')
  const odd = Buffer.concat([(await writeTar([a])).subarray(0, 1024), await writeTar([a])])
  expect((await refusal(() => readTar(odd))).code).toBe('bad-bundle')
})

test('BUNDLE 5.2: no bit of a tar is free, and no length but its own', async () => {
  const tar = await writeTar([{ name: 'a', bytes: Buffer.from('hello') }])
  const files = await readTar(tar)
  for (let bit = 0; bit < tar.length * 8; bit++) {
    const changed = flip(tar, bit)
    try {
      const read = await readTar(changed)
      // the one thing a flip can change into another good tar is the content
      expect(Buffer.compare(await writeTar(read), changed)).toBe(0)
      expect(bit >> 3).toBeGreaterThanOrEqual(512)
      expect(bit >> 3).toBeLessThan(517)
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
    }
  }
  expect(files).toHaveLength(1)
  for (const length of [0, 1, 511, 512, 513, 1024, 1536, 2047]) {
    expect(['truncated', 'bad-bundle']).toContain((await refusal(() => readTar(tar.subarray(0, length)))).code)
  }
  for (const more of [1, 512, 1024]) {
    const refused = await refusal(() => readTar(Buffer.concat([tar, Buffer.alloc(more)])))
    expect(['truncated', 'bad-bundle']).toContain(refused.code)
  }
})

test('BUNDLE 1.4: a tar has at most 1024 files', async () => {
  const files = (n: number) =>
    Array.from({ length: n }, (_, i) => ({ name: `f${String(i).padStart(5, '0')}`, bytes: Buffer.alloc(1) }))
  expect(await readTar(await writeTar(files(1024)))).toHaveLength(1024)
  expect((await refusal(() => writeTar(files(1025)))).code).toBe('too-large')
  const tar = pack()
  for (const { name } of files(1025)) tar.entry({ name, mode: 0o644, mtime: new Date(0) }, 'x')
  tar.finalize()
  const parts: Uint8Array[] = []
  for await (const part of tar) parts.push(part as Uint8Array)
  expect((await refusal(() => readTar(Buffer.concat(parts)))).code).toBe('too-large')
})

test('BUNDLE 5.4: length and hash of the compressed bytes come before unpacking', async () => {
  const { bytes } = await packPayload(FILES)
  const release = releaseFor(bytes)
  expect((await refusal(() => unpackPayload(bytes.subarray(0, -1), release))).code).toBe('truncated')
  expect((await refusal(() => unpackPayload(Buffer.concat([bytes, Buffer.alloc(1)]), release))).code).toBe('bad-bundle')
  expect((await refusal(() => unpackPayload(flip(bytes, 300), release))).code).toBe('bad-hash')
})

test('BUNDLE 5.3, 5.5: a bomb, a second member, junk after the member and other headers are refused', async () => {
  const { bytes } = await packPayload(FILES)
  const reject = (payload: Uint8Array, over: Partial<Release['payload']> = {}) =>
    refusal(() => unpackPayload(payload, releaseFor(payload, over)))
  const tar = gunzipSync(bytes)
  expect(tar.length).toBe(4096)

  const bomb = gzipSync(Buffer.alloc(50 * 1024 * 1024), { level: 9 })
  bomb.set(bytes.subarray(0, 10))
  const before = process.memoryUsage().arrayBuffers
  expect((await reject(bomb)).code).toBe('too-large')
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20 * 1024 * 1024)

  expect((await reject(Buffer.concat([bytes, bytes]), { unpacked: 8192 })).code).toBe('bad-bundle')
  expect((await reject(Buffer.concat([bytes, bytes]))).message).toContain('after the gzip member')
  expect((await reject(Buffer.concat([bytes, Buffer.from('junk')]))).message).toContain('after the gzip member')
  expect((await reject(bytes, { unpacked: 4095 })).code).toBe('too-large')
  expect((await reject(bytes, { unpacked: 4097 })).message).toContain('unpacks to 4096 bytes')
  expect((await reject(gzipSync(tar))).message).toContain('header of BUNDLE 5.3')
  expect((await reject(Buffer.alloc(5))).code).toBe('bad-bundle')
  expect((await reject(bytes.subarray(0, -9))).code).toBe('bad-bundle')
  const crc = Buffer.from(bytes)
  crc[crc.length - 6] = (crc[crc.length - 6] ?? 0) ^ 1
  expect((await reject(crc)).message).toContain('trailer')
  expect((await refusal(() => unpackPayload(bytes, releaseFor(bytes, {}, `h1:${'A'.repeat(43)}=`)))).code).toBe(
    'bad-hash',
  )
})

test('BUNDLE 5.5: every bit of the compressed stream, past the hash check', async () => {
  const { bytes, unpacked } = await packPayload([{ name: 'a', bytes: Buffer.from('hello hello hello') }])
  const whole = await gunzip(bytes, unpacked)
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    try {
      // deflate has spare bits at its end: then what comes out is the same
      expect(Buffer.compare(await gunzip(flip(bytes, bit), unpacked), whole)).toBe(0)
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
    }
  }
})
