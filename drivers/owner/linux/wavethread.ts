/** Main file of the worker thread that makes the edges of software PWM, at the highest priority it may have. */
import { setPriority } from 'node:os'
import { parentPort, workerData } from 'node:worker_threads'
import { GPIO_V2_LINE_SET_VALUES_IOCTL } from '../../program/inherit/line.ts'
import { loadSystem } from './system.ts'
import { WaveLoop } from './waves.ts'

export interface WaveThreadData {
  readonly memory: SharedArrayBuffer
  /** SCHED_FIFO priority; 0 is off. */
  readonly priority: number
  /** The ioctl that drives a line. Default: that of the GPIO character device. */
  readonly request?: number
}

export type FromWaveThread =
  | { readonly t: 'failed'; readonly lineFd: number; readonly message: string }
  | { readonly t: 'note'; readonly text: string }

/** sched(7) */
const SCHED_FIFO = 1
/** prctl(2): by how many ns a wait may end late. The kernel's default is 50 us. */
const PR_SET_TIMERSLACK = 29

const { memory, priority, request = GPIO_V2_LINE_SET_VALUES_IOCTL } = workerData as WaveThreadData
const system = loadSystem()
const send = (message: FromWaveThread) => parentPort?.postMessage(message)

/** Raises the priority of this thread alone: these calls take 0 for the calling thread. */
function raisePriority(): void {
  try {
    system.prctl(PR_SET_TIMERSLACK, 1)
    if (priority === 0) return setPriority(0, -20)
    const parameters = new Uint8Array(Int32Array.of(priority).buffer)
    system.bind('sched_setscheduler', 'int', ['int', 'int', 'void*'])(0, SCHED_FIFO, parameters)
  } catch (error) {
    // Without the permission, edges are late on a busy machine, but still correct.
    if (priority > 0) send({ t: 'note', text: `software PWM has no real-time priority: ${(error as Error).message}` })
  }
}

raisePriority()
new WaveLoop(memory, system, request, (lineFd, error) => send({ t: 'failed', lineFd, message: error.message })).run()
