/**
 * Loads and makes keys. Secrets are in files that only their owner can read, and never in arguments of a process
 * (BUNDLE 2).
 */
import { createPrivateKey, createPublicKey, type KeyObject, randomBytes } from 'node:crypto'
import { chmod, link, mkdir, open, readFile, stat, unlink, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { decodePublicKey, fingerprint, signBlob } from './bundle/sshsig.ts'
import { Refusal } from './errors.ts'
import { makeSshKey, parseSshKey, signingKeyOf } from './sshkey.ts'
import { signWithSshKeygen } from './sshkeygen.ts'

export { fingerprint } from './bundle/sshsig.ts'

export interface Signer {
  /** `ssh-ed25519 AAAA…` or `sk-ssh-ed25519@openssh.com AAAA…`, no comment */
  publicKey: string
  /** `SHA256:…` */
  fingerprint: string
  /** ssh-keygen signs, with an agent, a token or after asking for a passphrase: a signature may need the person. */
  isExternal?: true
  /** Armored SSHSIG. */
  sign(namespace: string, message: Uint8Array): Promise<string>
}

const PKCS8_X25519 = Buffer.from('302e020100300506032b656e04220420', 'hex')
const SPKI_BYTES = 12
const MAX_KEY_FILE = 16 * 1024

/**
 * `path` is an OpenSSH ed25519 private key, or the `.pub` of one that an agent holds. A plain key signs in this process.
 * With an encrypted one, or one in a FIDO token, ssh-keygen signs: it takes the key from the agent or asks on the terminal. Throws `no-key` or
 * `passphrase`.
 */
export async function loadSigner(path: string): Promise<Signer> {
  const text = await readKeyFile(path)
  if (/^(ssh|sk-ssh|ecdsa)-/.test(text)) {
    const publicKey = publicKeyLine(text)
    return agentSigner(publicKey, path)
  }
  // a private key that others can read is refused (BUNDLE 2.5)
  await requirePrivate(path)
  const { publicKey, privateKey } = parseSshKey(text)
  if (privateKey) return keySigner(publicKey, privateKey)
  return agentSigner(publicKey, path)
}

/** The key in a line of a `.pub` or allowed_signers file, without its comment (BUNDLE 2.1). */
export function publicKeyLine(text: string): string {
  const line = text.trim().split(/\s+/).slice(0, 2).join(' ')
  decodePublicKey(line)
  return line
}

/** A signer with a key in memory. */
export function keySigner(publicKey: string, privateKey: KeyObject): Signer {
  return {
    publicKey,
    fingerprint: fingerprint(publicKey),
    sign: async (namespace, message) => signBlob(privateKey, publicKey, namespace, message),
  }
}

/** The signer whose private key is this seed of 32 bytes. */
export function seedSigner(seed: Uint8Array): Signer {
  const { publicKey, privateKey } = signingKeyOf(seed)
  return keySigner(publicKey, privateKey)
}

function agentSigner(publicKey: string, path: string): Signer {
  return {
    publicKey,
    fingerprint: fingerprint(publicKey),
    isExternal: true,
    sign: (namespace, message) => signWithSshKeygen(path, publicKey, namespace, message),
  }
}

/** Makes an OpenSSH key and its `.pub`; throws `no-key` if one of the two files exists. */
export async function generateKey(path: string, comment: string): Promise<Signer> {
  const { publicKey, file } = makeSshKey(comment)
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const taken = (cause: unknown) =>
    (cause as NodeJS.ErrnoException).code === 'EEXIST'
      ? new Refusal('no-key', `${path} or its .pub exists already`, 'use this key, or move it away first', {
          cause,
        })
      : cause
  await createSecret(path, file).catch((error: unknown) => {
    throw taken(error)
  })
  try {
    await writeFile(`${path}.pub`, `${publicKey} ${comment}\n`, { flag: 'wx', mode: 0o644 })
  } catch (error) {
    await unlink(path)
    throw taken(error)
  }
  return loadSigner(path)
}

export function generateNoiseKey(): { secret: Uint8Array; public: Uint8Array } {
  const secret = new Uint8Array(randomBytes(32))
  return { secret, public: noisePublic(secret) }
}

export function noisePublic(secret: Uint8Array): Uint8Array {
  const key = createPrivateKey({ key: Buffer.concat([PKCS8_X25519, secret]), format: 'der', type: 'pkcs8' })
  return new Uint8Array(createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(SPKI_BYTES))
}

export async function generateAgeIdentity(): Promise<{ identity: string; recipient: string }> {
  const { generateX25519Identity, identityToRecipient } = await import('age-encryption')
  const identity = await generateX25519Identity()
  return { identity, recipient: await identityToRecipient(identity) }
}

/** Reads a secret file, and makes it first if it does not exist. Two callers at the same time get the same content. */
export async function ensureSecretFile(
  path: string,
  make: () => string | Uint8Array | Promise<string | Uint8Array>,
): Promise<Buffer> {
  try {
    await requirePrivate(path)
    return await readFile(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  try {
    await createSecret(path, await make())
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    await requirePrivate(path)
  }
  return readFile(path)
}

/**
 * Writes a new file so that it is complete on disk, or absent: under another name first, then linked, which never replaces
 * a file (BUNDLE 2.5).
 */
async function createSecret(path: string, content: string | Uint8Array): Promise<void> {
  const beside = `${path}.${process.pid}-${Math.random().toString(36).slice(2)}.new`
  const file = await open(beside, 'wx', 0o600)
  try {
    await file.writeFile(content)
    await file.sync()
  } finally {
    await file.close()
  }
  try {
    await chmod(beside, 0o600)
    await link(beside, path)
  } finally {
    await unlink(beside)
  }
}

/** Refuses a secret file that others can read, as ssh does (BUNDLE 2.5). Windows has no such modes. */
async function requirePrivate(path: string): Promise<void> {
  const { mode } = await stat(path)
  if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
    const octal = (mode & 0o777).toString(8).padStart(4, '0')
    throw new Refusal('no-key', `${path} is open to others (mode ${octal}), expected 0600`, `chmod 600 ${path}`)
  }
}

async function readKeyFile(path: string): Promise<string> {
  try {
    const bytes = await readFile(path)
    if (bytes.length > MAX_KEY_FILE)
      throw new Refusal('no-key', `${path} is too large for a key: ${bytes.length} bytes`)
    return bytes.toString('latin1')
  } catch (cause) {
    if (cause instanceof Refusal) throw cause
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown error'
    throw new Refusal('no-key', `cannot read ${path}: ${code}`, 'make a key with: medulla keygen', { cause })
  }
}
