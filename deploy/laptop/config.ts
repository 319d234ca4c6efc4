/**
 * The files of the laptop, all in one config folder. Each file is replaced atomically; files with secrets have mode 0600.
 *
 * robots.json (names, addresses and cards), config.json (settings), id_ed25519 (made by `keygen`), operators/ (the Noise
 * key and card of each signing key that was used), psk/ (the pre-shared keys of robots that have one), sim/ (homes of simulated robots).
 */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { homedir, userInfo } from 'node:os'
import { isAbsolute, join, resolve } from 'node:path'
import type { SignedCertificate } from '../shared/cert.ts'
import { Refusal } from '../shared/errors.ts'
import type { Signer } from '../shared/keys.ts'
import { NAME_PATTERN } from '../shared/names.ts'

/** A pre-shared key as `openssl rand -hex 32` prints it. */
export const PSK_TEXT = /^[0-9a-f]{64}$/

export type Env = Readonly<Record<string, string | undefined>>

export interface KnownRobot {
  /** `host:port` */
  address: string
  card: SignedCertificate
  /**
   * Head of the receipt log at the last `receipts --verify`; `at` is the time of that (ISO; absent in files of earlier
   * versions).
   */
  seen?: { seq: number; digest: string; at?: string }
}
export interface Robots {
  robots: Record<string, KnownRobot>
  default?: string
}
export interface Settings {
  /** The key that signs; relative to the config folder. */
  key?: string
}
/** The operator's card and Noise key, which a session needs. The signing key stays in its own file. */
export interface Operator {
  noiseSecret: Uint8Array
  card: SignedCertificate
  cardFile: string
}

export function configDir(env: Env = process.env): string {
  if (env.MEDULLA_CONFIG) return resolve(env.MEDULLA_CONFIG)
  if (env.XDG_CONFIG_HOME && isAbsolute(env.XDG_CONFIG_HOME)) return join(env.XDG_CONFIG_HOME, 'medulla')
  return join(home(env), '.config', 'medulla')
}

function home(env: Env): string {
  return env.HOME || homedir()
}

export function readRobots(dir: string): Robots {
  const path = join(dir, 'robots.json')
  const value = readJsonFile(path)
  if (value === undefined) return { robots: byName({}) }
  const robots = (value as Partial<Robots>).robots
  if (typeof robots !== 'object' || robots === null) throw malformed(path, 'expected {"robots": {…}}')
  for (const [name, robot] of Object.entries(robots)) {
    const card = robot?.card
    if (!NAME_PATTERN.test(name)) throw malformed(path, `${JSON.stringify(name)} is no name for a robot`)
    if (typeof robot.address !== 'string' || typeof card?.cert !== 'string' || typeof card.sig !== 'string') {
      throw malformed(path, `${name} needs an address and a card`)
    }
  }
  return { ...(value as Robots), robots: byName(robots) }
}

/** Without a prototype: `constructor` is a name that a robot may have. */
const byName = (robots: Robots['robots']): Robots['robots'] => Object.assign(Object.create(null), robots)

export async function writeRobots(dir: string, robots: Robots): Promise<void> {
  await writeJson(join(dir, 'robots.json'), robots)
}

export function readSettings(dir: string): Settings {
  return (readJsonFile(join(dir, 'config.json')) ?? {}) as Settings
}

export async function writeSettings(dir: string, settings: Settings): Promise<void> {
  await writeJson(join(dir, 'config.json'), settings)
}

/**
 * Path of the key that signs: --key, then `key` of config.json, then ~/.ssh/id_ed25519, then the key of `keygen`. Throws
 * `no-key`.
 */
export function keyPath(dir: string, flag: string | undefined, env: Env = process.env): string {
  if (flag !== undefined) return resolve(flag)
  const { key } = readSettings(dir)
  if (key !== undefined) return resolve(dir, key)
  const usual = [join(home(env), '.ssh', 'id_ed25519'), join(dir, 'id_ed25519')]
  const found = usual.find((path) => existsSync(path))
  if (found !== undefined) return found
  throw new Refusal('no-key', 'no key to sign with: there is no ~/.ssh/id_ed25519', 'medulla keygen')
}

/** The card and Noise key of the signing key at `path`; they are made and signed at the first use. */
export async function operator(dir: string, path: string): Promise<Operator> {
  const publicKey = await publicKeyOf(path)
  const folder = join(dir, 'operators', createHash('sha256').update(publicKey).digest('hex').slice(0, 16))
  const cardFile = join(folder, 'card.json')
  const noiseFile = join(folder, 'noise.key')
  const card = readJsonFile(cardFile) as SignedCertificate | undefined
  if (card === undefined || !existsSync(noiseFile)) return makeOperator(path, noiseFile, cardFile)
  return { noiseSecret: decodeNoise(readSecret(noiseFile), noiseFile), card, cardFile }
}

