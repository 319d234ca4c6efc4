import { expect, test } from 'vitest'
import type { Manifest } from '../../../../deploy/shared/bundle/manifest.ts'
import {
  AHEAD_OF_CLOCK_MS,
  AHEAD_OF_FLOOR_MS,
  atFirstStart,
  decide,
  highestCounter,
  nodeSatisfies,
  type RobotFacts,
} from '../../../../deploy/shared/bundle/policy.ts'
import { FIRST_START, nextCounter, type Release } from '../../../../deploy/shared/bundle/release.ts'
import { manifestOf, releaseOf } from '../../../fixtures/manifests.ts'
import { factsOf } from './policy.facts.ts'

const NOW = 1_800_000_000_000
const DIGEST = `sha256:${'d'.repeat(64)}`
const YEAR_MS = 365 * 24 * 3600 * 1000
const OTHER = `SHA256:${'B'.repeat(43)}`

interface Case {
  title: string
  release?: Partial<Release>
  facts?: Partial<RobotFacts>
  manifest?: Partial<Manifest>
  code: string | null
  says?: string[]
}

const cases: Case[] = [
  { title: 'a new program on an empty robot is taken', code: null },
  { title: 'a newer one is taken', facts: { floor: NOW - 1, committed: 'sha256:other', tried: null }, code: null },
  { title: 'BUNDLE 10.1: for another robot', release: { recipients: [OTHER] }, code: 'wrong-robot', says: [OTHER] },
  { title: 'for this one and another', release: { recipients: [factsOf().robot, OTHER] }, code: null },
  { title: 'BUNDLE 10.2: bound to another slot', release: { slot: 'arm' }, code: 'wrong-slot', says: ['arm', 'main'] },
  { title: 'bound to this slot', release: { slot: 'main' }, code: null },
  { title: 'BUNDLE 10.2: a runtime release', release: { kind: 'runtime' }, code: 'wrong-slot', says: ['runtime'] },
  {
    title: 'Y7: BUNDLE 10.3: wrong arch',
    release: { arch: ['arm', 'x64'] },
    code: 'wrong-arch',
    says: ['arm, x64', 'arm64'],
  },
  { title: 'right arch', release: { arch: ['arm64', 'x64'] }, code: null },
  {
    title: 'Y7: BUNDLE 10.4: Node too old',
    release: { node: '>=22.0' },
    code: 'wrong-node',
    says: ['>=22.0', 'v20.20.2'],
  },
  {
    title: 'BUNDLE 10.5: P7: what runs is already installed, though its counter is the floor',
    facts: { committed: DIGEST, tried: 'committed', floor: NOW },
    code: 'already-installed',
  },
  {
    title: 'BUNDLE 10.5: also with --retry',
    facts: { committed: DIGEST, tried: 'committed', floor: NOW, retry: true },
    code: 'already-installed',
  },
  {
    title: 'Y6: BUNDLE 10.6: an older release, validly signed',
    facts: { floor: NOW + 1 },
    code: 'not-newer',
    says: [`${NOW}`, `${NOW + 1}`],
  },
  { title: 'Y6: another release with the same counter', facts: { floor: NOW }, code: 'not-newer' },
  {
    title: 'P7: BUNDLE 10.6: one that was committed and does not run now',
    facts: { floor: NOW, tried: 'committed', committed: 'sha256:newer' },
    code: 'not-newer',
  },
  {
    title: 'Y6: --retry does not go back either',
    facts: { floor: NOW, retry: true },
    code: 'not-newer',
  },
  {
    title: 'BUNDLE 10.7: rolled back before',
    facts: { tried: 'rolled-back' },
    code: 'tried-before',
    says: ['rolled back'],
  },
  { title: 'rolled back before, with retry', facts: { tried: 'rolled-back', retry: true }, code: null },
  {
    title: 'rolled back before, with retry, but something newer was committed since',
    facts: { tried: 'rolled-back', retry: true, floor: NOW + 5 },
    code: 'not-newer',
  },
  {
    title: 'BUNDLE 10.8: expired',
    release: { expires: new Date(NOW - 1).toISOString() },
    code: 'expired',
  },
  { title: 'not yet expired', release: { expires: new Date(NOW).toISOString() }, code: null },
  {
    title: 'BUNDLE 10.8: expired by a clock that nobody set',
    release: { expires: new Date(NOW - 1).toISOString() },
    facts: { clockSynced: false },
    code: null,
  },
  {
    title: 'BUNDLE 10.9: more than a day ahead of the clock',
    release: { counter: NOW + AHEAD_OF_CLOCK_MS + 1 },
    code: 'ahead-of-clock',
    says: [new Date(NOW).toISOString(), '24 h ahead'],
  },
  { title: 'a day ahead of the clock', release: { counter: NOW + AHEAD_OF_CLOCK_MS }, code: null },
  {
    title: 'BUNDLE 10.9: more than a day ahead of a clock that nobody keeps right',
    release: { counter: NOW + AHEAD_OF_CLOCK_MS + 1 },
    facts: { clockSynced: false },
    code: 'ahead-of-clock',
    says: ['not synchronised'],
  },
  {
    title: 'BUNDLE 10.9: the next one above a floor that is years ahead of the clock',
    release: { counter: NOW + 2 * YEAR_MS + 1 },
    facts: { floor: NOW + 2 * YEAR_MS },
    code: null,
  },
  {
    title: 'BUNDLE 10.9: a minute above a floor that is years ahead of the clock',
    release: { counter: NOW + 2 * YEAR_MS + AHEAD_OF_FLOOR_MS },
    facts: { floor: NOW + 2 * YEAR_MS },
    code: null,
  },
  {
    title: 'BUNDLE 10.9: more than a minute above a floor that is years ahead of the clock',
    release: { counter: NOW + 2 * YEAR_MS + AHEAD_OF_FLOOR_MS + 1 },
    facts: { floor: NOW + 2 * YEAR_MS },
    code: 'ahead-of-clock',
    says: [`${NOW + 2 * YEAR_MS}`, '60 s beyond'],
  },
  {
    title: 'BUNDLE 10.9: a bundle file of today, on a robot from the drawer whose clock says 1970',
    facts: { now: 5000, clockSynced: false, floor: NOW - YEAR_MS },
    code: 'ahead-of-clock',
  },
  {
    title: 'BUNDLE 10.9: a counter that is no time any more',
    release: { counter: Number.MAX_SAFE_INTEGER },
    code: 'ahead-of-clock',
    says: [`${Number.MAX_SAFE_INTEGER}`],
  },
  {
    title: 'BUNDLE 10.10: another program in the manifest',
    manifest: { program: 'other' },
    code: 'bad-bundle',
    says: ['other'],
  },
  {
    title: 'BUNDLE 10.10: another version in the manifest',
    manifest: { version: '2.0.0' },
    code: 'bad-bundle',
    says: ['2.0.0'],
  },
  { title: 'BUNDLE 10.11, HANDOVER 3.1: another wire', manifest: { wire: 2 }, code: 'wrong-wire', says: ['2', '1'] },
  {
    title: 'Y7: BUNDLE 10.12: missing handle',
    manifest: { needs: { arm: 'servo' } },
    code: 'missing-handle',
    says: ["servo 'arm'", 'led, button'],
  },
  {
    title: 'BUNDLE 10.15: values that are not set',
    manifest: { config: ['URL', 'TOKEN', 'USER'] },
    facts: { config: new Set(['TOKEN']) },
    code: 'missing-config',
    says: ['URL, USER, which are not set'],
  },
  { title: 'values that are set', manifest: { config: ['URL'] }, facts: { config: new Set(['URL', 'B']) }, code: null },
  { title: 'a name that every object has', manifest: { needs: { constructor: 'output' } }, code: 'missing-handle' },
  {
    title: 'BUNDLE 10.12: wrong kind, naming both',
    manifest: { needs: { led: 'pwm' } },
    code: 'wrong-kind',
    says: ["'led' as pwm", 'it is output'],
  },
  {
    title: 'BUNDLE 10.12: leased handle, naming both slots',
    facts: { leased: { led: { slot: 'arm', holds: 'led' } } },
    code: 'handle-leased',
    says: ["slot main needs 'led', which slot arm holds"],
  },
  {
    title: 'BUNDLE 10.12: what goes together with a leased handle, naming both of each',
    facts: { leased: { led: { slot: 'arm', holds: 'button' } } },
    code: 'handle-leased',
    says: ["slot main needs 'led', which goes together with 'button', and slot arm holds that"],
  },
  { title: 'another handle is leased', facts: { leased: { button: { slot: 'arm', holds: 'button' } } }, code: null },
]

