/**
 * Values that a robot keeps for its programs, on their way to it. Invariant: what is sealed here is read by the body of
 * that robot and by nobody who forwards it (BUNDLE 13; test/bundle/configvalue.test.ts, test/e2e/config.test.ts).
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
/** The length of a sealed value says no more than this of the value's. */
const STEP = 256

/** BUNDLE 13.2: `recipient` is `age1…`, `signer` the robot's identity. */
export async function signConfigKey(recipient: string, signer: Signer): Promise<SignedConfigKey> {
  const bytes = encodeJson({ format: FORMAT, robot: signer.fingerprint, age: recipient })
  return { key: Buffer.from(bytes).toString(), sig: toBase64(await signer.sign(NAMESPACE, bytes)) }
}

/** The recipient, where it is that of the robot with this id. Throws Refusal `bad-signature`. */
export function configRecipient({ key, sig }: SignedConfigKey, robot: string): string {
  const bytes = Buffer.from(key)
  if (bytes.length > LIMITS.certificate) throw new Refusal('too-large', 'config key: too long')
  // BUNDLE 13.2: whoever forwards it could put a key of his own in its place
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

/** BUNDLE 13.1. Throws Refusal `usage`, which does not hold the value. */
export function checkConfigValue(value: string): void {
  const length = Buffer.byteLength(value)
  if (length === 0) throw new Refusal('usage', 'the value is empty')
  if (length > LIMITS.configValue) {
    throw new Refusal('usage', `the value has ${length} bytes, at most ${LIMITS.configValue} are kept`)
  }
  if (value.includes('\0')) throw new Refusal('usage', 'the value has a NUL byte in it')
  if (Buffer.from(value).toString() !== value) throw new Refusal('usage', 'the value is not Unicode text')
}

/** In base64, for the order (BUNDLE 13.3). */
export async function sealConfigValue(value: string, recipient: string): Promise<string> {
  checkConfigValue(value)
  const bytes = Buffer.from(value)
  const padded = Buffer.alloc(Math.ceil(bytes.length / STEP) * STEP)
  bytes.copy(padded)
  return Buffer.from(await seal(padded, [recipient])).toString('base64')
}

/** On the robot. Throws Refusal: `stale-order` for a value that is sealed to a key which this body does not have. */
export async function openConfigValue(sealed: string, identity: string): Promise<string> {
  const bytes = Buffer.from(sealed, 'base64')
  if (bytes.toString('base64') !== sealed) throw new Refusal('usage', 'config value: not in base64')
  const padded = await openSealed(bytes, identity).catch((error: unknown) => {
    if (!(error instanceof Refusal)) throw error
    if (error.code === 'wrong-robot') {
      throw new Refusal('stale-order', 'the value is sealed to another key than the robot has now', 'give it again')
    }
    throw new Refusal(error.code, error.message.replace(/^bundle: /, 'config value: '))
  })
  return unpadded(padded)
}

/** BUNDLE 13.3 */
function unpadded(bytes: Uint8Array): string {
  const end = bytes.indexOf(0)
  const length = end < 0 ? bytes.length : end
  const padding = bytes.subarray(length)
  if (bytes.length % STEP !== 0 || padding.length >= STEP || padding.some((byte) => byte !== 0)) {
    throw new Refusal('usage', 'config value: it is not padded as it has to be')
  }
  let value: string
  try {
    value = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes.subarray(0, length))
  } catch {
    throw new Refusal('usage', 'the value is not text in UTF-8')
  }
  checkConfigValue(value)
  return value
}
