/** Makes bundles with exactly one fault, which `medulla build` would never make. */
import { createHash } from 'node:crypto'
import { crc32, deflateRawSync } from 'node:zlib'
import type { TreeFile } from '../../shared/bundle/h1.ts'
import { encodeInner } from '../../shared/bundle/inner.ts'
import { encodeManifest, type Manifest } from '../../shared/bundle/manifest.ts'
import { packPayload } from '../../shared/bundle/payload.ts'
import { encodeRelease, RELEASE_FORMAT, type Release } from '../../shared/bundle/release.ts'
import { seal } from '../../shared/bundle/seal.ts'
import { writeTar } from '../../shared/bundle/tar.ts'
import type { Signer } from '../../shared/keys.ts'

export interface Program {
  readonly files: readonly TreeFile[]
  readonly manifest: Manifest
}
export interface Recipient {
  readonly id: string
  readonly age: string
}
export interface Fault {
  release?: Partial<Release>
  manifest?: Partial<Manifest>
  /** JSON text for `needs` of the manifest, as the build would never write it */
  needs?: string
  /** signs the release, instead of the operator who makes the bundle */
  signer?: Signer
  /** returns the armored signature to use, which may be of other bytes */
  sign?: (release: Uint8Array) => Promise<string>
  /** changes the unpacked payload; the release then has the length and hash of the changed payload */
  tar?: (tar: Uint8Array) => Uint8Array
  /** changes the compressed payload; the release then has the length and hash of what came out */
  stream?: (gzip: Uint8Array) => Uint8Array
  /** changes the payload after the release was signed */
  payload?: (gzip: Uint8Array) => Uint8Array
  /** changes the content of release, signature and payload before it is encrypted */
  content?: (inner: Uint8Array) => Uint8Array
  /** changes the encrypted bundle */
  sealed?: (bundle: Buffer) => Buffer
  /** the unpacked length in the release, in bytes */
  unpacked?: number
  /** age recipient that can open the bundle, instead of the robot that the release names */
  sealedTo?: string
}

let last = 0
/** Counters as `medulla push` takes them: the time in ms, and never the same twice. */
function counter(): number {
  last = Math.max(Date.now(), last + 1)
  return last
}

/** A signed and sealed bundle; without a fault, the bundle that `medulla push` would send. */
export async function makeBundle(program: Program, signer: Signer, to: Recipient, fault: Fault = {}): Promise<Buffer> {
  const manifest = { ...program.manifest, ...fault.manifest }
  const text = Buffer.from(encodeManifest(manifest)).toString()
  const replaced = {
    name: 'manifest.json',
    bytes: Buffer.from(fault.needs ? text.replace(JSON.stringify(manifest.needs), fault.needs) : text),
  }
  const files = program.files.map((file) => (file.name === replaced.name ? replaced : file))
  const packed = await packPayload(files)
  const changed = fault.tar === undefined ? packed : described(gzip(fault.tar(await writeTar(files))))
  const { sha256, length, bytes } = fault.stream === undefined ? changed : described(fault.stream(changed.bytes))
  const release: Release = {
    format: RELEASE_FORMAT,
    kind: 'program',
    program: manifest.program,
    version: manifest.version,
    payload: { sha256, length, unpacked: fault.unpacked ?? changed.unpacked },
    h1: packed.h1,
    counter: counter(),
    created: new Date().toISOString(),
    expires: null,
    arch: ['any'],
    node: '>=20.19',
    recipients: [to.id],
    slot: null,
    ...fault.release,
  }
  const releaseBytes = encodeRelease(release)
  const sign = fault.sign ?? ((message) => (fault.signer ?? signer).sign('release@medulla', message))
  const payload = fault.payload?.(bytes) ?? bytes
  const inner = await encodeInner({ release: releaseBytes, signature: await sign(releaseBytes), payload })
  const bundle = Buffer.from(await seal(fault.content?.(inner) ?? inner, [fault.sealedTo ?? to.age]))
  return fault.sealed?.(bundle) ?? bundle
}

/** One gzip member in the form of BUNDLE 5.3, also of a tar that packPayload() would refuse. */
export function gzip(tar: Uint8Array): Buffer {
  const trailer = Buffer.alloc(8)
  trailer.writeUInt32LE(crc32(tar), 0)
  trailer.writeUInt32LE(tar.length, 4)
  return Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]), deflateRawSync(tar), trailer])
}

/** The unpacked length is the one that the stream says of itself, in its last four bytes. */
function described(bytes: Uint8Array) {
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const unpacked = Buffer.from(bytes.slice(-4)).readUInt32LE()
  return { bytes, sha256, length: bytes.length, unpacked }
}

const BLOCK = 512
/** Where a header of a ustar has its fields, and how long the sum is. */
const HEADER = { name: 0, nameBytes: 100, mode: 100, size: 124, sum: 148, sumBytes: 8, type: 156, link: 157 }

export interface Entry {
  name?: string
  /** octal digits */
  mode?: string
  /** one character, as `1` for a hard link, `2` for a symbolic one, `3` for a device, `S` for a sparse file */
  type?: string
  link?: string
}

/** Changes the header of one file of a ustar, the first one by default; the header's checksum is right. */
export function renamed(tar: Uint8Array, { name, mode, type, link }: Entry, file = 0): Uint8Array {
  const out = Buffer.from(tar)
  let at = 0
  for (let skip = file; skip > 0; skip--) {
    const size = Number.parseInt(out.toString('latin1', at + HEADER.size, at + HEADER.size + 11), 8)
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK
  }
  const header = out.subarray(at, at + BLOCK)
  if (name !== undefined) header.fill(0, HEADER.name, HEADER.nameBytes).write(name, HEADER.name)
  if (mode !== undefined) header.write(mode.padStart(7, '0'), HEADER.mode)
  if (type !== undefined) header.write(type, HEADER.type)
  if (link !== undefined) header.write(link, HEADER.link)
  header.fill(' ', HEADER.sum, HEADER.sum + HEADER.sumBytes)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, HEADER.sum)
  return out
}

/** The header of an age file with its first recipient `times` times. */
export function crowded(bundle: Buffer, times: number): Buffer {
  const { version, mac } = partsOf(bundle)
  const stanza = bundle.subarray(version + 2, mac - 4)
  const more = Array.from({ length: times - 1 }, () => stanza)
  return Buffer.concat([bundle.subarray(0, version + 2), ...more, bundle.subarray(version + 2)])
}

/** Offsets of the parts of an age file to one recipient. */
export function partsOf(bundle: Buffer) {
  const stanza = bundle.indexOf('-> X25519 ')
  const wrapped = bundle.indexOf('\n', stanza) + 1
  const mac = bundle.indexOf('--- ', wrapped) + 4
  const nonce = bundle.indexOf('\n', mac) + 1
  const content = nonce + 16
  return {
    version: stanza - 2,
    type: stanza + 3,
    share: stanza + 10,
    wrapped,
    mac,
    nonce,
    content,
    end: bundle.length - 1,
  }
}

/** Flips one bit of the byte at `at`. With `text`, a bit that gives another character of base64. */
export function flipped(bytes: Buffer, at: number, text = false): Buffer {
  const out = Buffer.from(bytes)
  const byte = out[at] ?? 0
  const mask = [1, 2, 4, 8].find((bit) => !text || /[A-Za-z0-9+/]/.test(String.fromCharCode(byte ^ bit))) ?? 1
  out[at] = byte ^ mask
  return out
}
