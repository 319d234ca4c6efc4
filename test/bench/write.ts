/**
 * What one write of an output costs a program: in its own process, with the body's end in this one.
 *
 * A sample is the mean of a batch of 1000 writes; the variants take turns batch by batch.
 */

import { spawnSync } from 'node:child_process'
import { closeSync, constants, openSync } from 'node:fs'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { parseBoard } from '../../drivers/board.ts'
import { serveBroker } from '../../drivers/broker/server.ts'
import { SimBackend } from '../../drivers/sim/backend.ts'
import { World } from '../../drivers/sim/world.ts'
import type { BenchOptions } from './main.ts'
import { ENV, start, temporary } from './rig.ts'
import { Series } from './stats.ts'

const SAMPLES = 300
const CHILD = fileURLToPath(new URL('children/writes.js', import.meta.url))

export type WriteVariant = keyof typeof NOTES
export type FromWrites = { variant: WriteVariant; us: number } | { end: true }

const NOTES = {
  'inherited-text': 'one byte at position 0 of a file on tmpfs, as a kernel value file is driven',
  'inherited-record': 'a record into a pipe, which another process drains',
  brokered: 'a request to another process and its answer',
  'in-process': 'a call into the simulated world, no process between',
}
/** For kernel descriptors. */
const GOAL = { p50: 0.6 }

export async function write({ samples = SAMPLES, wanted, report }: BenchOptions): Promise<Series[]> {
  const folder = temporary(true)
  const variants = (Object.keys(NOTES) as WriteVariant[]).filter(wanted)
  const series = new Map(
    variants.map((variant) => {
      const goal = variant === 'inherited-text' ? GOAL : undefined
      return [variant, new Series('write', variant, 'us', { note: NOTES[variant], goal })]
    }),
  )
  const value = join(folder, 'value')
  const fifo = join(folder, 'fifo')
  if (spawnSync('mkfifo', ['-m', '600', fifo]).status !== 0) throw new Error('mkfifo failed')
  // read-write, so that neither open waits for the other
  const guard = openSync(fifo, constants.O_RDWR)
  const fds = [openSync(value, 'w+', 0o600), openSync(fifo, constants.O_WRONLY)]
  const drain = start('cat', [fifo], { stdio: ['ignore', 'ignore', 'inherit'] })
  const child = start(process.execPath, [CHILD, String(samples), folder, ...variants], {
    env: { PATH: ENV.PATH, LANG: ENV.LANG, TZ: ENV.TZ },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc', 'pipe', ...fds],
  })
  for (const fd of fds) closeSync(fd)
  serve(child.stdio[4] as unknown as Duplex, join(folder, 'handles'))
  const status = await new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
    child.on('message', (message: FromWrites) => {
      if ('end' in message) return
      series.get(message.variant)?.add(message.us)
      report.progress(`write: ${message.variant}`)
    })
  })
  drain.kill()
  closeSync(guard)
  for (const each of series.values()) {
    for (let i = each.samples.length; i < samples; i++) each.fail(`missing: the writing process ended with ${status}`)
    report.row(each.row())
  }
  return [...series.values()]
}

/** The body's side of a broker, as the runtime has it. */
function serve(socket: Duplex, folder: string): void {
  const board = parseBoard(
    JSON.stringify({ model: 'sim', handles: { line: { kind: 'output', line: 'GPIO17', via: 'broker' } } }),
    'board',
  )
  const backend = new SimBackend({ world: new World(), folder })
  const handle = backend.open('line', 1, board.handles.line as (typeof board.handles)[string])
  backend.advance(1, ['line'])
  serveBroker(socket, new Map([[1, handle]]), () => 1)
}
