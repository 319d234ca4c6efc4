/**
 * New Noise and age keys for a robot. Invariant: after a kill at any point, certificate and keys belong together, and the age key
 * of every certificate that was given out is kept while a stored release was installed under it
 * (HANDOVER 19.7, 19.8; test/runtime/store/rotation.test.ts).
 *
 * The new keys are written beside the old ones. The replacement of robot.json is the moment of the change; then the new keys are
 * renamed, the age key last.
 */
import { lstat, open, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import * as z from 'zod'
import { issueCertificate, type SignedCertificate, verifyCertificate } from '../../deploy/shared/cert.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { generateAgeIdentity, generateNoiseKey, type Signer } from '../../deploy/shared/keys.ts'
import { syncDir, writeAtomic, writeNew } from './atomic.ts'
import { isMissing } from './record.ts'

/** Retired age keys that are kept; one more removes the oldest. */
export const MAX_RETIRED = 8

const NEXT = '.next'
const IDENTITY = /^AGE-SECRET-KEY-1[0-9A-Z]{50,80}$/

const Retired = z.strictObject({
  format: z.literal('medulla-retired/1'),
  keys: z
    .array(
      z.strictObject({
        identity: z.string().regex(IDENTITY),
        /** The releases that the robot kept when the key was retired, `sha256:…`. */
        releases: z.array(z.string().regex(/^sha256:[0-9a-f]{64}$/)),
      }),
    )
    .max(MAX_RETIRED),
})
type RetiredKey = z.infer<typeof Retired>['keys'][number]

const places = (dir: string) => {
  const [noise, age, retired] = ['noise.key', 'age.key', 'retired.json'].map((name) => join(dir, 'endpoint', name))
  return { noise, age, retired, card: join(dir, 'robot.json') } as Record<'noise' | 'age' | 'retired' | 'card', string>
}

export interface RotationParts {
  readonly dir: string
  /** The robot's identity, which signs the new certificate. */
  readonly signer: Signer
  readonly card: SignedCertificate
  /** Digests of the releases in the store. */
  readonly releases: readonly string[]
  readonly now: Date
}

/** Returns the new certificate. */
export async function rotateKeys({ dir, signer, card, releases, now }: RotationParts): Promise<SignedCertificate> {
  const { id: _, ...before } = verifyCertificate(card)
  const at = places(dir)
  const noise = generateNoiseKey()
  const { identity, recipient } = await generateAgeIdentity()
  const present = (await readFile(at.age, 'utf8')).trim()
  const others = (await readRetired(dir)).filter((key) => key.identity !== present)
  await writeRetired(dir, [...others, ...(releases.length > 0 ? [{ identity: present, releases: [...releases] }] : [])])
  for (const path of [at.noise, at.age]) await rm(path + NEXT, { force: true })
  await writeNew(at.noise + NEXT, `${Buffer.from(noise.secret).toString('hex')}\n`)
  await writeNew(at.age + NEXT, `${identity.trim()}\n`)
  await syncDir(join(dir, 'endpoint'))
  const next = await issueCertificate(
    {
      ...before,
      noise: Buffer.from(noise.public).toString('base64'),
      age: recipient,
      // later than the last one also where the clock is wrong: laptops take the newer certificate (BUNDLE 3.4)
      created: new Date(Math.max(now.getTime(), Date.parse(before.created) + 1)).toISOString(),
    },
    signer,
  )
  await writeAtomic(at.card, `${JSON.stringify(next)}\n`, 0o644)
  await takeOver(dir)
  return next
}

/** Completes a rotation that was cut short, or takes it back. `card` is the robot's certificate; null: there is none yet. */
export async function finishRotation(dir: string, card: SignedCertificate | null): Promise<void> {
  const at = places(dir)
  const begun = await exists(at.age + NEXT)
  if (!begun && !(await exists(at.noise + NEXT))) return
  if (begun && card !== null && verifyCertificate(card).age === (await recipientIn(at.age + NEXT))) return takeOver(dir)
  for (const path of [at.noise, at.age]) await rm(path + NEXT, { force: true })
}

/** Removes retired keys under which none of these releases was installed. Returns how many were removed. */
export async function forgetRetired(dir: string, releases: ReadonlySet<string>): Promise<number> {
  const keys = await readRetired(dir)
  const kept = keys.filter((key) => key.releases.some((digest) => releases.has(digest)))
  if (kept.length < keys.length) await writeRetired(dir, kept)
  return keys.length - kept.length
}

/** Age identities that open bundles which were sealed before a rotation, newest first. Throws Refusal `no-key`. */
export async function retiredIdentities(dir: string): Promise<string[]> {
  return (await readRetired(dir)).map(({ identity }) => identity).reverse()
}

async function takeOver(dir: string): Promise<void> {
  const at = places(dir)
  for (const path of [at.noise, at.age]) {
    await rename(path + NEXT, path).catch((error) => {
      if (!isMissing(error)) throw error
    })
  }
  await syncDir(join(dir, 'endpoint'))
}

async function recipientIn(path: string): Promise<string> {
  // Loaded here, because only a rotation that was cut short needs it.
  const { identityToRecipient } = await import('age-encryption')
  try {
    return await identityToRecipient((await readFile(path, 'utf8')).trim())
  } catch {
    return '' // a file that was cut short is no key of the certificate
  }
}

async function readRetired(dir: string): Promise<RetiredKey[]> {
  const { retired: path } = places(dir)
  let text: string
  try {
    const file = await open(path, 'r')
    try {
      const { mode } = await file.stat()
      if (mode & 0o077) throw new Refusal('no-key', `${path} is open to others`, `chmod 600 ${path}`)
      text = await file.readFile('utf8')
    } finally {
      await file.close()
    }
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
  try {
    return Retired.parse(JSON.parse(text)).keys
  } catch {
    // without the cause, whose message could hold a part of a key
    throw new Refusal('no-key', `${path} is damaged`, `without it, old bundle files are not opened: rm ${path}`)
  }
}

async function writeRetired(dir: string, keys: readonly RetiredKey[]): Promise<void> {
  const { retired: path } = places(dir)
  if (keys.length === 0) return rm(path, { force: true })
  await writeAtomic(path, `${JSON.stringify({ format: 'medulla-retired/1', keys: keys.slice(-MAX_RETIRED) })}\n`, 0o600)
}

function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    (error) => {
      if (isMissing(error)) return false
      throw error
    },
  )
}
