/**
 * What a bundle costs, beside the tools that do the same by hand: seal (pack, sign, encrypt) beside `tar | gzip | age`, and open
 * (decrypt, check signature and hashes, unpack) beside `age -d`, `sha256sum` and `tar -x`. Then the check of a stored bundle at
 * each start of its program, and how long all of this holds the loop of the thread that asks for it: the body drives pins there.
 *
 * The tools are processes; ours are worker threads that run already, as on a robot. Only the sealing is done in this thread, as
 * on a laptop. The files are half text and half bytes that do not compress.
 */
import { randomBytes } from 'node:crypto'
import { closeSync, mkdirSync, openSync, readSync, rmSync, writeFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { makeBundle } from '../../deploy/laptop/build.ts'
import { encodeManifest, MANIFEST_FORMAT, type Manifest } from '../../deploy/shared/bundle/manifest.ts'
import { generateAgeIdentity, keySigner } from '../../deploy/shared/keys.ts'
import { makeSshKey, parseSshKey } from '../../deploy/shared/sshkey.ts'
import { BundleOpener } from '../../runtime/endpoint/opener.ts'
import { Bundles } from '../../runtime/store/bundles.ts'
import { BundleVerifier } from '../../runtime/store/verifier.ts'
import type { BenchOptions } from './main.ts'
import { ENV, ended, start, temporary } from './rig.ts'
import { type Goal, ratio, Series } from './stats.ts'

const SAMPLES = 20
const SIZES: readonly [name: string, bytes: number][] = [
  ['100KB', 100 * 1024],
  ['10MB', 10 * 1024 * 1024],
]
/** ms that the body's loop may be held */
const LOOP_GOAL: Goal = { max: 5 }
/** `age | sha256sum | tar` / ours at 10 MB */
const OPEN_RATIO = 0.5

export async function seal(options: BenchOptions): Promise<Series[]> {
  const all: Series[] = []
  for (const [name, bytes] of SIZES) all.push(...(await measure(name, bytes, options)))
  return all
}

async function measure(size: string, bytes: number, { samples = SAMPLES, wanted, report }: BenchOptions) {
  const kit = await makeKit(bytes)
  const series = (variant: string, note: string, goal?: Goal) =>
    new Series('seal', `${variant}-${size}`, 'ms', { note, goal })
  const rows = {
    seal: series('seal', 'packed, signed and encrypted'),
    sealTools: series('seal-tools', 'tar | gzip | age'),
    open: series('open', 'decrypted and checked by the endpoint, checked again and unpacked by the body'),
    openTools: series('open-tools', 'age -d, sha256sum, tar -x'),
    start: series('self-check', 'a stored bundle, checked and unpacked in memory for a start'),
    loopOwn: series(
      'loop',
      "longest time that the body's thread held its loop, while it verified, stored, checked and unpacked a bundle",
      LOOP_GOAL,
    ),
    loop: series('loop-late', 'the same with the time in which other threads, of the bench too, had its processor'),
    idle: series(
      'loop-idle',
      'as loop-late, for as long while nothing is asked for: what other processes of this machine do',
    ),
  }
  const chosen = Object.values(rows).filter(({ variant }) => wanted(variant))
  const timed = async (row: Series, run: () => Promise<unknown>) => {
    if (!chosen.includes(row)) return
    report.progress(`seal: ${row.variant}, ${row.samples.length + 1} of ${samples}`)
    const began = performance.now()
    try {
      await run()
      row.add(performance.now() - began)
    } catch (error) {
      row.fail((error as Error).message)
    }
  }
  for (let i = 0; i < samples; i++) {
    await timed(rows.seal, kit.seal)
    await timed(rows.sealTools, kit.sealTools)
    const body = new LoopWatch()
    await timed(rows.open, () => kit.open(body))
    await timed(rows.start, () => kit.selfCheck(body))
    await kit.store(body)
    rows.loopOwn.add(body.longestOwnMs)
    rows.loop.add(body.longestMs)
    const idle = new LoopWatch()
    await idle.during(() => new Promise((resolve) => setTimeout(resolve, body.ms)))
    rows.idle.add(idle.longestMs)
    await timed(rows.openTools, kit.openTools)
  }
  await kit.close()
  for (const row of chosen) report.row(row.row())
  const pairs = [
    [rows.sealTools, rows.seal, {}],
    [rows.openTools, rows.open, size === '10MB' ? { least: OPEN_RATIO } : {}],
  ] as const
  for (const [theirs, ours, held] of pairs) {
    if (theirs.samples.length === 0 || ours.samples.length === 0) continue
    report.row(ratio('seal', `${ours.variant}-ratio`, theirs.row(), ours.row(), held))
  }
  return chosen
}

/**
 * The longest time between two turns of this thread's loop while some jobs were done, by a timer of 1 ms. The thread itself holds the
 * loop while it computes and while it waits in a system call; it does not while it waits for a processor that another thread has.
 */
class LoopWatch {
  longestMs = 0
  /** Without the times in which the thread waited for a processor. */
  longestOwnMs = 0
  /** How long the jobs took. */
  ms = 0

  async during<T>(job: () => Promise<T>): Promise<T> {
    const fd = openSync('/proc/thread-self/schedstat', 'r')
    const buffer = Buffer.alloc(64)
    const now = () => {
      for (;;) {
        const at = performance.now()
        // its second number: ns in which the thread could have run, and did not (Documentation/scheduler/sched-stats.rst)
        const waited = Number(buffer.toString('latin1', 0, readSync(fd, buffer, 0, 64, 0)).split(' ')[1])
        // the two belong together when nothing came between them
        if (performance.now() - at < 0.1) return { at, waitedMs: waited / 1e6 }
      }
    }
    let last = now()
    const timer = setInterval(() => {
      const { at, waitedMs } = now()
      // the timer itself takes a millisecond
      const ms = at - last.at - 1
      this.longestMs = Math.max(this.longestMs, ms)
      this.longestOwnMs = Math.max(this.longestOwnMs, ms - (waitedMs - last.waitedMs))
      last = { at, waitedMs }
    }, 1)
    const began = performance.now()
    try {
      return await job()
    } finally {
      this.ms += performance.now() - began
      clearInterval(timer)
      closeSync(fd)
    }
  }
}

async function makeKit(bytes: number) {
  const folder = temporary(true)
  const [program, unpacked, staged] = ['program', 'unpacked', 'staged'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  mkdirSync(program)
  const { publicKey, file } = makeSshKey('bench')
  const { privateKey } = parseSshKey(file)
  if (privateKey === null) throw new Error('a new key is not encrypted')
  const signer = keySigner(publicKey, privateKey)
  const { identity, recipient } = await generateAgeIdentity()
  const manifest: Manifest = {
    format: MANIFEST_FORMAT,
    program: 'bench',
    version: '1.0.0',
    entry: 'program.mjs',
    wire: 1,
    sdk: '0.1.0',
    needs: { led: 'output' },
    ratesMs: [],
    state: null,
    params: {},
  }
  const files = [
    { name: 'program.mjs', bytes: content(bytes) },
    { name: 'manifest.json', bytes: encodeManifest(manifest) },
    { name: 'buildinfo.json', bytes: Buffer.from('{}\n') },
  ]
  for (const { name, bytes: data } of files) writeFileSync(join(program, name), data)
  const key = join(folder, 'age.key')
  writeFileSync(key, `${identity}\n`, { mode: 0o600 })
  const robot = { id: `SHA256:${'A'.repeat(43)}`, age: recipient }
  let counter = Date.now()
  const made = () => makeBundle(files, manifest, { signer, robots: [robot], counter: counter++ })
  const bundle = await made()

  const opener = new BundleOpener([identity])
  const verifier = new BundleVerifier()
  const open = async (body = new LoopWatch()) => {
    // its memory moves to the thread
    const { inner } = await opener.open(new Uint8Array(bundle.bytes), [publicKey])
    await writeFile(staged, inner)
    return body.during(() => verifier.verify({ stagedFile: staged, length: inner.length, signers: [publicKey] }))
  }
  const bundles = await Bundles.open(join(folder, 'store'), verifier)
  const verified = await open()
  const store = async (body: LoopWatch) => {
    await bundles.prune(() => new Set())
    await body.during(() => bundles.put(verified, { pusher: 'bench', time: new Date().toISOString() }))
  }
  await store(new LoopWatch())
  const selfCheck = async (body: LoopWatch) => {
    await body.during(async () => {
      await bundles.load(bundle.digest)
      await bundles.extract(bundle.digest, unpacked)
    })
    rmSync(unpacked, { recursive: true })
  }
  const shell = async (line: string, ...args: string[]) => {
    const { status, stderr } = await ended(
      start('sh', ['-ec', line, 'sh', ...args], { cwd: folder, env: ENV, stdio: ['ignore', 'ignore', 'pipe'] }),
    )
    if (status !== 0) throw new Error(`sh ended with ${status}: ${stderr.trim()}`)
  }
  const sealTools = () => shell('tar c -C program . | gzip | age -r "$1" > tools.age', recipient)
  await sealTools()
  const openTools = async () => {
    mkdirSync(unpacked)
    await shell('age -d -i age.key tools.age > tools.tgz; sha256sum tools.tgz > sum; tar xzf tools.tgz -C unpacked')
    rmSync(unpacked, { recursive: true })
  }
  return {
    seal: made,
    sealTools,
    open,
    openTools,
    selfCheck,
    store,
    async close() {
      await Promise.all([opener.close(), verifier.close()])
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

function content(bytes: number): Buffer {
  const text = Buffer.from('export const answer = 42 // a line of a program that compresses well\n')
  const half = Buffer.alloc(bytes / 2, text)
  return Buffer.concat([half, Buffer.from(randomBytes((bytes / 2) * 0.75).toString('base64'))])
}