for (const each of cases) {
  test(`${each.title}${each.code ? `: ${each.code}` : ''}`, () => {
    const release = releaseOf({ counter: NOW, ...each.release })
    const refused = decide(release, DIGEST, manifestOf(each.manifest), factsOf(each.facts))
    expect(refused?.code ?? null).toBe(each.code)
    for (const text of each.says ?? []) expect(refused?.message).toContain(text)
  })
}

test('the order of the checks: who, what, when, then hardware', () => {
  const release = releaseOf({
    counter: NOW,
    recipients: [OTHER],
    slot: 'arm',
    arch: ['mips'],
    node: '>=99.0',
    expires: new Date(NOW - 1).toISOString(),
  })
  const facts = factsOf({ floor: NOW, tried: 'rolled-back', wire: 9 })
  const manifest = manifestOf({ needs: { none: 'output' }, config: ['TOKEN'] })
  const fixes: [string, Partial<Release>, Partial<RobotFacts>][] = [
    ['wrong-robot', { recipients: [facts.robot] }, {}],
    ['wrong-slot', { slot: null }, {}],
    ['wrong-arch', { arch: ['any'] }, {}],
    ['wrong-node', { node: '>=20.19' }, {}],
    ['not-newer', {}, { floor: 0 }],
    ['tried-before', {}, { retry: true }],
    ['expired', { expires: null }, {}],
    ['wrong-wire', {}, { wire: 1 }],
    ['missing-handle', {}, { handles: { none: 'output' } }],
    ['missing-config', {}, { config: new Set(['TOKEN']) }],
  ]
  for (const [code, releaseFix, factsFix] of fixes) {
    expect(decide(release, DIGEST, manifest, facts)?.code).toBe(code)
    Object.assign(release, releaseFix)
    Object.assign(facts, factsFix)
  }
  expect(decide(release, DIGEST, manifest, facts)).toBeNull()
})

