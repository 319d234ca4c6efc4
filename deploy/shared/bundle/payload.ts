/**
 * Packs and unpacks payloads (BUNDLE 5). Invariant: nothing is unpacked before the hash of the compressed bytes is the signed one,
 * and never more than the signed length (test/deploy/shared/bundle/payload.test.ts).
 */
import { createHash } from 'node:crypto'
import { promisify } from 'node:util'
import { crc32, deflateRaw, type InputType, inflateRaw, type ZlibOptions } from 'node:zlib'
import { Refusal } from '../errors.ts'
import { type TreeFile, treeHash } from './h1.ts'
import { LIMITS } from './limits.ts'
import type { Release } from './release.ts'
import { readTar, writeTar } from './tar.ts'

export interface PackedPayload {
  bytes: Uint8Array
  sha256: string
  length: number
  unpacked: number
  h1: string
}

/** The only allowed gzip header: deflate, no flags, no time, no extra flags, operating system unknown (BUNDLE 5.3). */
const GZIP_HEADER = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])
const LEVEL = 6

const deflate = promisify<InputType, ZlibOptions, Buffer>(deflateRaw)

export async function packPayload(files: readonly TreeFile[]): Promise<PackedPayload> {
  const tar = await writeTar(files)
  if (tar.length > LIMITS.unpacked)
    throw new Refusal('too-large', `payload: ${tar.length} bytes, at most ${LIMITS.unpacked}`)
  const trailer = Buffer.alloc(8)
  trailer.writeUInt32LE(crc32(tar), 0)
  trailer.writeUInt32LE(tar.length, 4)
  const bytes = Buffer.concat([GZIP_HEADER, await deflate(tar, { level: LEVEL }), trailer])
  if (bytes.length > LIMITS.payload) {
    throw new Refusal('too-large', `payload: ${bytes.length} bytes compressed, at most ${LIMITS.payload}`)
  }
  return { bytes, sha256: sha256(bytes), length: bytes.length, unpacked: tar.length, h1: treeHash(files) }
}

/** Compares length and hash of the compressed bytes with the release (BUNDLE 5.4). */
export function checkPayload(bytes: Uint8Array, release: Release): void {
  const { length, sha256: expected } = release.payload
  if (bytes.length < length) throw new Refusal('truncated', `payload: ${bytes.length} bytes, signed ${length}`)
  if (bytes.length > length) throw new Refusal('bad-bundle', `payload: ${bytes.length} bytes, signed ${length}`)
  const got = sha256(bytes)
  if (got !== expected) throw new Refusal('bad-hash', `payload: expected sha256 ${expected}, got ${got}`)
}

/** Unpacks to a map of names to bytes, in memory. Asynchronous, so that the event loop runs while zlib works. */
export async function unpackPayload(bytes: Uint8Array, release: Release): Promise<Map<string, Uint8Array>> {
  checkPayload(bytes, release)
  const tar = await gunzip(bytes, release.payload.unpacked)
  const files = await readTar(tar)
  // the tree hash also covers names (BUNDLE 5.6)
  const h1 = treeHash(files)
  if (h1 !== release.h1) throw new Refusal('bad-hash', `payload: expected ${release.h1}, got ${h1}`)
  return new Map(files.map((file) => [file.name, file.bytes]))
}

/** Decompresses one gzip member with our header and nothing after it, to exactly `unpacked` bytes. */
export async function gunzip(bytes: Uint8Array, unpacked: number): Promise<Uint8Array> {
  if (bytes.length < 18 || Buffer.compare(bytes.subarray(0, 10), GZIP_HEADER) !== 0) {
    throw new Refusal('bad-bundle', 'payload: not a gzip member with the header of BUNDLE 5.3')
  }
  const body = bytes.subarray(10, -8)
  const { output, used } = await inflate(body, unpacked)
  // zlib ignores bytes after the end of a member, so compare how many it used (BUNDLE 5.5)
  if (used !== body.length)
    throw new Refusal('bad-bundle', `payload: ${body.length - used} bytes after the gzip member`)
  if (output.length !== unpacked)
    throw new Refusal('bad-bundle', `payload: unpacks to ${output.length} bytes, signed ${unpacked}`)
  const trailer = Buffer.from(bytes.buffer, bytes.byteOffset + bytes.length - 8, 8)
  if (trailer.readUInt32LE(0) !== crc32(output) || trailer.readUInt32LE(4) !== output.length) {
    throw new Refusal('bad-bundle', 'payload: gzip trailer does not match')
  }
  return output
}

function inflate(body: Uint8Array, max: number): Promise<{ output: Uint8Array; used: number }> {
  return new Promise((resolve, reject) => {
    // `info` makes zlib also return the engine, whose bytesWritten is the input that it used; @types/node lacks this option
    const options = { maxOutputLength: Math.max(1, max), info: true }
    inflateRaw(body, options, (error, result: unknown) => {
      if (error) {
        const large = (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE'
        const message = large
          ? `payload: unpacks to more than the signed ${max} bytes`
          : 'payload: corrupt deflate stream'
        return reject(new Refusal(large ? 'too-large' : 'bad-bundle', message, undefined, { cause: error }))
      }
      const { buffer, engine } = result as { buffer: Buffer; engine: { bytesWritten: number } }
      resolve({ output: buffer, used: engine.bytesWritten })
    })
  })
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
