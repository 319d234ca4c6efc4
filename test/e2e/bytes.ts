/** Payloads of recorded bundles. */
import { gunzipSync } from 'node:zlib'
import { parseInner } from '../../deploy/shared/bundle/inner.ts'

/** The unpacked payload of an opened bundle. */
export async function payloadOf(inner: Uint8Array): Promise<Uint8Array> {
  return gunzipSync((await parseInner(inner)).payload)
}
