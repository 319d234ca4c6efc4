import { execFileSync } from 'node:child_process'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { Refusal } from '../../../deploy/shared/errors.ts'
import { generateKey, type Signer } from '../../../deploy/shared/keys.ts'
import { Bundles } from '../../../runtime/store/bundles.ts'
import { BundleVerifier, type VerifierOptions } from '../../../runtime/store/verifier.ts'
import { tempFolder } from '../../fixtures/tools.ts'
import { compile, META, makeInner } from './bed.ts'

interface Bench {
  dir: string
  verifier: BundleVerifier
  signer: Signer
  stage(bytes: Uint8Array): Promise<{ stagedFile: string; length: number; signers: string[] }>
}

async function bench(opts: VerifierOptions = {}, source = '../../../runtime/store/verifierworker.ts'): Promise<Bench> {
  const dir = tempFolder()
  const verifier = new BundleVerifier({ worker: pathToFileURL(await compile(source, dir)), ...opts })
  onTestFinished(() => verifier.close())
  const signer = await generateKey(join(dir, 'key'), 'me')
  let count = 0
  const stage = async (bytes: Uint8Array): ReturnType<Bench['stage']> => {
    const stagedFile = join(dir, `${count++}.tar`)
    await writeFile(stagedFile, bytes)
    return { stagedFile, length: bytes.length, signers: [signer.publicKey] }
  }
  return { dir, verifier, signer, stage }
}

test('HANDOVER 8.2: a signed bundle comes through with its exact bytes, and what was staged is not read again', async () => {
  const { dir, verifier, signer, stage } = await bench()
  const { inner, release } = await makeInner(signer, { code: `// ${'é'.repeat(2000)}\n` })
  const job = await stage(inner)
  const verified = await verifier.verify(job)
  expect(verified.release).toEqual(release)
  expect(verified.signer).toBe(signer.fingerprint)
  expect(verified.manifest.params).toEqual({ kp: { value: 1.25 } })
  expect([...verified.files.keys()].sort()).toEqual(['buildinfo.json', 'manifest.json', 'program.mjs'])
  // whoever owns the staging folder exchanges the file after the check
  await writeFile(job.stagedFile, 'something else')
  const bundles = await Bundles.open(join(dir, 'store'), verifier)
  await bundles.put(verified, META)
  await bundles.extract(verified.digest, join(dir, 'instance'))
  expect(await readFile(join(dir, 'instance', 'program.mjs'), 'utf8')).toBe(`// ${'é'.repeat(2000)}\n`)
})

test('what is staged must be a regular file of exactly the length that was said', async () => {
  const { dir, verifier, signer, stage } = await bench({ maxBytes: 100_000 })
  const { inner } = await makeInner(signer)
  const job = await stage(inner)
  await expect(verifier.verify({ ...job, length: job.length + 1 })).rejects.toMatchObject({ code: 'truncated' })
  await expect(verifier.verify({ ...job, length: job.length - 1 })).rejects.toMatchObject({ code: 'too-large' })
  await expect(verifier.verify({ ...job, length: 100_001 })).rejects.toMatchObject({ code: 'too-large' })
  await symlink(job.stagedFile, join(dir, 'link'))
  await expect(verifier.verify({ ...job, stagedFile: join(dir, 'link') })).rejects.toMatchObject({ code: 'not-found' })
  await mkdir(join(dir, 'folder'))
  await expect(verifier.verify({ ...job, stagedFile: join(dir, 'folder') })).rejects.toMatchObject({
    code: 'bad-bundle',
  })
  // nobody writes to it: opening it must not wait
  execFileSync('mkfifo', [join(dir, 'fifo')])
  await expect(verifier.verify({ ...job, stagedFile: join(dir, 'fifo') })).rejects.toMatchObject({ code: 'bad-bundle' })
  await expect(verifier.verify({ ...job, stagedFile: join(dir, 'none') })).rejects.toMatchObject({ code: 'not-found' })
  expect((await verifier.verify(job)).signer).toBe(signer.fingerprint)
})

test('a bundle of somebody else, of other content than it says, or of another shape is refused', async () => {
  const { dir, verifier, signer, stage } = await bench()
  const { inner } = await makeInner(signer)
  const eve = await generateKey(join(dir, 'eve'), 'eve')
  const job = await stage(inner)
  await expect(verifier.verify({ ...job, signers: [eve.publicKey] })).rejects.toMatchObject({
    code: 'unknown-operator',
  })
  await expect(verifier.verify(await stage(new Uint8Array(2048)))).rejects.toMatchObject({ name: 'Refusal' })

  const refused = async (fields: Parameters<typeof makeInner>[1]): Promise<unknown> =>
    verifier.verify(await stage((await makeInner(signer, fields)).inner)).catch((error) => [error.code, error.message])
  expect(await refused({ manifest: { program: 'other' } })).toEqual([
    'bad-bundle',
    'the manifest is for program other, the release for blink',
  ])
  expect(await refused({ manifest: { version: '2.0.0' } })).toEqual([
    'bad-bundle',
    'the manifest is for version 2.0.0, the release for 1.0.0',
  ])
  expect(await refused({ files: [{ name: 'program.mjs', bytes: Buffer.from('1') }] })).toEqual([
    'bad-bundle',
    'the payload holds program.mjs, expected buildinfo.json, manifest.json, program.mjs',
  ])
  expect(await refused({ release: { kind: 'runtime' } })).toMatchObject(['wrong-slot', expect.anything()])
})

