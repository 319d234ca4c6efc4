/**
 * The body's link to its guard. Invariant: while the body lives, a guard holds a copy of every hardware descriptor, except
 * while a dead guard is being replaced (HANDLES 14.1, 14.8; test/runtime/guard/guard.test.ts).
 */
import { type ChildProcess, spawn } from 'node:child_process'
import type { Duplex } from 'node:stream'
import { timeScale } from '../../../deploy/shared/timescale.ts'
import type { BoardHandle } from '../../../drivers/board/types.ts'
import type { KeptHandle } from '../../../drivers/owner/backend.ts'
import { safeCalls } from '../../../drivers/owner/linux/safe.ts'
import { safeValue } from '../../../drivers/owner/values.ts'
import { isDriven } from '../../../drivers/program/handle.ts'
import type { Latch } from '../../guard/latch.ts'
import {
  type FromGuard,
  GUARD_FORMAT,
  type HeldHandle,
  type SafeDrive,
  type StopInput,
  type ToGuard,
} from '../../guard/wire.ts'
import { runtimePath } from '../../places.ts'
import { Backoff } from '../../plumbing/backoff.ts'
import { readLines } from '../../plumbing/lines.ts'

const MAIN = runtimePath('guard/main.js')
/** Node flags for a small heap and few threads. */
const FLAGS = ['--max-old-space-size=16', '--max-semi-space-size=1', '--single-threaded']
const MAX_LINE = 65_536
/** ms, before MEDULLA_TIME_SCALE */
const READY_MS = 10_000
const END_MS = 1000
/** Longer than the guard needs when programs are not seen stopped in time, and it drives twice (HANDLES 14.2). */
const STOP_MS = 3000
/** Time between two pulses, in ms. */
const PULSE_MS = 100
const RESTART_MS = { first: 100, most: 10_000, calmAfter: 60_000 }

export interface GuardedHandle {
  readonly name: string
  readonly id: number
  readonly entry: BoardHandle
  /** From `backend.info(name)`. */
  readonly kept: KeptHandle
}

export interface GuardLinkOptions {
  /** The folder of the guard's socket: it belongs to this home alone, and the next body finds it. */
  readonly folder: string
  /** Model and chip of the board: descriptors are of no use on another one. */
  readonly about: unknown
  readonly handles: readonly GuardedHandle[]
  /** The control group of all programs; null: the guard ends the pids of {@link GuardLink.programs}. */
  readonly cgroup: string | null
  /** SCHED_FIFO priority of programs; the guard's is one higher. 0: none. */
  readonly realtime: number
  /** The input of the emergency stop; its handle is among `handles`. */
  readonly stopInput: StopInput | null
  /** The open latch file, which the caller closes; null: there is none. */
  readonly latchFd: number | null
  /** `timing.bodyMs`, unscaled. */
  readonly bodyMs: number
  /** The guard saw the input of the emergency stop at its level, and has stopped everything. */
  stopped(latch: Latch): void
  note(level: 'info' | 'warn' | 'error', text: string): void
}

/** The guard of a runtime that is replaced: its pid, and the descriptor of its lifeline. */
export interface SavedGuard {
  readonly pid: number
  readonly lifeline: number
}

export class GuardLink {
  readonly #options: GuardLinkOptions
  readonly #handles: GuardedHandle[]
  readonly #scale = timeScale()
  readonly #backoff = new Backoff(RESTART_MS.first, RESTART_MS.most)
  #child: ChildProcess | null = null
  #pids: readonly number[] = []
  #readyAt = 0
  #closed = false
  #restarting: NodeJS.Timeout | null = null
  #pulse: NodeJS.Timeout | null = null
  /** Questions without an answer yet, oldest first: the guard answers in order. */
  #waiting: { kind: 'stopped' | 'released'; answer(message: FromGuard | null): void }[] = []

  private constructor(options: GuardLinkOptions) {
    this.#options = options
    // The guard drives in this order: lines first, because a transfer may wait for its bus.
    const rank = ({ entry }: GuardedHandle) => Number(entry.kind !== 'output') + Number(!isDriven(entry.kind))
    this.#handles = options.handles.filter(({ kept }) => kept.fds.length > 0).sort((a, b) => rank(a) - rank(b))
  }

