/**
 * Random faults in bundles, at each layer: in the sealed file, in the content sealed again, in the release and in the payload
 * signed again by an operator. Nothing but what the format allows may be accepted, and each case ends in a refusal.
 */
import { createHash } from 'node:crypto'
import { crc32, deflateRawSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { encodeInner } from '../../deploy/shared/bundle/inner.ts'
import { encodeManifest, parseManifest } from '../../deploy/shared/bundle/manifest.ts'
import { openInner } from '../../deploy/shared/bundle/open.ts'
import { gunzip, packPayload, unpackPayload } from '../../deploy/shared/bundle/payload.ts'
import { decide, highestCounter } from '../../deploy/shared/bundle/policy.ts'
import { encodeRelease, type Release } from '../../deploy/shared/bundle/release.ts'
import { checkHeader, openSealed, seal } from '../../deploy/shared/bundle/seal.ts'
import { writeTar } from '../../deploy/shared/bundle/tar.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { factsOf } from '../deploy/shared/bundle/policy.facts.ts'
import { bundleFor, filesOf, newRobot, newSigner } from '../fixtures/bundles.ts'
import { manifestOf } from '../fixtures/manifests.ts'
import { below, damage, damageJson, fuzz, junk, type Random } from './cases.ts'

/** Bytes of the opener's heap at most: what its worker thread gets (runtime/endpoint/opener.ts). */
const MAX_HEAP = 192 * 1024 * 1024

/** of the tests with random cases */
const KINDS = 5

const signer = newSigner()
const robot = await newRobot()
const operators = new Set([signer.publicKey])
const good = await bundleFor([robot], signer)
const goodInner = await openSealed(good.bytes, robot.identity)
const opened = await openInner(goodInner, operators)
const files = filesOf(manifestOf())
const facts = factsOf({ robot: robot.id, handles: { led: 'output', dial: 'pwm', enable: 'output', button: 'input' } })

/** All checks between the socket and the child process. Returns the bytes that were accepted, as they were read. */
async function push(bytes: Uint8Array) {
  if (checkHeader(bytes) !== 'ok') throw new Refusal('truncated', 'the header is not complete')
  const { release, releaseBytes, digest, payload } = await openInner(await openSealed(bytes, robot.identity), operators)
  const early = decide(release, digest, null, facts)
  if (early !== null) throw early
  const unpacked = await unpackPayload(payload, release)
  const manifest = parseManifest(unpacked.get('manifest.json') ?? new Uint8Array())
  const refusal = decide(release, digest, manifest, facts)
  if (refusal !== null) throw refusal
  return { release, releaseBytes, manifest, unpacked, payload }
}

/** The code of the refusal, or `accepted` if `isRight` finds that the format allows what was accepted. */
async function answer(bytes: Uint8Array, isRight: (got: Awaited<ReturnType<typeof push>>) => unknown): Promise<string> {
  const got = await push(bytes).catch((error: unknown) => {
    if (error instanceof Refusal) return error
    throw error
  })
  const { heapUsed } = process.memoryUsage()
  if (heapUsed > MAX_HEAP) throw new Error(`the heap has ${heapUsed} bytes`)
  if (got instanceof Refusal) return got.code
  if (!(await isRight(got))) throw new Error('accepted')
  return 'accepted'
}

const never = () => false

async function signed(releaseBytes: Uint8Array, payload: Uint8Array): Promise<Uint8Array> {
  const signature = await signer.sign('release@medulla', releaseBytes)
  return seal(await encodeInner({ release: releaseBytes, signature, payload }), [robot.age])
}

test('a good bundle passes the same checks', async () => {
  expect(await answer(good.bytes, () => true)).toBe('accepted')
})

test('P6, BUNDLE 8.4: a sealed bundle with random faults is refused', async () => {
  const answers = await fuzz('sealed', KINDS, (random) => answer(damage(random, good.bytes), never))
  expect(answers.has('accepted')).toBe(false)
})

test('BUNDLE 7.1: a content with random faults, sealed again, is refused', async () => {
  const answers = await fuzz('content', KINDS, async (random) => {
    const damaged = damageTar(random, goodInner)
    const bytes = random() < 0.8 ? wholeBlocks(damaged) : damaged
    return answer(await seal(bytes.equals(goodInner) ? junk(random, 100) : bytes, [robot.age]), never)
  })
  expect(answers.has('accepted')).toBe(false)
})

test('BUNDLE 6: a release with a random fault, signed again, is refused, or is one that the format allows', async () => {
  const text = Buffer.from(opened.releaseBytes).toString()
  const answers = await fuzz('release', KINDS, async (random) => {
    const bytes = Buffer.from(damageJson(random, text))
    return answer(await signed(bytes, opened.payload), ({ release }) => {
      const { kind, recipients, expires, counter } = release
      const isForUs = kind === 'program' && recipients.includes(robot.id)
      const isNewer = counter > facts.floor && counter <= highestCounter(facts)
      const isInTime = expires === null || Date.parse(expires) > facts.now
      return isForUs && isNewer && isInTime && Buffer.from(encodeRelease(release)).equals(bytes)
    })
  })
  expect(answers.size).toBeGreaterThan(1)
})

test('BUNDLE 4: a manifest with a random fault, signed again, is refused, or is one that the format allows', async () => {
  const manifest = files.find(({ name }) => name === 'manifest.json')?.bytes ?? new Uint8Array()
  const text = Buffer.from(manifest).toString()
  const answers = await fuzz('manifest', KINDS, async (random) => {
    const bytes = Buffer.from(damageJson(random, text))
    const changed = files.map((file) => (file.name === 'manifest.json' ? { ...file, bytes } : file))
    const packed = await packPayload(changed)
    return answer(await signed(releaseOf(packed), packed.bytes), (got) => {
      const { wire, needs } = got.manifest
      const has = Object.entries(needs).every(
        ([name, kind]) => (facts.handles as Record<string, string>)[name] === kind,
      )
      return wire === facts.wire && has && Buffer.from(encodeManifest(got.manifest)).equals(bytes)
    })
  })
  expect(answers.size).toBeGreaterThan(1)
})

test('BUNDLE 5.2, 5.3: a payload with random faults in tar or gzip, signed again, is refused', async () => {
  const tar = await writeTar(files)
  // the one tar of these files, however it is compressed
  const isOurTar = async ({ release, payload }: Awaited<ReturnType<typeof push>>) =>
    Buffer.from(await gunzip(payload, release.payload.unpacked)).equals(tar)
  await fuzz('payload', KINDS, async (random) => {
    const { bytes, unpacked } =
      random() < 0.5 ? gzipped(wholeBlocks(damageTar(random, tar))) : damagedStream(random, tar)
    // a release cannot say that nothing is packed or unpacked
    const length = bytes.length || 1
    const release = releaseOf({ sha256: sha256(bytes), length, unpacked: unpacked || 1, h1: good.h1 })
    return answer(await signed(release, bytes), isOurTar)
  })
})

function releaseOf({ sha256, length, unpacked, h1 }: Release['payload'] & { h1: string }): Uint8Array {
  return encodeRelease({ ...good.release, payload: { sha256, length, unpacked }, h1 })
}

/** Half of the cases get the checksum of the header that was damaged right again. */
function damageTar(random: Random, tar: Uint8Array): Buffer {
  const out = damage(random, tar)
  if (random() < 0.5 || out.length < 512) return out
  const header = out.subarray(512 * below(random, Math.floor(out.length / 512))).subarray(0, 512)
  header.fill(' ', 148, 156)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return out
}

/** Zeros up to the next border of a block, without which the rest of a tar would not be looked at. */
function wholeBlocks(tar: Buffer): Buffer {
  return Buffer.concat([tar, Buffer.alloc((512 - (tar.length % 512)) % 512)])
}

function gzipped(tar: Uint8Array) {
  const trailer = Buffer.alloc(8)
  trailer.writeUInt32LE(crc32(tar), 0)
  trailer.writeUInt32LE(tar.length, 4)
  const bytes = Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]), deflateRawSync(tar), trailer])
  return { bytes, unpacked: tar.length }
}

function damagedStream(random: Random, tar: Uint8Array) {
  const bytes = damage(random, gzipped(tar).bytes)
  return { bytes, unpacked: tar.length }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
