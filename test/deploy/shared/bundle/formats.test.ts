import fc from 'fast-check'
import { expect, test } from 'vitest'
import { encodeManifest, type Manifest, parseManifest } from '../../../../deploy/shared/bundle/manifest.ts'
import { encodeRelease, parseRelease, type Release, releaseDigest } from '../../../../deploy/shared/bundle/release.ts'
import { encodeJson as compact } from '../../../../deploy/shared/bundle/strict.ts'
import { Refusal } from '../../../../deploy/shared/errors.ts'
import { manifestOf, releaseOf } from '../../../fixtures/manifests.ts'
import { refusal } from '../../../fixtures/tools.ts'

/** As a document of any kind: padded as a release with so many recipients would be. */
function encodeJson(value: object): Uint8Array {
  const count = 'recipients' in value && Array.isArray(value.recipients) ? value.recipients.length : 8
  const text = Buffer.from(compact(value)).toString().trimEnd()
  return Buffer.from(`${text}${' '.repeat(53 * Math.max(0, 8 - count))}\n`)
}

const id = (letter: string) => `SHA256:${letter.repeat(43)}`

test('a release and a manifest are what they were', () => {
  const release = releaseOf({ expires: '2027-01-01T00:00:00.000Z', slot: 'arm', arch: ['arm64', 'x64'] })
  expect(parseRelease(encodeRelease(release))).toEqual(release)
  expect(releaseDigest(encodeRelease(release))).toMatch(/^sha256:[0-9a-f]{64}$/)
  const manifest = manifestOf({
    state: { version: 3, encoding: 'bytes' },
    params: {
      kp: { value: 1.2, max: 5, unit: '°' },
      mode: { value: 'slow', choices: ['slow', 'fast'] },
      on: { value: true },
    },
    ratesMs: [1, 0.5],
  })
  expect(parseManifest(encodeManifest(manifest))).toEqual(manifest)
})

test('P5: BUNDLE 1.3: an unknown format version is refused by name, whatever else is in it', async () => {
  for (const read of [parseRelease, parseManifest]) {
    const known = read === parseRelease ? 'medulla-release/1' : 'medulla-manifest/1'
    for (const format of ['medulla-release/2', 'medulla-manifest/2', '', 7, null, ['medulla-release/1']]) {
      const refused = await refusal(() => read(encodeJson({ format, surprise: 1 })))
      expect(refused.code).toBe('unknown-format')
      expect(refused.message).toContain(`unknown format ${JSON.stringify(format)}, known: ${known}`)
    }
    expect((await refusal(() => read(encodeJson({})))).code).toBe('unknown-format')
  }
})

test('BUNDLE 1.2, 6.7: a document has one reading', async () => {
  const text = Buffer.from(encodeRelease(releaseOf())).toString()
  const variants = {
    'no newline': text.slice(0, -1),
    'no padding': `${text.trimEnd()}\n`,
    'less padding': text.replace(' \n', '\n'),
    'more padding': text.replace('\n', ' \n'),
    'two newlines': `${text}\n`,
    'white space': text.replace(',', ', '),
    'doubled key': text.replace('{', '{"slot":"main",'),
    'escaped letter': text.replace('"kind"', '"\\u006bind"'),
    'byte order mark': `\ufeff${text}`,
    'number form': text.replace('"counter":1000', '"counter":1e3'),
    'trailing bytes': `${text}{}`,
  }
  for (const [what, variant] of Object.entries(variants)) {
    expect((await refusal(() => parseRelease(Buffer.from(variant)))).code, what).toBe('bad-bundle')
  }
  for (const bytes of [[], [0xff, 0xfe], [0x7b, 0xc3, 0x28, 0x7d], Buffer.from('null\n'), Buffer.from('[]\n')]) {
    expect((await refusal(() => parseRelease(Uint8Array.from(bytes)))).code).toBe('bad-bundle')
  }
})

