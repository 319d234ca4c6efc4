/** Payloads of recorded bundles, and random bytes. */
import { gunzipSync } from 'node:zlib'
import { parseInner } from '../../deploy/shared/bundle/inner.ts'

/** The unpacked payload of an opened bundle. */
export async function payloadOf(inner: Uint8Array): Promise<Uint8Array> {
  return gunzipSync((await parseInner(inner)).payload)
}

/** mulberry32, for the same numbers in every run. */
export function seeded(seed: number): () => number {
  let a = seed
  return () => {
    a = (a + 0x6d2b79f5) | 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

export function flipBit(bytes: Uint8Array, bit: number): Uint8Array {
  const flipped = Uint8Array.from(bytes)
  const at = bit >> 3
  flipped[at] = (flipped[at] ?? 0) ^ (1 << (bit & 7))
  return flipped
}
