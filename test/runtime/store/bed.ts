/** Real bundles and child processes for the tests of the store. */
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { onTestFinished } from 'vitest'
import { encodeInner } from '../../../deploy/shared/bundle/inner.ts'
import type { Manifest } from '../../../deploy/shared/bundle/manifest.ts'
import { openInner } from '../../../deploy/shared/bundle/open.ts'
import { packPayload, unpackPayload } from '../../../deploy/shared/bundle/payload.ts'
import { encodeRelease, type Release } from '../../../deploy/shared/bundle/release.ts'
import type { Signer } from '../../../deploy/shared/keys.ts'
import { LineSplitter } from '../../../deploy/shared/linesplitter.ts'
import type { VerifiedBundle } from '../../../runtime/store/verifier.ts'
import { filesOf } from '../../fixtures/bundles.ts'
import { manifestOf, releaseOf } from '../../fixtures/manifests.ts'

const ROBOT = `SHA256:${'A'.repeat(43)}`
export const META = { pusher: ROBOT, time: '2026-01-01T00:00:00.000Z' }

export interface Bundled {
  inner: Uint8Array
  release: Release
}

export interface BundleFields {
  code?: string
  counter?: number
  program?: string
  manifest?: Partial<Manifest>
  release?: Partial<Release>
  files?: { name: string; bytes: Uint8Array }[]
}

export async function makeInner(signer: Signer, fields: BundleFields = {}): Promise<Bundled> {
  const program = fields.program ?? 'blink'
  const manifest = manifestOf({
    program,
    state: { version: 1, encoding: 'json' },
    params: { kp: { value: 1.25 } },
    ...fields.manifest,
  })
  const files = fields.files ?? filesOf(manifest, fields.code)
  const packed = await packPayload(files)
  const release = releaseOf({
    program,
    payload: { sha256: packed.sha256, length: packed.length, unpacked: packed.unpacked },
    h1: packed.h1,
    counter: fields.counter ?? 1,
    ...fields.release,
  })
  const bytes = encodeRelease(release)
  const signature = await signer.sign('release@medulla', bytes)
  return { inner: await encodeInner({ release: bytes, signature, payload: packed.bytes }), release }
}

/** What the verifier answers, made on this thread. */
export async function makeVerified(signer: Signer, fields: BundleFields = {}): Promise<VerifiedBundle> {
  const { inner } = await makeInner(signer, fields)
  const opened = await openInner(inner, new Set([signer.publicKey]))
  const files = await unpackPayload(opened.payload, opened.release)
  const { parseManifest } = await import('../../../deploy/shared/bundle/manifest.ts')
  return { ...opened, files, manifest: parseManifest(files.get('manifest.json') ?? new Uint8Array()) }
}

/** Node 20 runs no TypeScript: one file of ours with all that it imports, as one script. */
export async function compile(source: string, dir: string): Promise<string> {
  const outfile = join(dir, `${source.split('/').at(-1)?.replace(/\.ts$/, '')}.cjs`)
  await build({
    entryPoints: [fileURLToPath(new URL(source, import.meta.url))],
    outfile,
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'cjs',
    logLevel: 'error',
    logOverride: { 'empty-import-meta': 'silent' },
  })
  return outfile
}

export interface Child {
  process: ChildProcess
  lines: string[]
  /** Resolves at the next line of the child; rejects when it ends first. */
  line(): Promise<string>
  ended: Promise<void>
}

export function run(script: string, args: string[]): Child {
  const child = spawn(process.execPath, [script, ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
  onTestFinished(() => {
    child.kill('SIGKILL')
  })
  const lines: string[] = []
  const waiting: { resolve(line: string): void; reject(error: Error): void }[] = []
  let read = 0
  const splitter = new LineSplitter()
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    lines.push(...splitter.push(text))
    while (read < lines.length && waiting.length > 0) waiting.shift()?.resolve(lines[read++] ?? '')
  })
  const ended = new Promise<void>((resolve) => {
    child.on('close', () => {
      for (const one of waiting) one.reject(new Error('the child ended'))
      resolve()
    })
  })
  const line = (): Promise<string> => {
    if (read < lines.length) return Promise.resolve(lines[read++] ?? '')
    return new Promise((resolve, reject) => waiting.push({ resolve, reject }))
  }
  return { process: child, lines, line, ended }
}
