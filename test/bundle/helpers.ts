import { execFileSync, spawnSync } from 'node:child_process'
import type { createPrivateKey } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished } from 'vitest'
import { type BundleOptions, makeBundle } from '../../deploy/laptop/build.ts'
import { parseInner } from '../../deploy/shared/bundle/inner.ts'
import { encodeManifest, type Manifest } from '../../deploy/shared/bundle/manifest.ts'
import { openSealed } from '../../deploy/shared/bundle/seal.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { generateAgeIdentity, keySigner, type Signer } from '../../deploy/shared/keys.ts'
import { makeSshKey, parseSshKey } from '../../deploy/shared/sshkey.ts'
import { manifestOf } from '../fixtures.ts'

export function newSigner(): Signer {
  const { publicKey, file } = makeSshKey('test')
  const { privateKey } = parseSshKey(file)
  if (!privateKey) throw new Error('a new key is not encrypted')
  return keySigner(publicKey, privateKey)
}

/** A key whose private half is known to the test. */
export function fixedKey(): { publicKey: string; privateKey: ReturnType<typeof createPrivateKey>; file: string } {
  const { publicKey, file } = makeSshKey('test')
  const { privateKey } = parseSshKey(file)
  if (!privateKey) throw new Error('a new key is not encrypted')
  return { publicKey, privateKey, file }
}

export interface TestRobot {
  id: string
  age: string
  identity: string
}

export async function newRobot(): Promise<TestRobot> {
  const { identity, recipient } = await generateAgeIdentity()
  return { id: newSigner().fingerprint, age: recipient, identity }
}

export function filesOf(manifest: Manifest, code = 'console.log(1)\n'): { name: string; bytes: Uint8Array }[] {
  return [
    { name: 'program.mjs', bytes: Buffer.from(code) },
    { name: 'manifest.json', bytes: encodeManifest(manifest) },
    { name: 'buildinfo.json', bytes: Buffer.from('{}\n') },
  ]
}

export function bundleFor(robots: TestRobot[], signer: Signer, over: Partial<BundleOptions> = {}, code?: string) {
  const manifest = manifestOf()
  return makeBundle(filesOf(manifest, code), manifest, { signer, robots, counter: 1_800_000_000_000, ...over })
}

/** The refusal that `run` ends in; anything else fails the test. */
export async function refusal(run: () => unknown): Promise<Refusal> {
  try {
    await run()
  } catch (error) {
    if (error instanceof Refusal) return error
    throw error
  }
  return expect.fail('expected a refusal')
}

export function tempFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'medulla-test-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** The reason to skip, for the title of a test that needs a tool; empty when the tool is there. */
export function missing(...tools: string[]): string {
  const absent = tools.filter((tool) => spawnSync(tool, ['--version']).error !== undefined)
  return absent.length > 0 ? ` (skipped: needs ${absent.join(', ')})` : ''
}

export function run(folder: string, command: string, args: string[], input?: Uint8Array | string): string {
  return execFileSync(command, args, {
    cwd: folder,
    encoding: 'utf8',
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(input === undefined ? {} : { input }),
  })
}

/** Small seeded generator (mulberry32), so that a failure can be repeated. */
export function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

export function flip(bytes: Uint8Array, bit: number): Uint8Array {
  const copy = Uint8Array.from(bytes)
  const at = bit >> 3
  copy[at] = (copy[at] ?? 0) ^ (1 << (bit & 7))
  return copy
}

/** A good bundle for one robot, as it travels, unsealed, and in its parts. */
export async function goodBundle() {
  const signer = newSigner()
  const robot = await newRobot()
  const bundle = await bundleFor([robot], signer)
  const innerBytes = await openSealed(bundle.bytes, robot.identity)
  const inner = await parseInner(innerBytes)
  return { signer, operators: new Set([signer.publicKey]), robot, bundle, innerBytes, inner }
}
