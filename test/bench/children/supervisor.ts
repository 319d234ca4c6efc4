/**
 * A plain supervisor, as the alternatives have: it holds the pipe that stands for the hardware, and replaces its one
 * child by killing it, or by carrying its state over Node's IPC. Arguments: way, bytes of state, folder in memory.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { RecordPipe } from '../../../drivers/owner/sim/channels.ts'
import type { WriteRecord } from '../../../drivers/program/inherit/record.ts'
import type { FromSupervisor, ToSupervisor, Way } from '../alternatives.ts'
import type { FromWriter, ToWriter } from './writer.ts'

const [way, size, folder] = process.argv.slice(2) as [Way, string, string]
const WRITER = join(folder, 'writer.mjs')
const DEADLINE_MS = 10_000

let generation = 0
let current: ChildProcess | null = null
/** Of each generation: its first and its last record. */
const first = new Map<number, bigint>()
const last = new Map<number, bigint>()
const pipe = RecordPipe.make(folder, 'line', 1, ({ fence, ns }: WriteRecord) => {
  if (!first.has(fence)) first.set(fence, ns)
  last.set(fence, ns)
})

/** One file, as a bundled program has; a child of many modules would only start slower. */
async function prepare(): Promise<void> {
  const { build, stop } = await import('esbuild')
  const entryPoints = [join(import.meta.dirname, 'writer.js')]
  await build({ entryPoints, bundle: true, outfile: WRITER, format: 'esm', platform: 'node', target: 'node20' })
  // its process would stay
  await stop()
}

function spawnWriter(waits: boolean): ChildProcess {
  const args = [WRITER, String(++generation), size, waits ? 'wait' : 'go']
  const { source } = pipe
  return spawn(process.execPath, args, {
    env: { PATH: '/usr/bin:/bin', LANG: 'C.UTF-8', TZ: 'UTC' },
    stdio: ['ignore', 'inherit', 'inherit', source.via === 'inherit' ? source.fd : 'ignore', ...ipc()],
  })
}

/** Only the way that talks pays for a channel. */
function ipc(): ['ipc'] | [] {
  return way === 'json-ipc' ? ['ipc'] : []
}

function exited(child: ChildProcess): Promise<unknown> {
  if (child.exitCode !== null || child.signalCode !== null) throw new Error('the writer ended by itself')
  return new Promise((resolve) => child.once('exit', resolve))
}
function heard(child: ChildProcess): Promise<FromWriter> {
  return new Promise((resolve, reject) => {
    const lost = () => reject(new Error('a writer ended before it answered'))
    child.once('exit', lost)
    child.once('message', (message: FromWriter) => {
      child.off('exit', lost)
      resolve(message)
    })
  })
}
const tell = (child: ChildProcess, message: ToWriter) => child.send(message)

async function writes(fence: number): Promise<void> {
  const until = performance.now() + DEADLINE_MS
  while (!first.has(fence)) {
    if (performance.now() > until) throw new Error(`generation ${fence} wrote nothing within ${DEADLINE_MS} ms`)
    await sleep(1)
  }
}

async function begin(): Promise<void> {
  current = spawnWriter(false)
  await writes(generation)
}

async function rest(): Promise<void> {
  if (current === null) return
  const child = current
  current = null
  const gone = exited(child)
  child.kill('SIGKILL')
  await gone
}

async function swap(): Promise<number> {
  // not in step with the ticks of the old one, which has a while to get warm
  await sleep(30 + Math.random() * 10)
  const before = generation
  if (way === 'json-ipc') await handOver()
  else {
    await rest()
    current = spawnWriter(false)
  }
  await writes(generation)
  // what the old one wrote is in the pipe before it
  return Number((first.get(generation) as bigint) - (last.get(before) as bigint)) / 1e6
}

async function handOver(): Promise<void> {
  const old = current
  if (old === null) throw new Error('nothing runs')
  const next = spawnWriter(true)
  await heard(next)
  const answer = heard(old)
  tell(old, { t: 'give' })
  const { state = '' } = await answer
  tell(next, { t: 'take', state })
  current = next
  await writes(generation)
  const gone = exited(old)
  old.kill('SIGKILL')
  await gone
}

async function obey(what: ToSupervisor): Promise<FromSupervisor> {
  try {
    if (what === 'swap') return { done: true, gapMs: await swap() }
    await (what === 'begin' ? begin() : rest())
    return { done: true }
  } catch (error) {
    const failed = error instanceof Error ? error.message : String(error)
    // the next swap finds a writer
    if (what === 'swap' && current === null) await begin().catch(() => {})
    return { failed }
  }
}

const prepared = prepare()
process.on('message', (what: ToSupervisor) => {
  void prepared.then(() => obey(what)).then((answer) => process.send?.(answer))
})
// a writer ends by itself when nobody reads its pipe any more
process.on('disconnect', () => process.exit())
