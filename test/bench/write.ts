/**
 * What one operation costs a program: over a descriptor that it inherited, over one that it opened itself with the
 * packages that people use, and through the broker in this process.
 *
 * Each is a process of its own, and only the one whose turn it is runs. A sample is the mean of a batch.
 */
import type { ChildProcess } from 'node:child_process'
import type { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { serveBroker } from '../../drivers/owner/broker.ts'
import type { FromWrites } from './children/writes.ts'
import { kernelDevices, type Prepared, standIns } from './devices.ts'
import type { BenchOptions } from './main.ts'
import { OPERATIONS, type Operation, type Task, WAYS, type Way } from './operations.ts'
import { OWN } from './own.ts'
import { ENV, start } from './rig.ts'
import { type Goal, type Row, ratio, Series } from './stats.ts'

const SAMPLES = 300
const CHILD = fileURLToPath(new URL('children/writes.js', import.meta.url))
/** Without a device, of the way that a kernel value file is driven. */
const GOAL: Goal = { p50: 0.6 }
/** Inherited beside in-process. */
const RATIO = 1.3

export async function write({ samples = SAMPLES, wanted, kernel, report }: BenchOptions): Promise<Series[]> {
  const prepared = kernel ? kernelDevices() : standIns()
  const all: Contender[] = []
  for (const operation of OPERATIONS) {
    for (const way of WAYS) {
      if (!wanted(`${operation}-${way}`)) continue
      report.progress(`write: starting ${operation}-${way}`)
      const contender = await Contender.make(prepared, operation, way)
      if (contender !== null) all.push(contender)
    }
  }
  for (let i = 0; i < samples; i++) {
    for (const contender of all) {
      report.progress(`write: ${i + 1} of ${samples}, ${contender.series.variant}`)
      await contender.round()
    }
  }
  for (const contender of all) contender.end()
  prepared.close()

  const rows = new Map(all.map(({ series }) => [series.variant, series.row()]))
  for (const row of rows.values()) report.row(row)
  for (const operation of OPERATIONS.filter((each) => each !== 'record')) {
    const [same, own, brokered] = WAYS.map((way) => rows.get(`${operation}-${way}`)) as (Row | undefined)[]
    const bench = kernel ? 'write-kernel' : 'write'
    const inherited = operation === 'i2c-write-byte' ? rows.get('i2c-write-inherited') : same
    if (inherited === undefined) continue
    if (own !== undefined && prepared.comparable(operation))
      report.row(ratio(bench, `${operation}-ratio`, inherited, own, { most: RATIO }))
    if (brokered !== undefined) report.row(ratio(bench, `${operation}-broker-ratio`, brokered, inherited))
  }
  return all.map(({ series }) => series)
}

class Contender {
  readonly series: Series
  readonly #child: ChildProcess

  private constructor(series: Series, child: ChildProcess) {
    this.series = series
    this.#child = child
  }

  /** null: it cannot be done that way here. */
  static async make(prepared: Prepared, operation: Operation, way: Way): Promise<Contender | null> {
    const { devices, batch } = prepared
    const source = prepared.inherited(operation)
    const owned = way === 'brokered' ? prepared.owned(operation) : undefined
    const can = { inherited: source, 'in-process': prepared.own(operation) || undefined, brokered: owned }
    if (can[way] === undefined) return null
    const device = operation.startsWith('i2c')
    const task: Task = {
      operation,
      way,
      devices,
      batch: batch[way],
      grant: {
        name: operation,
        id: owned?.id ?? 1,
        kind: device ? 'i2c' : 'output',
        ...(source === undefined ? {} : { encoding: source.encoding }),
      },
    }
    // no hole in the table
    const fd = source === undefined || (way !== 'inherited' && devices === 'kernel') ? 'ignore' : source.fd
    const child = start(process.execPath, [CHILD, JSON.stringify(task)], {
      env: { PATH: ENV.PATH, LANG: ENV.LANG, TZ: ENV.TZ },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc', 'pipe', fd],
    })
    if (owned !== undefined) serveBroker(child.stdio[4] as unknown as Duplex, new Map([[owned.id, owned]]), () => 1)
    const bench = devices === 'kernel' ? 'write-kernel' : 'write'
    const what = { inherited: '', 'in-process': OWN[operation], brokered: 'a request and its answer' }[way]
    const note = [what, prepared.note(operation, way)].filter(Boolean).join('; ')
    const goal = devices === 'none' && operation === 'value' && way === 'inherited' ? GOAL : undefined
    const contender = new Contender(new Series(bench, `${operation}-${way}`, 'us', { note, goal }), child)
    const first = await contender.#heard()
    if ('failed' in first) throw new Error(`${contender.series.variant}: ${first.failed}`)
    return contender
  }

  async round(): Promise<void> {
    const answer = this.#heard()
    this.#child.send('batch')
    const said = await answer.catch((error: Error) => ({ failed: error.message }))
    if ('us' in said) this.series.add(said.us)
    else this.series.fail(said.failed)
  }

  end(): void {
    this.#child.kill()
  }

  #heard(): Promise<FromWrites> {
    const child = this.#child
    return new Promise((resolve, reject) => {
      const lost = () => reject(new Error('its process has ended'))
      if (child.exitCode !== null || child.signalCode !== null) return lost()
      child.once('exit', lost)
      child.once('message', (message: FromWrites) => {
        child.off('exit', lost)
        resolve(message)
      })
    })
  }
}
