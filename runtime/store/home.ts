/**
 * A robot's home. Invariant: it is used by one live runtime at a time, only its owner can read its secrets, and its identity
 * never changes (test/runtime/store/home.test.ts).
 *
 * The first start makes the folders of secrets, each whole (under a temporary name), then the certificate; after a kill in
 * between, the next start completes the home.
 */
import { constants } from 'node:fs'
import { chmod, lstat, mkdir, open, readdir, readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Certificate, SignedCertificate } from '../../deploy/shared/cert.ts'
import { issueCertificate, verifyCertificate } from '../../deploy/shared/cert.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import type { Signer } from '../../deploy/shared/keys.ts'
import {
  generateAgeIdentity,
  generateKey,
  generateNoiseKey,
  loadSigner,
  noisePublic,
} from '../../deploy/shared/keys.ts'
import { NAME_PATTERN } from '../../deploy/shared/names.ts'
import { makeDirAtomic, recoverDir, syncDir, writeAtomic, writeNew } from './atomic.ts'
import { takeLock } from './lock.ts'
import { isMissing } from './record.ts'
import { finishRotation, retiredIdentities, rotateKeys } from './rotation.ts'

export interface Home {
  readonly dir: string
  /** Fingerprint of the identity key, which identifies the robot. */
  readonly id: string
  readonly name: string
  /** The robot's certificate, which operators' laptops record; another one after {@link Home.rotate}. */
  readonly card: SignedCertificate
  /** Signs with the identity key. */
  readonly signer: Signer
  /** Makes new Noise and age keys. `releases`: digests of the releases in the store. Returns the new certificate. */
  rotate(releases: readonly string[]): Promise<SignedCertificate>
  /** Releases the lock of the home. Idempotent. */
  close(): Promise<void>
}

const FOLDERS = ['operators', 'store', 'slots'] as const
const LAYOUT: ReadonlySet<string> = new Set([...FOLDERS, 'identity', 'endpoint', 'lock', 'runtimes', 'board.json'])
const IDENTITY = join('identity', 'id_ed25519')
/** A person puts this file there; a home without it has no pre-shared key. */
const PSK = join('endpoint', 'psk.key')
const NOISE = join('endpoint', 'noise.key')
const AGE = join('endpoint', 'age.key')

/**
 * Opens a robot's home, or makes it. `name` names a new robot, and renames an old one (same keys, new certificate). Throws
 * Refusal `in-progress` (another runtime uses the home; its pid is named), `no-key` (a secret is missing, or others can read
 * it), `robot-mismatch` (certificate and keys do not belong together).
 */
export async function openHome(
  dir: string,
  opts: { name?: string; now?: () => Date; inherited?: boolean } = {},
): Promise<Home> {
  const home = resolve(dir)
  if (opts.name !== undefined && !NAME_PATTERN.test(opts.name)) {
    throw new Refusal(
      'usage',
      `robot name '${opts.name}' does not match ${NAME_PATTERN.source}`,
      'medulla sim --name my-robot',
    )
  }
  await mkdir(home, { recursive: true, mode: 0o700 })
  const lock = await takeLock(join(home, 'lock'), `the robot home ${home}`, opts.inherited)
  try {
    return await openLocked(home, opts.name, opts.now ?? (() => new Date()), lock.release)
  } catch (error) {
    await lock.release()
    throw error
  }
}

async function openLocked(
  dir: string,
  name: string | undefined,
  now: () => Date,
  close: () => Promise<void>,
): Promise<Home> {
  await recoverDir(dir)
  const before = await readCard(dir)
  // A new home in a folder that a person made is closed to others. An old one is refused instead: others may have changed it.
  if (before === null && (await readdir(dir)).every((name) => LAYOUT.has(name))) await chmod(dir, 0o700)
  await assertOwn(dir, 0o022)
  for (const folder of FOLDERS) await mkdir(join(dir, folder), { recursive: true, mode: 0o700 })
  for (const [file, empty] of [
    ['allowed_signers', ''],
    ['roles.json', '{}\n'],
  ] as const) {
    await writeNew(join(dir, 'operators', file), empty, 0o644).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    })
  }
  await makeSecrets(dir, name ?? 'robot', before !== null)
  await finishRotation(dir, before)
  if (before === null) await syncDir(dir)

  // Secrets that group or others may read are refused (BUNDLE 2.5).
  for (const secret of [IDENTITY, NOISE, AGE]) await assertOwn(join(dir, secret), 0o077)
  const signer = await loadSigner(join(dir, IDENTITY))
  const noise = Buffer.from(noisePublic(await readNoise(join(dir, NOISE)))).toString('base64')
  let card = before
  let cert = card === null ? null : verifyCertificate(card)
  if (cert !== null && (cert.subject !== 'robot' || cert.id !== signer.fingerprint || cert.noise !== noise)) {
    throw new Refusal('robot-mismatch', `${join(dir, 'robot.json')} is not the certificate of the keys in ${dir}`)
  }
  if (cert === null || card === null || (name !== undefined && name !== cert.name)) {
    const age = cert?.age ?? (await recipientOf(join(dir, AGE)))
    const fields: Certificate = {
      format: 'medulla-cert/1',
      subject: 'robot',
      name: name ?? cert?.name ?? 'robot',
      key: signer.publicKey,
      noise,
      age,
      created: cert?.created ?? now().toISOString(),
    }
    card = await issueCertificate(fields, signer)
    cert = verifyCertificate(card)
    await writeAtomic(join(dir, 'robot.json'), `${JSON.stringify(card)}\n`, 0o644)
  }
  let present = card
  return {
    ...{ dir, id: signer.fingerprint, name: cert.name, signer, close },
    get card() {
      return present
    },
    async rotate(releases) {
      present = await rotateKeys({ dir, signer, card: present, releases, now: now() })
      return present
    },
  }
}

