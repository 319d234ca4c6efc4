/**
 * Releases: signed statements about one payload, with its name, recipients and counter (BUNDLE 6). The digest of a release
 * identifies the bundle.
 */
import { createHash } from 'node:crypto'
import type { CounterRange } from '../api.ts'
import { Refusal } from '../errors.ts'
import { NAME_PATTERN } from '../names.ts'
import { LIMITS } from './limits.ts'
import { encodeJson, Fields, readJson } from './strict.ts'

export interface Release {
  format: 'medulla-release/1'
  kind: 'program' | 'runtime'
  program: string
  version: string
  payload: { sha256: string; length: number; unpacked: number }
  /** tree hash of the unpacked files, for reproduction */
  h1: string
  /** orders the releases of one (kind, program); about milliseconds since 1970 */
  counter: number
  created: string
  expires: string | null
  /** `any`, or names of process.arch */
  arch: string[]
  /** `>=X.Y` or `>=X.Y.Z` */
  node: string
  /** robot ids, `SHA256:…`, sorted */
  recipients: string[]
  /** the only slot for this release; null: any slot */
  slot: string | null
}

export const RELEASE_FORMAT = 'medulla-release/1'
export const VERSION_PATTERN = /^[0-9A-Za-z][0-9A-Za-z.+_-]*$/
/** The recipient of a release that a card brings: whichever robot starts from that card for the first time (BUNDLE 19). */
export const FIRST_START = `SHA256:${'A'.repeat(43)}`

const ROBOT_ID_PATTERN = /^SHA256:[A-Za-z0-9+/]{43}$/
export const NODE_RANGE_PATTERN = /^>=(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})(\.(0|[1-9][0-9]{0,4}))?$/
/** Length of one recipient in the JSON text: `"SHA256:…",` */
const RECIPIENT_BYTES = 53
const RESERVED_RECIPIENTS = 8
const HEX_SHA256 = /^[0-9a-f]{64}$/
const H1 = /^h1:[A-Za-z0-9+/]{43}=$/
const ARCH = /^[a-z][a-z0-9_]{0,15}$/
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
const KEYS = [
  'format',
  'kind',
  'program',
  'version',
  'payload',
  'h1',
  'counter',
  'created',
  'expires',
  'arch',
  'node',
  'recipients',
  'slot',
] as const

/** Encodes a release, and checks it as a robot would, so that a mistake shows at the build. */
export function encodeRelease(release: Release): Uint8Array {
  const ordered = Object.fromEntries(KEYS.map((key) => [key, release[key]]))
  const text = Buffer.from(encodeJson(ordered)).toString().trimEnd()
  const bytes = Buffer.from(`${text}${' '.repeat(paddingOf(release.recipients.length))}\n`)
  parseRelease(bytes)
  return bytes
}

/**
 * Spaces that reserve room for recipients: a tar grows in steps of 512 bytes, and so a few more recipients do not enlarge
 * it (BUNDLE 6.7).
 */
function paddingOf(recipients: number): number {
  return RECIPIENT_BYTES * Math.max(0, RESERVED_RECIPIENTS - recipients)
}

export function parseRelease(bytes: Uint8Array): Release {
  if (bytes.length > LIMITS.release)
    throw new Refusal('too-large', `release: ${bytes.length} bytes, at most ${LIMITS.release}`)
  const padding = countPadding(bytes)
  const end = bytes.length - 1 - padding
  const compact = padding > 0 ? Buffer.concat([bytes.subarray(0, end), bytes.subarray(-1)]) : bytes
  const read = readJson(compact, 'release', RELEASE_FORMAT, LIMITS.release)
  read.keys(KEYS)
  const recipients = readRecipients(read)
  // only this padding: a release has exactly one text (BUNDLE 6.7)
  if (padding !== paddingOf(recipients.length))
    read.fail(`padded with ${padding} spaces, not ${paddingOf(recipients.length)}`)
  const payload = new Fields(read.object('payload'), 'release payload')
  payload.keys(['sha256', 'length', 'unpacked'])
  return {
    format: RELEASE_FORMAT,
    kind: read.oneOf('kind', ['program', 'runtime']),
    program: read.text('program', NAME_PATTERN, 64),
    version: read.text('version', VERSION_PATTERN, LIMITS.text),
    payload: {
      sha256: payload.text('sha256', HEX_SHA256, 64),
      // bounds what is unpacked later (BUNDLE 1.4)
      length: payload.integer('length', 1, LIMITS.payload),
      unpacked: payload.integer('unpacked', 1, LIMITS.unpacked),
    },
    h1: read.text('h1', H1, 47),
    counter: read.integer('counter', 1, Number.MAX_SAFE_INTEGER),
    created: readTime(read, 'created'),
    expires: read.get('expires') === null ? null : readTime(read, 'expires'),
    arch: readArch(read),
    // only `>=`: other ranges are read differently by different libraries (BUNDLE 6.5)
    node: read.text('node', NODE_RANGE_PATTERN, 24),
    recipients,
    slot: read.get('slot') === null ? null : read.text('slot', NAME_PATTERN, 64),
  }
}

/** The digest of the exact bytes that were signed (BUNDLE 6.2). */
export function releaseDigest(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

/**
 * The counter for a new release: by the builder's clock, or by the robot's if the builder's is too far ahead (BUNDLE 6.6).
 * `now` in ms.
 */
export function nextCounter(now: number, { least, most, now: theirs }: Omit<CounterRange, 'synchronised'>): number {
  const counter = Math.max(Math.trunc(now), least)
  return counter <= most ? counter : Math.max(Math.trunc(theirs), least)
}

/** Spaces before the final newline. */
function countPadding(bytes: Uint8Array): number {
  let at = bytes.length - 2
  while (at >= 0 && bytes[at] === 0x20) at--
  return Math.max(0, bytes.length - 2 - at)
}

function readTime(read: Fields, key: string): string {
  const text = read.text(key, TIME, 24)
  const time = Date.parse(text)
  // Date.parse() takes 30 February for 1 March
  if (Number.isNaN(time) || new Date(time).toISOString() !== text) return read.fail(`'${key}' is no time: ${text}`)
  return text
}

function readArch(read: Fields): string[] {
  const arch = read.names('arch', ARCH, LIMITS.arches)
  if (arch.length === 0) return read.fail("'arch' is empty")
  return arch
}

function readRecipients(read: Fields): string[] {
  const recipients = read.names('recipients', ROBOT_ID_PATTERN, LIMITS.recipients)
  if (recipients.length === 0) return read.fail("'recipients' is empty")
  return recipients
}