function pskFile(dir: string, robot: string): string {
  return join(dir, 'psk', `${robot}.key`)
}

/** The pre-shared key of a robot (CHANNEL 3.10), or undefined. A key that is there and cannot be used is refused. */
export function readPsk(dir: string, robot: string): Uint8Array | undefined {
  const path = pskFile(dir, robot)
  let text: string
  try {
    text = readSecret(path).toString('latin1').trim()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  if (!PSK_TEXT.test(text)) throw malformed(path, 'expected 64 hex digits')
  return new Uint8Array(Buffer.from(text, 'hex'))
}

/** null removes the key. Returns whether there was one before. */
export async function writePsk(dir: string, robot: string, text: string | null): Promise<boolean> {
  const path = pskFile(dir, robot)
  const before = existsSync(path)
  if (text === null) await rm(path, { force: true })
  else await writeSecret(path, `${text}\n`)
  return before
}

async function makeOperator(path: string, noiseFile: string, cardFile: string): Promise<Operator> {
  const { ensureSecretFile, generateNoiseKey, loadSigner, noisePublic } = await import('../shared/keys.ts')
  const { issueCertificate } = await import('../shared/cert.ts')
  const made = await ensureSecretFile(noiseFile, () => `${Buffer.from(generateNoiseKey().secret).toString('base64')}\n`)
  const noiseSecret = decodeNoise(made, noiseFile)
  const signer = await loadSigner(path)
  const card = await issueCertificate(
    {
      format: 'medulla-cert/1',
      subject: 'operator',
      name: userName(),
      key: signer.publicKey,
      noise: Buffer.from(noisePublic(noiseSecret)).toString('base64'),
      created: new Date().toISOString(),
    },
    signer,
  )
  await writeJson(cardFile, card)
  return { noiseSecret, card, cardFile }
}

export async function signer(path: string): Promise<Signer> {
  const { loadSigner } = await import('../shared/keys.ts')
  return loadSigner(path)
}

/** The public key of a key file. A .pub file beside it needs no passphrase and no parsing of a secret, so it is read first. */
export async function publicKeyOf(path: string): Promise<string> {
  const pub = path.endsWith('.pub') ? path : `${path}.pub`
  const text = await readFile(pub, 'utf8').catch(() => undefined)
  const words = text?.trim().split(/\s+/) ?? []
  if (/^(sk-)?ssh-ed25519(@openssh\.com)?$/.test(words[0] ?? '') && words[1] !== undefined)
    return `${words[0]} ${words[1]}`
  return (await signer(path)).publicKey
}

/** Checks the mode of a secret file (BUNDLE 2.5). Repeated here because loading shared/keys.ts would delay every push. */
function readSecret(path: string): Buffer {
  const { mode } = statSync(path)
  if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
    const octal = (mode & 0o777).toString(8).padStart(4, '0')
    throw new Refusal('no-key', `${path} is open to others (mode ${octal}), expected 0600`, `chmod 600 ${path}`)
  }
  return readFileSync(path)
}

function decodeNoise(bytes: Buffer, path: string): Uint8Array {
  const secret = Buffer.from(bytes.toString('latin1').trim(), 'base64')
  if (secret.length !== 32) throw malformed(path, 'expected 32 bytes in base64')
  return new Uint8Array(secret)
}

function userName(): string {
  let name = ''
  try {
    name = userInfo()
      .username.toLowerCase()
      .replace(/[^a-z0-9._-]/g, '-')
      .replace(/^[^a-z0-9]+/, '')
      .slice(0, 64)
  } catch {
    // the user id has no name
  }
  return NAME_PATTERN.test(name) ? name : 'operator'
}

export function readJsonFile(path: string): unknown {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new Refusal('usage', `cannot read ${path}: ${(cause as NodeJS.ErrnoException).code}`, undefined, { cause })
  }
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null) return value
  } catch {
    // not JSON: refused below
  }
  throw malformed(path, 'expected a JSON object')
}

export async function writeJson(path: string, value: object): Promise<void> {
  await writeSecret(path, `${JSON.stringify(value, null, 2)}\n`)
}

async function writeSecret(path: string, text: string): Promise<void> {
  await mkdir(join(path, '..'), { recursive: true, mode: 0o700 })
  const beside = `${path}.${process.pid}.new`
  await writeFile(beside, text, { mode: 0o600 })
  await rename(beside, path)
}

function malformed(path: string, why: string): Refusal {
  return new Refusal('usage', `${path} is damaged: ${why}`, 'repair the file, or move it away and start again')
}