async function readCard(dir: string): Promise<SignedCertificate | null> {
  let text: string
  try {
    text = await readFile(join(dir, 'robot.json'), 'utf8')
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
  try {
    const { cert, sig } = JSON.parse(text) as SignedCertificate
    if (typeof cert === 'string' && typeof sig === 'string') return { cert, sig }
  } catch {}
  throw new Refusal('robot-mismatch', `${join(dir, 'robot.json')} is not a certificate`, 'put it back from a backup')
}

/** `known`: the robot has a certificate, so missing keys are refused: new ones would make it another robot. */
async function makeSecrets(dir: string, name: string, known: boolean): Promise<void> {
  const folders: Record<string, (temp: string) => Promise<void>> = {
    identity: async (temp) => {
      await generateKey(join(temp, 'id_ed25519'), name)
    },
    endpoint: async (temp) => {
      await writeNew(join(temp, 'noise.key'), `${Buffer.from(generateNoiseKey().secret).toString('hex')}\n`)
      await writeNew(join(temp, 'age.key'), `${(await generateAgeIdentity()).identity.trim()}\n`)
    },
  }
  for (const [folder, fill] of Object.entries(folders)) {
    const path = join(dir, folder)
    if (await exists(path)) continue
    if (known)
      throw new Refusal(
        'no-key',
        `${path} is missing, and other machines know this robot by it`,
        'put it back from a backup',
      )
    await makeDirAtomic(path, fill)
  }
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    (error) => {
      if (isMissing(error)) return false
      throw error
    },
  )
}

/** The endpoint's secrets, which the body sends to it (HANDOVER 8.15). */
export interface EndpointKeys {
  /** 64 hex digits. */
  noise: string
  age: string
  /** Age keys of earlier certificates that a stored release still needs (HANDOVER 19.8). */
  retired?: string[]
  /** The pre-shared key of the channel (CHANNEL 3.10), 64 hex digits. */
  psk?: string
}

/** Called at each start of the endpoint. Throws Refusal `no-key`, whose text holds no part of a key. */
export async function readEndpointKeys({ dir }: Pick<Home, 'dir'>): Promise<EndpointKeys> {
  const psk = join(dir, PSK)
  const retired = await retiredIdentities(dir)
  return {
    noise: await readSecret(join(dir, NOISE), /^[0-9a-f]{64}$/),
    age: await readSecret(join(dir, AGE), /^AGE-SECRET-KEY-1[0-9A-Z]{50,80}$/),
    ...(retired.length > 0 && { retired }),
    // a key that is there and cannot be used is refused: the robot never goes on without it (CHANNEL 3.11)
    ...((await exists(psk)) && { psk: await readSecret(psk, /^[0-9a-f]{64}$/) }),
  }
}

/** One line of a file that only its owner may read; a symbolic link is not followed. */
async function readSecret(path: string, shape: RegExp): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW).catch((cause: NodeJS.ErrnoException) => {
    throw new Refusal('no-key', `${path} cannot be read: ${cause.code}`, 'put it back from a backup', { cause })
  })
  try {
    const { mode } = await file.stat()
    if (mode & 0o077) {
      const found = (mode & 0o777).toString(8)
      throw new Refusal('no-key', `${path} has mode ${found}, expected 600`, `chmod 600 ${path}`)
    }
    const lines = (await file.readFile('utf8')).split('\n').map((line) => line.trim())
    const secret = lines.find((line) => line !== '' && !line.startsWith('#'))
    if (!secret || !shape.test(secret)) throw new Refusal('no-key', `${path}: expected one line of a key`)
    return secret
  } finally {
    await file.close()
  }
}

async function readNoise(path: string): Promise<Uint8Array> {
  const text = (await readFile(path, 'utf8')).trim()
  if (!/^[0-9a-f]{64}$/.test(text)) throw new Refusal('no-key', `${path} does not hold 64 hex digits`)
  return Uint8Array.from(Buffer.from(text, 'hex'))
}

async function recipientOf(path: string): Promise<string> {
  // Loaded here, because only the first start needs it.
  const { identityToRecipient } = await import('age-encryption')
  return identityToRecipient((await readFile(path, 'utf8')).trim())
}

/** Refuses a secret (or the home) that another user owns or may access, and anything but a regular file or a folder. */
async function assertOwn(path: string, forbidden: number): Promise<void> {
  const stat = await lstat(path).catch((cause) => {
    throw new Refusal('no-key', `${path} is missing`, 'put it back from a backup', { cause })
  })
  const mode = stat.mode & 0o777
  if (!stat.isFile() && !stat.isDirectory()) throw new Refusal('no-key', `${path} is neither a plain file nor a folder`)
  if ((mode & forbidden) !== 0) {
    const want = stat.isDirectory() ? '700' : '600'
    throw new Refusal('no-key', `${path} has mode ${mode.toString(8)}, expected ${want}`, `chmod ${want} ${path}`)
  }
  if (stat.uid !== process.getuid?.()) {
    throw new Refusal('no-key', `${path} is owned by uid ${stat.uid}, expected ${process.getuid?.()}`)
  }
}