test('BUNDLE 6.1, 6.4, 6.5: every field of a release is checked', async () => {
  const wrong: [object, string][] = [
    [{ kind: 'driver' }, "'kind' must be one of program, runtime"],
    [{ program: 'Blink' }, "'program' is malformed"],
    [{ program: '../x' }, "'program' is malformed"],
    [{ program: 'a'.repeat(65) }, 'at most 64'],
    [{ version: '' }, "'version' is malformed"],
    [{ version: '1'.repeat(129) }, 'at most 128'],
    [{ payload: { sha256: 'A'.repeat(64), length: 1, unpacked: 1 } }, "'sha256' is malformed"],
    [{ payload: { sha256: 'a'.repeat(64), length: 1 } }, "missing key 'unpacked'"],
    [{ payload: { sha256: 'a'.repeat(64), length: 1, unpacked: 1, extra: 1 } }, 'unknown key "extra"'],
    [{ payload: null }, "'payload' must be an object"],
    [{ h1: `h2:${'A'.repeat(43)}=` }, "'h1' is malformed"],
    [{ counter: 0 }, "'counter' must be a whole number"],
    [{ counter: 1.5 }, "'counter' must be a whole number"],
    [{ counter: 2 ** 53 }, "'counter' must be a whole number"],
    [{ created: '2026-02-30T00:00:00.000Z' }, "'created' is no time"],
    [{ expires: 5 }, "'expires' must be a string"],
    [{ arch: [] }, "'arch' is empty"],
    [{ arch: ['x64', 'arm64'] }, 'must be sorted'],
    [{ arch: ['x64', 'x64'] }, 'without doubles'],
    [{ node: '^20' }, "'node' is malformed"],
    [{ node: '>=20' }, "'node' is malformed"],
    [{ node: '>=20.19 <23' }, "'node' is malformed"],
    [{ node: '>=020.19' }, "'node' is malformed"],
    [{ recipients: [] }, "'recipients' is empty"],
    [{ recipients: ['SHA256:short'] }, "'recipients' holds"],
    [{ recipients: [id('B'), id('A')] }, 'must be sorted'],
    [{ slot: 'Main' }, "'slot' is malformed"],
    [{ owner: true }, 'unknown key "owner"'],
  ]
  for (const [over, message] of wrong) {
    const refused = await refusal(() => parseRelease(encodeJson({ ...releaseOf(), ...over })))
    expect(refused.code).toBe('bad-bundle')
    expect(refused.message).toContain(message)
  }
  const { slot: _, ...rest } = releaseOf()
  expect((await refusal(() => parseRelease(encodeJson(rest)))).message).toContain("missing key 'slot'")
})

test('BUNDLE 4.1, 4.3: every field of a manifest is checked', async () => {
  const wrong: [object, string][] = [
    [{ entry: 'other.mjs' }, "'entry' must be one of program.mjs"],
    [{ wire: 0 }, "'wire' must be a whole number"],
    [{ needs: { 'a b': 'output' } }, 'malformed name'],
    [{ needs: { led: 'Output' } }, "gives 'led' no kind"],
    [{ needs: { led: 1 } }, "gives 'led' no kind"],
    [{ needs: [] }, "'needs' must be an object"],
    [{ ratesMs: [0] }, "'ratesMs' must hold"],
    [{ ratesMs: ['1'] }, "'ratesMs' must hold"],
    [{ state: { version: 1 } }, "missing key 'encoding'"],
    [{ state: { version: 1, encoding: 'xml' } }, "'encoding' must be one of json, bytes"],
    [{ state: 1 }, "'state' must be an object"],
    [{ params: [] }, "'params' must be an object"],
    [{ params: { 'a b': { value: 1 } } }, 'malformed name'],
    [{ params: { kp: 1 } }, "gives 'kp' no declaration"],
    [{ params: { kp: { value: null } } }, "'value' must be a number"],
    [{ params: { kp: { value: 1, choices: [] } } }, 'unknown key "choices"'],
    [{ params: { kp: { value: 6, max: 5 } } }, 'outside of its range'],
    [{ params: { kp: { value: 1, max: '5' } } }, "'max' must be a number"],
    [{ params: { kp: { value: 1, step: 0 } } }, "'step' must be above 0"],
    [{ params: { kp: { value: 1, unit: 'a b' } } }, "'unit' is malformed"],
    [{ params: { on: { value: true, min: 0 } } }, 'unknown key "min"'],
    [{ params: { mode: { value: 'a' } } }, "missing key 'choices'"],
    [{ params: { mode: { value: 'a', choices: ['b'] } } }, "none of 'choices'"],
    [{ params: { mode: { value: 'a', choices: ['a', 'a'] } } }, "'choices' is malformed"],
    [{ root: true }, 'unknown key "root"'],
  ]
  for (const [over, message] of wrong) {
    const refused = await refusal(() => parseManifest(encodeJson({ ...manifestOf(), ...over })))
    expect(refused.code).toBe('bad-bundle')
    expect(refused.message).toContain(message)
  }
  const odd = JSON.parse('{"__proto__":"output","constructor":"output"}') as Record<string, string>
  expect((await refusal(() => encodeManifest(manifestOf({ needs: odd })))).message).toContain('malformed name')
})

