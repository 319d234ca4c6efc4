/** The worker thread of the body that makes the edges of software PWM: as soon as the kernel lets it, and nothing else. */
import { setPriority } from 'node:os'
import { parentPort, workerData } from 'node:worker_threads'
import { GPIO_V2_LINE_SET_VALUES_IOCTL } from '../../program/inherit/line.ts'
import { loadSystem } from './system.ts'
import { WaveLoop } from './waves.ts'

export interface WaveThreadData {
  readonly memory: SharedArrayBuffer
  /** Of SCHED_FIFO; 0 is off. */
  readonly priority: number
  /** The ioctl that drives a line; absent: that of the GPIO character device. */
  readonly request?: number
}

export type FromWaveThread =
  | { readonly t: 'failed'; readonly lineFd: number; readonly message: string }
  | { readonly t: 'note'; readonly text: string }

/** sched(7) */
const SCHED_FIFO = 1
/** prctl(2): how much later than asked a wait may end, in ns. The kernel's default is 50 us. */
const PR_SET_TIMERSLACK = 29

const { memory, priority, request = GPIO_V2_LINE_SET_VALUES_IOCTL } = workerData as WaveThreadData
const system = loadSystem()
const say = (message: FromWaveThread) => parentPort?.postMessage(message)

/** Of this thread alone: 0 is the caller for each of these calls. */
function hurry(): void {
  try {
    system.prctl(PR_SET_TIMERSLACK, 1)
    if (priority === 0) return setPriority(0, -20)
    const parameters = new Uint8Array(Int32Array.of(priority).buffer)
    system.bind('sched_setscheduler', 'int', ['int', 'int', 'void*'])(0, SCHED_FIFO, parameters)
  } catch (error) {
    // Without a right to it, the edges are later on a busy machine, and no less right.
    if (priority > 0) say({ t: 'note', text: `software PWM has no real-time priority: ${(error as Error).message}` })
  }
}

hurry()
new WaveLoop(memory, system, request, (lineFd, error) => say({ t: 'failed', lineFd, message: error.message })).run()
