/**
 * Invariant: a child gets exactly the descriptors of its table, and is dead only when its exit was seen.
 *
 * The loader is the runtime's own file; the environment is empty but for the few names below; the child is a process
 * group of its own, so that a signal reaches what it forked (HANDOVER 3.4).
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import type { Duplex, Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { grantOf, type OwnedHandle } from '../../drivers/backend.ts'
import { serveBroker } from '../../drivers/broker/server.ts'
import type { Grant } from '../../drivers/handle.ts'
import { FD, type FromProgram, type Init, MAX_LINE, type ToProgram, WIRE } from '../sdk/wire.ts'
import { readLines } from './lines.ts'
import type { SlotLog } from './log.ts'
import { parseFromProgram } from './messages.ts'
import { openFifoEnd, type RunDir } from './rundir.ts'

const LOADER = fileURLToPath(new URL('../sdk/loader.js', import.meta.url))

export interface ChildOptions {
  slot: string
  program: string
  version: string
  generation: number
  dir: RunDir
  predecessor: Child | null
  handles: readonly OwnedHandle[]
  log: SlotLog
  heartbeatMs: number
  rehearsals: number
  brokerDeadlineMs: number
  /** SCHED_FIFO priority, 0 for none */
  realtime: number
  params: Record<string, unknown>
  onMessage(message: FromProgram): void
  onExit(): void
}

export class Child {
  readonly options: ChildOptions
  readonly process: ChildProcess
  readonly exited: Promise<void>
  /** Highest fencing number this child may use: 0 until it was armed or started. */
  fence = 0
  alive = true
  /** What it said before it died, if it said anything. */
  fatal: { code: string; message: string } | null = null
  readonly #control: Duplex

  constructor(options: ChildOptions) {
    this.options = options
    const { dir, predecessor, handles } = options
    const grants: Grant[] = []
    const passed: number[] = []
    for (const handle of handles) {
      const given = handle.grant()
      grants.push(grantOf(handle, given, FD.firstGrant + passed.length))
      if (given.via === 'inherit') passed.push(given.fd)
    }
    const own = [
      openSync(dir.outbox, 'r+'),
      openSync(dir.inbox, 'r'),
      openFifoEnd(dir.fifo, 'write'),
      // HANDOVER 3.3: no holes in the table
      predecessor === null ? openSync('/dev/null', 'r') : openFifoEnd(predecessor.options.dir.fifo, 'read'),
      openSync(predecessor === null ? '/dev/null' : predecessor.options.dir.outbox, 'r'),
      openSync(dir.scratch, 'r+'),
    ]
    try {
      const [command, ...args] = commandLine(options.realtime)
      this.process = spawn(command as string, args, {
        cwd: dir.path,
        env: { PATH: '/usr/bin:/bin', LANG: 'C.UTF-8', TZ: process.env.TZ ?? 'UTC' },
        stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', ...own, ...passed],
        detached: true,
      })
    } finally {
      for (const fd of own) closeSync(fd)
    }
    this.exited = new Promise((resolve) => {
      const ended = () => {
        if (!this.alive) return
        this.alive = false
        resolve()
        options.onExit()
      }
      this.process.once('exit', ended)
      this.process.once('error', ended)
    })
    const [, stdout, stderr, control, broker] = this.process.stdio as [null, Readable, Readable, Duplex, Duplex]
    this.#control = control
    options.log.drain(stdout, 'stdout', () => this.fence)
    options.log.drain(stderr, 'stderr', () => this.fence)
    control.on('error', () => {})
    broker.on('error', () => {})
    readLines(
      control,
      MAX_LINE,
      (line) => this.#hear(line),
      () => this.kill(),
    )
    const brokered = new Map(handles.filter((h) => h.grant().via === 'broker').map((h) => [h.id, h]))
    serveBroker(broker, brokered, () => this.fence)
    this.send(this.#init(grants))
  }

  get pid(): number {
    return this.process.pid ?? -1
  }

  send(message: ToProgram): void {
    if (this.alive) this.#control.write(`${JSON.stringify(message)}\n`)
  }

  /** SIGKILL to the whole group; resolves when the exit was seen. */
  async kill(): Promise<void> {
    this.signal('SIGKILL')
    await this.exited
  }

  signal(name: NodeJS.Signals): void {
    if (!this.alive || this.process.pid === undefined) return
    try {
      process.kill(-this.process.pid, name)
    } catch {
      // ESRCH: its exit event is on its way
    }
  }

  #hear(line: string): void {
    const message = parseFromProgram(line)
    if (message === null) {
      this.fatal ??= { code: 'takeover-failed', message: 'the program sent a message that is not in the protocol' }
      void this.kill()
      return
    }
    if (message.t === 'fatal') this.fatal = { code: message.code, message: message.message }
    this.options.onMessage(message)
  }

  #init(grants: Grant[]): Init {
    const { slot, program, version, generation, heartbeatMs, rehearsals, brokerDeadlineMs, params, dir } = this.options
    return {
      t: 'init',
      wire: WIRE,
      file: `${dir.path}/program/program.mjs`,
      slot,
      program,
      version,
      generation,
      role: this.options.predecessor === null ? 'first' : 'candidate',
      grants,
      heartbeatMs,
      rehearsals,
      brokerDeadlineMs,
      params,
    }
  }
}

/**
 * HANDOVER 3.6: on Linux setpriv(1) asks the kernel to end the child with the body (PR_SET_PDEATHSIG), and chrt(1) gives it SCHED_FIFO.
 * Both replace themselves by the program they start, so the pid stays.
 */
function commandLine(realtime: number): string[] {
  const node = [process.execPath, LOADER]
  if (process.platform !== 'linux') return node
  const scheduled = realtime > 0 ? ['chrt', '-f', String(realtime), ...node] : node
  return ['setpriv', '--pdeathsig', 'KILL', ...scheduled]
}
