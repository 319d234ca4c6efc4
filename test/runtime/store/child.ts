/** Run as a process of its own by the tests, to be killed: `child.cjs JOB DIR`. Says on stdout what it has finished. */
import { writeSync } from 'node:fs'
import { join } from 'node:path'
import { encodeManifest } from '../../../deploy/shared/bundle/manifest.ts'
import { packPayload } from '../../../deploy/shared/bundle/payload.ts'
import { encodeRelease, releaseDigest } from '../../../deploy/shared/bundle/release.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import { loadSigner } from '../../../deploy/shared/keys.ts'
import { Bundles } from '../../../runtime/store/bundles.ts'
import { openHome } from '../../../runtime/store/home.ts'
import { takeLock } from '../../../runtime/store/lock.ts'
import { Receipts } from '../../../runtime/store/receipts.ts'
import { Runtimes } from '../../../runtime/store/runtimes.ts'
import { Slots } from '../../../runtime/store/slots.ts'
import { manifestOf, releaseOf } from '../../fixtures/manifests.ts'
import { pushed, runtime } from './madeupruntime.ts'

const [job, dir = ''] = process.argv.slice(2)
const say = (line: string): void => {
  writeSync(1, `${line}\n`)
}

async function put(): Promise<void> {
  const bundles = await Bundles.open(dir)
  const made = await Promise.all(Array.from({ length: 30 }, (_, counter) => unsigned(counter + 1)))
  say('ready')
  for (;;) {
    for (const one of made) {
      await bundles.put(one, { pusher: 'p', time: '2026-01-01T00:00:00.000Z' })
      say(one.digest)
    }
    say('prune')
    await bundles.prune(() => new Set(made.slice(0, 10).map((one) => one.digest)))
    say('pruned')
  }
}

/** The store takes what was verified; signing has its own tests. */
async function unsigned(counter: number): Promise<Parameters<Bundles['put']>[0]> {
  const manifest = manifestOf()
  const files = [
    { name: 'program.mjs', bytes: Buffer.alloc(100_000, `// ${counter}\n`) },
    { name: 'manifest.json', bytes: encodeManifest(manifest) },
    { name: 'buildinfo.json', bytes: Buffer.from('{}') },
  ]
  const packed = await packPayload(files)
  const release = releaseOf({
    payload: { sha256: packed.sha256, length: packed.length, unpacked: packed.unpacked },
    h1: packed.h1,
    counter,
  })
  const releaseBytes = encodeRelease(release)
  return {
    release,
    releaseBytes,
    signature: 'not signed',
    digest: releaseDigest(releaseBytes),
    signer: 's',
    payload: packed.bytes,
    files: new Map(),
    manifest,
  }
}

async function slots(): Promise<void> {
  const store = await Slots.open({ dir })
  say('ready')
  for (let counter = store.floor('program', 'blink') + 1; ; counter++) {
    say(`fence ${store.nextFence()}`)
    const digest = `sha256:${counter.toString(16).padStart(64, '0')}`
    await store.commit('main', digest, { kind: 'program', program: 'blink', counter })
    say(`commit ${counter}`)
    await store.saveCheckpoint('main', {
      program: 'blink',
      stateVersion: counter,
      encoding: 'bytes',
      time: '',
      bytes: Buffer.alloc(50_000, counter),
    })
    say(`checkpoint ${counter}`)
  }
}

async function runtimes(): Promise<void> {
  const made = await Promise.all(Array.from({ length: 8 }, (_, counter) => runtime(counter + 1)))
  const store = await Runtimes.open(dir)
  say('ready')
  for (let round = 0; ; round++) {
    const one = made[round % made.length] as (typeof made)[number]
    await store.install(one)
    say(`installed ${one.digest}`)
    await store.choose(pushed(one))
    say(`chosen ${one.digest}`)
    await store.started('a boot')
    if (round % 3 === 2) await store.undo('a test', '')
    else await store.confirm(one.digest)
    say('settled')
  }
}

async function receipts(): Promise<void> {
  const log = await Receipts.open({ dir, signer: await loadSigner(join(dir, 'key')) })
  say('ready')
  for (;;) {
    const { seq } = await log.append({
      slot: 'main',
      outcome: 'committed',
      from: null,
      to: null,
      phases: [],
      wallMs: 1,
      gapMs: null,
      stateBytes: 0,
      edges: null,
      confined: false,
      fence: 1,
    })
    say(String(seq))
  }
}

async function lock(): Promise<void> {
  process.stdin.once('data', async () => {
    try {
      await takeLock(dir, 'the test')
      say('won')
    } catch (error) {
      say(error instanceof Refusal ? `${error.code} ${error.message}` : String(error))
    }
  })
  say('ready')
}

async function home(): Promise<void> {
  say('ready')
  const opened = await openHome(dir, { name: 'robo' })
  say(opened.id)
  setInterval(() => {}, 1000)
}

const jobs: Record<string, () => Promise<void>> = { put, slots, runtimes, receipts, lock, home }
void jobs[job ?? '']?.()