test('without a manifest, hardware and wire are not asked', () => {
  expect(decide(releaseOf({ counter: NOW }), DIGEST, null, factsOf({ handles: {}, wire: 9 }))).toBeNull()
})

test('BUNDLE 6.5: the one form of a Node range', () => {
  const table: [string, string, boolean][] = [
    ['>=20.19', 'v20.19.0', true],
    ['>=20.19', '20.18.9', false],
    ['>=20.19', 'v21.0.0', true],
    ['>=20.19', 'v24.1.0-nightly2026', true],
    ['>=20.19.2', 'v20.19.1', false],
    ['>=20.19.2', 'v20.19.2', true],
    ['>=20.9.0', 'v20.10.0', true],
    ['>=22.0', 'v20.20.2', false],
    ['^20.0', 'v20.20.2', false],
    ['>=20.19', 'unknown', false],
  ]
  for (const [range, version, expected] of table)
    expect(nodeSatisfies(range, version), `${range} ${version}`).toBe(expected)
})

test('BUNDLE 6.6 and 6.8: whatever the clocks and the floor say, a builder that asked the robot is let in', () => {
  const times = [0, 1, 5000, NOW - 10 * YEAR_MS, NOW - 1, NOW, NOW + 1, NOW + 10 * YEAR_MS, 8.64e15, 9e15]
  for (const laptop of times) {
    for (const robot of times) {
      for (const floor of times) {
        const facts = factsOf({ floor, now: robot, clockSynced: false })
        const range = { least: floor + 1, most: highestCounter(facts), now: robot }
        const counter = nextCounter(laptop, range)
        expect(decide(releaseOf({ counter }), DIGEST, null, facts), `${laptop} ${robot} ${floor}`).toBeNull()
        // and the floor is raised by a minute at most, or to what the laptop's or the robot's clock says
        expect(counter - floor <= AHEAD_OF_FLOOR_MS || counter <= robot + AHEAD_OF_CLOCK_MS).toBe(true)
      }
    }
  }
})

test('BUNDLE 19.1, 19.4: the program of a card is for a robot of any name, and not ahead of a clock that is not set', () => {
  const release = releaseOf({ recipients: [FIRST_START], counter: NOW + YEAR_MS })
  const facts = factsOf({ robot: OTHER })
  const decided = (known: RobotFacts) => decide(release, DIGEST, manifestOf(), known)?.code ?? null
  expect(decided(facts)).toBe('wrong-robot')
  expect(decided(atFirstStart(facts, release))).toBe('ahead-of-clock')
  expect(decided(atFirstStart({ ...facts, clockSynced: false }, release))).toBe(null)
})

test('BUNDLE 19.4: a counter that leaves none for later releases is refused, also without a clock', () => {
  const decided = (counter: number) => {
    const release = releaseOf({ recipients: [FIRST_START], counter })
    return decide(release, DIGEST, manifestOf(), atFirstStart(factsOf({ clockSynced: false }), release))?.code ?? null
  }
  expect(decided(Number.MAX_SAFE_INTEGER)).toBe('ahead-of-clock')
  expect(decided(8.64e15)).toBe(null)
})
