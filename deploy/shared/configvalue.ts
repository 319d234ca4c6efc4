/**
 * Seals and opens config values, which a robot keeps for its programs. Invariant: only the body of the robot can read a sealed
 * value, and nobody who forwards it (BUNDLE 13; test/deploy/shared/configvalue.test.ts, test/e2e/config.test.ts).
 */
import type { SignedConfigKey } from './api.ts'
import { LIMITS } from './bundle/limits.ts'
import { openSealed, parseRecipient, seal } from './bundle/seal.ts'
import { fingerprint, toBase64, verifyBase64 } from './bundle/sshsig.ts'
import { encodeJson, readJson } from './bundle/strict.ts'
import { Refusal } from './errors.ts'
import type { Signer } from './keys.ts'

const FORMAT = 'medulla-config-key/1'
const NAMESPACE = 'config@medulla'
/** Values are padded to a multiple of this, in bytes, so that the sealed length says little about the length of the value. */
const STEP = 256

/** Signs the robot's config key (BUNDLE 13.2). `recipient` is `age1…`, `signer` the robot's identity. */
export async function signConfigKey(recipient: string, signer: Signer): Promise<SignedConfigKey> {
  const bytes = encodeJson({ format: FORMAT, robot: signer.fingerprint, age: recipient })
  return { key: Buffer.from(bytes).toString(), sig: toBase64(await signer.sign(NAMESPACE, bytes)) }
}

/** The age recipient of a config key that is signed by the robot with this id. Throws Refusal `bad-signature`. */
export function configRecipient({ key, sig }: SignedConfigKey, robot: string): string {
  const bytes = Buffer.from(key)
  if (bytes.length > LIMITS.certificate) throw new Refusal('too-large', 'config key: too long')
  // unsigned, a forwarder could replace it with his own key and read the values (BUNDLE 13.2)
  const { publicKey } = verifyBase64(sig, NAMESPACE, bytes)
  const read = readJson(bytes, 'config key', FORMAT, LIMITS.certificate, 'bad-signature')
  read.keys(['format', 'robot', 'age'])
  const named = read.text('robot', /^SHA256:/, 50)
  const signed = fingerprint(publicKey)
  if (signed !== robot || named !== robot) {
    throw new Refusal('bad-signature', `config key: expected one signed by ${robot}, got one signed by ${signed}`)
  }
  const recipient = read.text('age', /^age1/, 62)
  parseRecipient(recipient)
  return recipient
}

/** Checks the form of a value (BUNDLE 13.1). Throws Refusal `usage`, whose message does not contain the value. */
export function checkConfigValue(value: string): void {
  const length = Buffer.byteLength(value)
  if (length === 0) throw new Refusal('usage', 'the value is empty')
  if (length > LIMITS.configValue) {
    throw new Refusal('usage', `the value has ${length} bytes, at most ${LIMITS.configValue} are allowed`)
  }
  if (value.includes('\0')) throw new Refusal('usage', 'the value contains a NUL byte')
  if (Buffer.from(value).toString() !== value) throw new Refusal('usage', 'the value is not Unicode text')
}

/** Pads and seals a value; the result is base64, for the order (BUNDLE 13.3). */
export async function sealConfigValue(value: string, recipient: string): Promise<string> {
  checkConfigValue(value)
  const bytes = Buffer.from(value)
  const padded = Buffer.alloc(Math.ceil(bytes.length / STEP) * STEP)
  bytes.copy(padded)
  return Buffer.from(await seal(padded, [recipient])).toString('base64')
}

/** Opens a value on the robot. Throws Refusal: `stale-order` for a value that is sealed to another key than this body's. */
export async function openConfigValue(sealed: string, identity: string): Promise<string> {
  const bytes = Buffer.from(sealed, 'base64')
  if (bytes.toString('base64') !== sealed) throw new Refusal('usage', 'config value: not in base64')
  const padded = await openSealed(bytes, identity).catch((error: unknown) => {
    if (!(error instanceof Refusal)) throw error
    if (error.code === 'wrong-robot') {
      throw new Refusal(
        'stale-order',
        'the value is sealed to another key than the robot has now',
        'set the value again',
      )
    }
    throw new Refusal(error.code, error.message.replace(/^bundle: /, 'config value: '))
  })
  return unpadded(padded)
}

/** Removes the padding, and refuses any but the one of BUNDLE 13.3. */
function unpadded(bytes: Uint8Array): string {
  const end = bytes.indexOf(0)
  const length = end < 0 ? bytes.length : end
  const padding = bytes.subarray(length)
  if (bytes.length % STEP !== 0 || padding.length >= STEP || padding.some((byte) => byte !== 0)) {
    throw new Refusal('usage', 'config value: the padding is wrong')
  }
  let value: string
  try {
    value = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes.subarray(0, length))
  } catch {
    throw new Refusal('usage', 'the value is not UTF-8 text')
  }
  checkConfigValue(value)
  return value
}