  /** Resolves when the guard holds every descriptor and listens; rejects when it cannot. The caller keeps its descriptors. */
  static async start(options: GuardLinkOptions): Promise<GuardLink> {
    const guard = new GuardLink(options)
    await guard.#spawn()
    return guard
  }

  get pid(): number | null {
    return this.#child?.pid ?? null
  }

  /** The pids of all programs that run now, for a host without control groups. */
  programs(pids: readonly number[]): void {
    this.#pids = [...pids]
    this.#send({ t: 'pids', pids: this.#pids })
  }

  /** Tells the guard what the next body needs and cannot read from the kernel: values, fences, sequence numbers. */
  keep(handles: readonly Pick<GuardedHandle, 'name' | 'kept'>[]): void {
    this.#send({ t: 'kept', kept: Object.fromEntries(handles.map(({ name, kept }) => [name, withoutFds(kept)])) })
  }

  /**
   * The guard freezes every program, drives every safe level and latches (HANDLES 6.7). True when it has; false when there is
   * no guard at present, or it did not answer in time. The body does the same in any case.
   */
  async stop(reason: string): Promise<boolean> {
    return (await this.#ask({ t: 'stop', reason }, 'stopped')) !== null
  }

  /** Releases the guard's latch. False when the guard sees the input at its level. */
  async release(): Promise<boolean> {
    const answer = await this.#ask({ t: 'release' }, 'released')
    return answer?.t !== 'released' || !answer.pressed
  }

  /** Sends pulses from the event loop; the guard kills a body that sends none for `bodyMs` (HANDLES 14.11). */
  watchBody(): void {
    const pulse = () => this.#send({ t: 'pulse' })
    this.#pulse ??= setInterval(pulse, PULSE_MS)
    this.#pulse.unref()
    pulse()
  }

  /** Before the runtime is replaced: the guard waits this long for a pulse, in ms before MEDULLA_TIME_SCALE (HANDOVER 18.4). */
  pause(forMs: number): void {
    if (this.#pulse !== null) clearInterval(this.#pulse)
    this.#pulse = null
    this.#send({ t: 'pulse', forMs })
  }

  /** The lifeline, for the next runtime; null while there is no guard, or something is not written yet. */
  save(): SavedGuard | null {
    const lifeline = this.#child?.stdio[3] as (Duplex & { _handle?: { fd: number } | null }) | undefined
    const fd = lifeline?._handle?.fd ?? -1
    if (this.pid === null || this.#restarting !== null || fd < 0 || lifeline?.writableLength !== 0) return null
    return { pid: this.pid, lifeline: fd }
  }

  /** The body ends and has driven the safe levels: the guard ends, and drives nothing. */
  async end(): Promise<void> {
    this.#closed = true
    if (this.#pulse !== null) clearInterval(this.#pulse)
    if (this.#restarting !== null) clearTimeout(this.#restarting)
    const child = this.#child
    if (child === null || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    this.#send({ t: 'end' })
    const timer = setTimeout(() => child.kill('SIGKILL'), END_MS * this.#scale)
    await ended
    clearTimeout(timer)
  }

  #spawn(): Promise<void> {
    const { realtime, latchFd } = this.#options
    const node = [process.execPath, ...FLAGS, MAIN]
    const [command = '', ...args] = realtime > 0 ? ['chrt', '-f', String(Math.min(99, realtime + 1)), ...node] : node
    const child = spawn(command, args, {
      // In a session of its own, so that no signal to the body's group ends it (HANDLES 14.1).
      detached: true,
      env: { PATH: process.env.PATH, JOURNAL_STREAM: process.env.JOURNAL_STREAM },
      stdio: [
        ...(['ignore', 'ignore', 'inherit', 'pipe'] as const),
        latchFd ?? 'ignore',
        ...this.#handles.flatMap(({ kept }) => kept.fds),
      ],
    })
    this.#child = child
    const lifeline = child.stdio[3] as Duplex
    lifeline.on('error', () => {})
    this.#send(this.#init())
    if (this.#pids.length > 0) this.programs(this.#pids)
    return new Promise((resolve, reject) => {
      let ready = false
      const failed = (why: string) => {
        clearTimeout(timer)
        if (ready) this.#restartLater(why)
        else {
          child.kill('SIGKILL')
          reject(new Error(`the guard did not start: ${why}`))
        }
      }
      const timer = setTimeout(() => failed('it did not answer in time'), READY_MS * this.#scale)
      const hear = (line: string) => {
        const message = JSON.parse(line) as FromGuard
        if (message.t === 'failed') return failed(message.message)
        if (message.t === 'stopped') this.#noteDrive(message)
        if (message.t === 'stopped' && message.byInput) return this.#options.stopped(message.latch)
        if (message.t === 'stopped' || message.t === 'released') return this.#answered(message)
        if (message.t !== 'ready') return
        clearTimeout(timer)
        ready = true
        this.#readyAt = performance.now()
        resolve()
      }
      readLines(lifeline, MAX_LINE, hear, () => {})
      child.once('error', (error) => failed(error.message))
      child.once('exit', (code, signal) => failed(`it ended with ${signal ?? code}`))
    })
  }

  #ask(question: ToGuard, kind: 'stopped' | 'released'): Promise<FromGuard | null> {
    const child = this.#child
    if (child === null || child.exitCode !== null || child.signalCode !== null) return Promise.resolve(null)
    return new Promise((resolve) => {
      const timer = setTimeout(() => waiting.answer(null), STOP_MS * this.#scale)
      const waiting = {
        kind,
        answer: (message: FromGuard | null) => {
          clearTimeout(timer)
          this.#waiting = this.#waiting.filter((other) => other !== waiting)
          resolve(message)
        },
      }
      this.#waiting.push(waiting)
      this.#send(question)
    })
  }

  /** Logs what the guard could not do at a stop. */
  #noteDrive({ confirmed, failed }: SafeDrive): void {
    if (!confirmed) this.#options.note('error', 'the guard did not see every program stopped before it drove')
    for (const problem of failed) this.#options.note('error', `the guard could not drive ${problem}`)
  }

  #answered(message: FromGuard): void {
    this.#waiting.find(({ kind }) => kind === message.t)?.answer(message)
  }

  /** A guard that ends is replaced, after 0.1 s, doubled each time up to 10 s (HANDLES 14.8). */
  #restartLater(why: string): void {
    for (const { answer } of [...this.#waiting]) answer(null)
    if (this.#closed || this.#restarting !== null) return
    if (performance.now() - this.#readyAt > RESTART_MS.calmAfter) this.#backoff.reset()
    const wait = this.#backoff.nextMs()
    this.#options.note('error', `no guard: ${why}; starting a new one in ${wait} ms`)
    this.#restarting = setTimeout(() => {
      this.#restarting = null
      if (this.#closed) return
      this.#spawn().then(
        () => this.#options.note('info', 'a guard holds the handles again'),
        (error: Error) => this.#restartLater(error.message),
      )
    }, wait)
  }

  #init(): ToGuard {
    const { folder, about, cgroup, stopInput, bodyMs, latchFd } = this.#options
    const handles = this.#handles.map(
      ({ name, id, entry, kept }): HeldHandle => ({
        name,
        id,
        entry,
        fds: kept.fds.length,
        kept: withoutFds(kept),
        safe: safeCalls(entry, kept),
        safeValue: safeValue(entry),
      }),
    )
    const watched = { stopInput, latch: latchFd !== null, bodyMs }
    return { t: 'init', format: GUARD_FORMAT, folder, about, handles, cgroup, scale: this.#scale, ...watched }
  }

  #send(message: ToGuard): void {
    const lifeline = this.#child?.stdio[3] as Duplex | undefined
    if (lifeline?.writable === true) lifeline.write(`${JSON.stringify(message)}\n`)
  }
}

function withoutFds({ fds: _, ...rest }: KeptHandle): Omit<KeptHandle, 'fds'> {
  return rest
}