test('BUNDLE 4.5: the config values that a program needs are names, each once; a manifest without them is what it was', async () => {
  expect(Buffer.from(encodeManifest(manifestOf({ config: [] }))).toString()).not.toContain('config')
  const manifest = manifestOf({ config: ['MQTT_URL', 'A'] })
  expect(parseManifest(encodeManifest(manifest))).toEqual(manifest)
  for (const config of [[], ['token'], ['1A'], ['A B'], ['A', 'A'], [1], 'A', { A: 1 }, null]) {
    expect((await refusal(() => parseManifest(encodeJson({ ...manifestOf(), config })))).message).toContain("'config'")
  }
})

test('BUNDLE 1.4: each limit of a document holds, and one less passes', async () => {
  const nest = (depth: number): unknown => (depth === 0 ? 1 : [nest(depth - 1)])
  const many = (n: number) => Object.fromEntries(Array.from({ length: n }, (_, i) => [`led${i}`, 'output']))
  const ids = (n: number) => Array.from({ length: n }, (_, i) => `SHA256:${String(i).padStart(43, '0')}`)
  const arches = (n: number) => Array.from({ length: n }, (_, i) => `a${String(i).padStart(2, '0')}`)
  const rates = (n: number) => Array.from({ length: n }, () => 1)
  const params = (n: number) => Object.fromEntries(Array.from({ length: n }, (_, i) => [`p${i}`, { value: i }]))
  const names = (n: number) => Array.from({ length: n }, (_, i) => `N${i}`)
  const choice = (n: number) => ({ value: 'c0', choices: Array.from({ length: n }, (_, i) => `c${i}`) })
  const manifests: [Partial<Manifest>, Partial<Manifest>][] = [
    [{ needs: many(64) }, { needs: many(65) }],
    [{ ratesMs: rates(64) }, { ratesMs: rates(65) }],
    [{ params: params(64) }, { params: params(65) }],
    [{ config: names(32) }, { config: names(33) }],
    [{ config: [`A${'_'.repeat(63)}`] }, { config: [`A${'_'.repeat(64)}`] }],
    [{ params: { x: choice(32) } }, { params: { x: choice(33) } }],
    [{ sdk: '1'.repeat(128) }, { sdk: '1'.repeat(129) }],
  ]
  for (const [good, bad] of manifests) {
    parseManifest(encodeManifest(manifestOf(good)))
    expect((await refusal(() => encodeManifest(manifestOf(bad)))).code).toBe('bad-bundle')
  }
  const releases: [Partial<Release>, Partial<Release>][] = [
    [{ recipients: ids(256) }, { recipients: ids(257) }],
    [{ arch: arches(16) }, { arch: arches(17) }],
    [
      { payload: { sha256: 'a'.repeat(64), length: 32505856, unpacked: 134217728 } },
      { payload: { sha256: 'a'.repeat(64), length: 32505857, unpacked: 1 } },
    ],
    [{ version: '1' }, { payload: { sha256: 'a'.repeat(64), length: 1, unpacked: 134217729 } }],
  ]
  for (const [good, bad] of releases) {
    parseRelease(encodeRelease(releaseOf(good)))
    expect((await refusal(() => encodeRelease(releaseOf(bad)))).code).toBe('bad-bundle')
  }
  const kinds = (n: number) => ({ needs: { led: 'x'.repeat(n) } })
  const empty = encodeManifest(manifestOf(kinds(1))).length - 1
  expect((await refusal(() => encodeManifest(manifestOf(kinds(65536 - empty))))).code).toBe('bad-bundle')
  expect((await refusal(() => encodeManifest(manifestOf(kinds(65537 - empty))))).code).toBe('too-large')
  const nested = (depth: number) => Buffer.from(`{"format":"medulla-manifest/1","x":${JSON.stringify(nest(depth))}}\n`)
  expect((await refusal(() => parseManifest(nested(7)))).message).toContain('unknown key')
  expect((await refusal(() => parseManifest(nested(8)))).message).toContain('nested deeper')
  expect((await refusal(() => parseRelease(Buffer.alloc(65537, 0x20)))).code).toBe('too-large')
  // deeper than the stack of a walk that recurses
  const bomb = `{"format":"medulla-manifest/1","params":${'['.repeat(32000)}${']'.repeat(32000)}}\n`
  expect((await refusal(() => parseManifest(Buffer.from(bomb)))).message).toContain('nested deeper')
})

test('BUNDLE 1.5: a parser ends in its result or in a refusal', () => {
  const texts = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.json().map((text) => Buffer.from(`${text}\n`)),
  )
  fc.assert(
    fc.property(texts, (bytes) => {
      for (const read of [parseRelease, parseManifest]) {
        try {
          read(bytes)
        } catch (error) {
          if (!(error instanceof Refusal)) throw error
        }
      }
    }),
    { numRuns: 300, seed: 7 },
  )
})
