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
  const { sha256, length, unpacked, bytes } = fault.tar ? repacked(fault.tar(await writeTar(files))) : packed
  const release: Release = {
    format: RELEASE_FORMAT,
    kind: 'program',
    program: manifest.program,
    version: manifest.version,
    payload: { sha256, length, unpacked: fault.unpacked ?? unpacked },
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
  const inner = await encodeInner({ release: releaseBytes, signature: await sign(releaseBytes), payload: bytes })
  return Buffer.from(await seal(inner, [fault.sealedTo ?? to.age]))
}

/** Compresses a tar that packPayload() would refuse, in the form of BUNDLE 5.3. */
function repacked(tar: Uint8Array) {
  const trailer = Buffer.alloc(8)
  trailer.writeUInt32LE(crc32(tar), 0)
  trailer.writeUInt32LE(tar.length, 4)
  const bytes = Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]), deflateRawSync(tar), trailer])
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  return { bytes, sha256, length: bytes.length, unpacked: tar.length }
}

const [NAME, NAME_BYTES, SUM, SUM_BYTES, TYPE, LINK] = [0, 100, 148, 8, 156, 157]

/** Renames the first file of a ustar, or turns it into a symbolic link to `link`; the header's checksum is right. */
export function renamed(tar: Uint8Array, name: string, link?: string): Uint8Array {
  const out = Buffer.from(tar)
  out.fill(0, NAME, NAME_BYTES).write(name, NAME)
  if (link !== undefined) {
    out.write('2', TYPE)
    out.write(link, LINK)
  }
  out.fill(' ', SUM, SUM + SUM_BYTES)
  const sum = out.subarray(0, 512).reduce((total, byte) => total + byte, 0)
  out.write(`${sum.toString(8).padStart(6, '0')}\0 `, SUM)
  return out
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
