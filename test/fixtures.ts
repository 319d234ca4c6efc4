/** Manifests and releases for tests. What a test is about goes into `over`. */
import type { Manifest } from '../deploy/shared/bundle/manifest.ts'
import type { Release } from '../deploy/shared/bundle/release.ts'

export function manifestOf(over: Partial<Manifest> = {}): Manifest {
  return {
    format: 'medulla-manifest/1',
    program: 'blink',
    version: '1.0.0',
    entry: 'program.mjs',
    wire: 1,
    sdk: '0.1.0',
    needs: { led: 'output' },
    ratesMs: [500],
    state: null,
    params: {},
    ...over,
  }
}

export function releaseOf(over: Partial<Release> = {}): Release {
  return {
    format: 'medulla-release/1',
    kind: 'program',
    program: 'blink',
    version: '1.0.0',
    payload: { sha256: 'a'.repeat(64), length: 100, unpacked: 2048 },
    h1: `h1:${'A'.repeat(43)}=`,
    counter: 1000,
    created: '2026-01-01T00:00:00.000Z',
    expires: null,
    arch: ['any'],
    node: '>=20.19',
    recipients: [`SHA256:${'A'.repeat(43)}`],
    slot: null,
    ...over,
  }
}