test('policy is asked after the signature and before unpacking, and its refusal ends the job', async () => {
  const { verifier, signer, stage } = await bench()
  // a signed payload whose content would be refused, had it been unpacked
  const { inner } = await makeInner(signer, { manifest: { program: 'other' }, counter: 7 })
  const job = await stage(inner)
  const asked: unknown[] = []
  const refusal = new Refusal('not-newer', 'counter 7 is not above the floor 7', 'build it again')
  const refused = verifier.verify(job, ({ release, signer: by }) => {
    asked.push(release.counter, by)
    return refusal
  })
  await expect(refused).rejects.toMatchObject({ code: 'not-newer', message: refusal.message, hint: 'build it again' })
  expect(asked).toEqual([7, signer.fingerprint])
  await expect(verifier.verify(job)).rejects.toMatchObject({ code: 'bad-bundle' })
  // a signer who is none is not asked about
  await expect(verifier.verify({ ...job, signers: [] }, () => refusal)).rejects.toMatchObject({
    code: 'unknown-operator',
  })
  const broken = verifier.verify(job, () => {
    throw new Error('a fault')
  })
  await expect(broken).rejects.toMatchObject({ code: 'internal' })
  expect((await verifier.verify(await stage((await makeInner(signer)).inner), () => null)).release.counter).toBe(1)
})

test('any changed byte of release, signature or payload is refused', async () => {
  const { verifier, signer, stage } = await bench()
  const { inner } = await makeInner(signer)
  const job = await stage(inner)
  const genuine = await verifier.verify(job)
  for (let at = 0; at < inner.length; at += 61) {
    const changed = Buffer.from(inner)
    changed[at] = (changed[at] ?? 0) ^ 4
    await expect(verifier.verify(await stage(changed)), `byte ${at}`).rejects.toMatchObject({ name: 'Refusal' })
  }
  expect((await verifier.verify(job)).digest).toBe(genuine.digest)
})

test('opening a large bundle leaves the event loop of the body free', async () => {
  const { verifier, signer, stage } = await bench()
  const noise = Buffer.allocUnsafe(6_000_000)
  for (let at = 0; at < noise.length; at += 4) noise.writeUInt32LE((Math.random() * 2 ** 32) >>> 0, at)
  const { inner } = await makeInner(signer, { code: `// ${noise.toString('base64')}\n` })
  const job = await stage(inner)
  await verifier.verify(job)
  const share = async () => {
    let worst = 0
    let last = performance.now()
    const look = () => {
      const now = performance.now()
      worst = Math.max(worst, now - last)
      last = now
    }
    const timer = setInterval(look, 1)
    const start = last
    await verifier.verify(job)
    look()
    clearInterval(timer)
    const took = performance.now() - start
    expect(took).toBeGreaterThan(20)
    return worst / took
  }
  // A job that blocks the loop does so each time. A busy machine stops this thread for so long now and then.
  let least = 1
  for (let round = 0; round < 20 && least >= 0.5; round++) least = Math.min(least, await share())
  expect(least).toBeLessThan(0.5)
})

test.each([
  ['throws', 'internal', 'failed'],
  ['exits', 'internal', 'ended with code 3'],
  ['eats memory', 'bad-bundle', 'more than 32 MB'],
  ['hangs', 'bad-bundle', 'longer than 3000 ms'],
])('a worker that %s is a refusal for its job, and the next job gets a new worker', async (fault, code, message) => {
  const { verifier, stage } = await bench(
    { deadlineMs: fault === 'hangs' ? 3000 : 30_000, maxHeapMb: 32 },
    './badworker.ts',
  )
  const job = await stage(new Uint8Array(1))
  const [bad, good] = await Promise.allSettled([
    verifier.verify({ ...job, stagedFile: fault }),
    verifier.verify({ ...job, stagedFile: 'fine' }),
  ])
  expect(bad).toMatchObject({ status: 'rejected', reason: { code, message: expect.stringContaining(message) } })
  expect(good).toMatchObject({ status: 'fulfilled' })
})

test('a worker that cannot start, and a verifier that was closed, refuse', async () => {
  const { dir, verifier, stage } = await bench()
  const job = await stage(new Uint8Array(1))
  const none = new BundleVerifier({ worker: pathToFileURL(join(dir, 'none.cjs')) })
  await expect(none.verify(job)).rejects.toMatchObject({ code: 'internal' })
  await none.close()
  const pending = verifier.verify(job)
  const refused = expect(pending).rejects.toMatchObject({ code: 'body-away' })
  await verifier.close()
  await refused
  await expect(verifier.verify(job)).rejects.toMatchObject({ code: 'body-away' })
})
