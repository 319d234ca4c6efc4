/**
 * How late the edges of software PWM are (HANDLES 19): the thread of the runtime itself, whose every edge is counted. There
 * is no GPIO where this runs. So it drives an eventfd in place of a line: the ioctl FIONBIO goes the same way into the kernel
 * and takes a level as well, and only what the chip itself takes is not in it.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { loadSystem } from '../../drivers/owner/linux/system.ts'
import { Waves } from '../../drivers/owner/linux/waves.ts'
import type { WaveThreadData } from '../../drivers/owner/linux/wavethread.ts'
import { periodNs } from '../../drivers/program/servo.ts'
import type { BenchOptions } from './main.ts'
import { Series } from './stats.ts'

const THREAD = new URL('../../drivers/owner/linux/wavethread.js', import.meta.url)
/** asm-generic/ioctls.h: an int that is not 0 makes the descriptor non-blocking. */
const FIONBIO = 0x5421
const SECONDS = 20
/** The guard's, on a board with `"realtime": 50`. */
const PRIORITY = 51
const BUSY = 2

const BOARDS = [
  { name: '1x50Hz', waves: 1, hz: 50 },
  { name: '1x200Hz', waves: 1, hz: 200 },
  { name: '8x200Hz', waves: 8, hz: 200 },
] as const

/** `samples` is the number of seconds of each variant. */
export async function softpwm({ samples = SECONDS, wanted, realtime, report }: BenchOptions): Promise<Series[]> {
  const all: Series[] = []
  if (!realtime) report.say('SCHED_FIFO cannot be had here (chrt -f): its variants are left out')
  for (const { name, waves, hz } of BOARDS) {
    for (const busy of [0, BUSY]) {
      for (const priority of realtime ? [0, PRIORITY] : [0]) {
        const variant = `${name}-${busy === 0 ? 'idle' : 'busy'}${priority === 0 ? '' : '-fifo'}`
        if (!wanted(variant)) continue
        report.progress(`softpwm: ${variant}`)
        const series = await measure(variant, { waves, hz, busy, priority, seconds: samples })
        report.row(series.row())
        all.push(series)
      }
    }
  }
  return all
}

interface Measured {
  readonly waves: number
  readonly hz: number
  /** Processes that never rest. */
  readonly busy: number
  readonly priority: number
  readonly seconds: number
}

async function measure(variant: string, { waves: count, hz, busy, priority, seconds }: Measured): Promise<Series> {
  const folder = mkdtempSync(join(tmpdir(), 'medulla-softpwm-'))
  const loops: ChildProcess[] = []
  const fds: number[] = []
  try {
    const system = loadSystem()
    const waves = new Waves()
    const stopFd = openSync(join(folder, 'stop'), 'w+')
    fds.push(stopFd)
    const periods = Array.from({ length: count }, () => {
      const lineFd = system.bind('eventfd', 'int', ['uint', 'int'])(0, 0)
      fds.push(lineFd)
      const wave = waves.add({ lineFd, stopFd, periodNs: periodNs(hz), safe: 0 })
      if (wave === null) throw new Error('expected room for a wave')
      return wave
    })
    const data: WaveThreadData = { memory: waves.memory, priority, request: FIONBIO }
    const series = new Series('softpwm', variant, 'us')
    const worker = new Worker(THREAD, { workerData: data })
    worker.on('message', (message) => series.fail(JSON.stringify(message)))
    worker.on('error', (error) => series.fail(error.message))
    for (let n = 0; n < busy; n++) loops.push(spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }))
    // duty cycles of their own, so that edges fall together now and then
    for (const wave of periods) waves.pulse(wave, Math.round((periodNs(hz) * (wave + 1)) / (count + 1)))
    await sleep(seconds * 1000)
    const ended = new Promise((resolve) => worker.once('exit', resolve))
    waves.end()
    await ended
    const { edges, maxUs, missed } = waves.lateness()
    for (const [us, late] of waves.counts().entries()) for (let n = 0; n < late; n++) series.add(us)
    // later than the last count that there is
    if (maxUs > (series.samples.at(-1) ?? 0)) series.samples[series.samples.length - 1] = maxUs
    if (series.samples.length !== edges) series.fail(`${edges} edges, ${series.samples.length} of them counted`)
    series.note = `${missed} pulses of ${Math.round(edges / 2) + missed} left out`
    return series
  } finally {
    for (const loop of loops) loop.kill('SIGKILL')
    for (const fd of fds) closeSync(fd)
    rmSync(folder, { recursive: true, force: true })
  }
}
