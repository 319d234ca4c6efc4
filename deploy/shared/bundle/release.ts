/** The signed statement about one payload: what it is, for whom, and in which order (BUNDLE 6). Its digest is the bundle's identity. */
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
  /** order of releases of one (kind, program); about milliseconds since 1970 */
  counter: number
  created: string
  expires: string | null
  /** `any`, or names of process.arch */
  arch: string[]
  /** `>=X.Y` or `>=X.Y.Z` */
  node: string
  /** robot ids, `SHA256:…`, sorted */
  recipients: string[]
  /** the slot it is bound to, if it is bound */
  slot: string | null
}

export const RELEASE_FORMAT = 'medulla-release/1'
export const VERSION_PATTERN = /^[0-9A-Za-z][0-9A-Za-z.+_-]*$/
const ROBOT_ID_PATTERN = /^SHA256:[A-Za-z0-9+/]{43}$/
export const NODE_RANGE_PATTERN = /^>=(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})(\.(0|[1-9][0-9]{0,4}))?$/
/** `"SHA256:…",` */
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

/** Checked as a robot would check it, so that a mistake is found where it is made. */
export function encodeRelease(release: Release): Uint8Array {
  const ordered = Object.fromEntries(KEYS.map((key) => [key, release[key]]))
  const text = Buffer.from(encodeJson(ordered)).toString().trimEnd()
  const bytes = Buffer.from(`${text}${' '.repeat(paddingOf(release.recipients.length))}\n`)
  parseRelease(bytes)
  return bytes
}

/** BUNDLE 6.7: places for recipients that are not there, because a tar grows in steps that few recipients cannot pay for. */
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
  // BUNDLE 6.7: one text for one release, also here
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
      // BUNDLE 1.4
      length: payload.integer('length', 1, LIMITS.payload),
      unpacked: payload.integer('unpacked', 1, LIMITS.unpacked),
    },
    h1: read.text('h1', H1, 47),
    counter: read.integer('counter', 1, Number.MAX_SAFE_INTEGER),
    created: readTime(read, 'created'),
    expires: read.get('expires') === null ? null : readTime(read, 'expires'),
    arch: readArch(read),
    // BUNDLE 6.5: only the form that every robot compares in the same way
    node: read.text('node', NODE_RANGE_PATTERN, 24),
    recipients,
    slot: read.get('slot') === null ? null : read.text('slot', NAME_PATTERN, 64),
  }
}

/** BUNDLE 6.2: of the exact bytes that were signed. */
export function releaseDigest(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

/** BUNDLE 6.6: by the builder's clock, or by the robot's where the builder's is too far ahead. `now` in ms. */
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
  // 30 February parses, as 1 March
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
