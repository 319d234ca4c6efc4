/**
 * Invariant: a child gets exactly the descriptors of its table (HANDOVER 3.3), and counts as dead only when its exit was seen
 * (test/runtime/confinement.test.ts, test/runtime/child.test.ts).
 *
 * The process of a program instance. It runs the runtime's own loader with only the environment names below (HANDOVER 3.4),
 * in a process group of its own, so that a signal also reaches its children.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import type { Duplex, Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { grantOf, type OwnedHandle } from '../../../drivers/owner/backend.ts'
import { serveBroker } from '../../../drivers/owner/broker.ts'
import type { Grant } from '../../../drivers/program/handle.ts'
import { Budget, PROGRAM_ALLOWANCE } from '../../plumbing/budget.ts'
import { readLines } from '../../plumbing/lines.ts'
import { type Entered, FD, type FromProgram, type InitMessage, MAX_LINE, type ToProgram, WIRE } from '../../sdk/wire.ts'
import type { Cause } from '../slot/cause.ts'
import type { SlotLog } from '../slot/log.ts'
import { type Mask, maskMessage, maskOf } from '../slot/mask.ts'
import { lastWords, parseFromProgram } from '../slot/messages.ts'
import type { ProgramInstance } from '../slot/running.ts'
import { watchDataFolder } from './datafolder.ts'
import { continueProcess, descendantsOf, killUser, signal, stopProcess } from './fence.ts'
import { raise } from './realtime.ts'
import { openFifoEnd, type RunDir } from './rundir.ts'
import type { ChildSandbox } from './sandboxes.ts'

/** Descriptors between the broker and the first grant. */
const FIXED = FD.firstGrant - FD.outbox

export interface ChildOptions {
  dir: RunDir
  cell(grants: readonly Grant[]): ChildSandbox
  predecessor: ProgramInstance | null
  handles: readonly OwnedHandle[]
  log: SlotLog
}

/** What `init` tells a child about its program. */
export type Assignment = Pick<
  InitMessage,
  | 'slot'
  | 'program'
  | 'version'
  | 'generation'
  | 'heartbeatMs'
  | 'rehearsals'
  | 'brokerDeadlineMs'
  | 'endMs'
  | 'stopMs'
  | 'params'
> & {
  /** The config values that the manifest names (HANDOVER 15.2). */
  config: Record<string, string>
}

interface Listener {
  message(message: FromProgram): void
  /** Called once, for whatever reason the child ended. */
  exit(): void
}

export class Child implements ProgramInstance {
  readonly options: ChildOptions
  readonly process: ChildProcess
  readonly exited: Promise<void>
  /** Resolves when the child is confined in its sandbox and waits for a program. */
  readonly waiting: Promise<void>
  /** The highest fencing number this child may use: 0 until it is armed or started. */
  fence = 0
  alive = true
  fatal: Cause | null = null
  entered: Entered | null = null
  /** Exit code or signal; null while the child runs, or when it could not be started. */
  ending: string | null = null
  readonly #sandbox: ChildSandbox
  readonly #control: Duplex
  #listener: Listener | null = null
  #mask: Mask | null = null
  /** The exit was handled. */
  #isGone = false
  #waits = (): void => {}

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
    const sandbox = options.cell(grants)
    this.#sandbox = sandbox
    const own: number[] = []
    try {
      // Opened one by one: when the predecessor ends meanwhile, its files are gone, and the open ones have to be closed.
      own.push(openSync(dir.outbox, 'r+'))
      own.push(openSync(dir.inbox, 'r'))
      own.push(openFifoEnd(dir.fifo, 'write'))
      // /dev/null stands for a missing predecessor, so that the table has no holes (HANDOVER 3.3).
      own.push(predecessor === null ? openSync('/dev/null', 'r') : openFifoEnd(predecessor.options.dir.fifo, 'read'))
      own.push(openSync(predecessor === null ? '/dev/null' : predecessor.options.dir.outbox, 'r'))
      own.push(openSync(dir.scratch, 'r+'))
      for (const file of sandbox.extra) own.push(openSync(file, 'r'))
      const [command, ...args] = sandbox.command
      this.process = spawn(command as string, args, {
        cwd: dir.path,
        // Newer Nodes make no io_uring then, which a filter does not see (HANDLES 13.14).
        env: { PATH: '/usr/bin:/bin', LANG: 'C.UTF-8', TZ: process.env.TZ ?? 'UTC', UV_USE_IO_URING: '0' },
        stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', ...own.slice(0, FIXED), ...passed, ...own.slice(FIXED)],
        detached: true,
      })
    } catch (error) {
      sandbox.close()
      throw error
    } finally {
      for (const fd of own) closeSync(fd)
    }
    this.waiting = new Promise((resolve) => {
      this.#waits = resolve
    })
    let deliver = (): void => {}
    this.exited = new Promise((resolve) => {
      const ended = () => {
        if (!this.alive) return
        this.alive = false
        // libuv may report an exit before it has read what the process wrote. The second immediate comes after another poll
        // of the pipes.
        setImmediate(() => setImmediate(gone))
      }
      const gone = () => {
        // The last message may say why the child died, so it is handled before the exit.
        deliver()
        this.#isGone = true
        resolve()
        // The child's own children end with it.
        void this.#empty(sandbox.killMs).then(() => sandbox.close())
        dir.remove()
        this.#listener?.exit()
      }
      this.process.once('exit', (code, signal) => {
        this.ending = signal ?? `exit code ${code}`
        ended()
      })
      this.process.once('error', ended)
    })
    const [, stdout, stderr, control, broker] = this.process.stdio as [null, Readable, Readable, Duplex, Duplex]
    this.#control = control
    const masked = (text: string) => this.#mask?.(text) ?? text
    options.log.drain(stdout, 'stdout', () => this.fence, masked)
    options.log.drain(stderr, 'stderr', () => this.fence, masked)
    control.on('error', () => {})
    broker.on('error', () => {})
    const hear = (line: string) => this.#hear(line)
    deliver = readLines(control, MAX_LINE, hear, (why) => this.#cutOff(why), new Budget(PROGRAM_ALLOWANCE))
    // Combined transfers of an inherited I2C device go through the broker, too (HANDLES 12.5).
    const served = handles.filter((h) => h.kind === 'i2c' || h.grant().via === 'broker')
    const brokered = new Map(served.map((h) => [h.id, h]))
    serveBroker(broker, brokered, () => this.fence)
    this.send({ t: 'cell', grants, confine: sandbox.confine })
  }

  /** Gives the child its program, which is in its folder by now; called once. Before, messages and exit have no listener. */
  begin({ config, ...assignment }: Assignment, listener: Listener): void {
    this.#listener = listener
    this.#mask = maskOf(config)
    if (this.#isGone) return listener.exit()
    this.#sandbox.reveal()
    watchDataFolder(this, this.#sandbox.data)
    const role = this.options.predecessor === null ? 'first' : 'candidate'
    // One message each: all values together could exceed the longest line (HANDOVER 3.2).
    for (const [name, value] of Object.entries(config)) this.send({ t: 'config', name, value })
    this.send({
      t: 'init',
      wire: WIRE,
      file: this.#sandbox.file,
      dataDir: this.#sandbox.data.inside,
      role,
      ...assignment,
    })
  }

  get pid(): number {
    return this.process.pid ?? -1
  }

  send(message: ToProgram): void {
    if (this.alive) this.#control.write(`${JSON.stringify(message)}\n`)
  }

  /** True when it was seen that no process of the child can run; valid until `thaw` (HANDLES 10.3, 10.8). */
  freeze(): Promise<boolean> {
    const { leaf, uid, freezeMs } = this.#sandbox
    if (leaf !== null) return leaf.freeze(freezeMs)
    return this.alive ? stopProcess(this.pid, uid, freezeMs) : this.#empty(freezeMs)
  }

  thaw(): void {
    const { leaf, uid } = this.#sandbox
    if (leaf === null) continueProcess(this.pid, uid)
    else leaf.thaw()
  }

  raise(): void {
    const { leaf, realtime } = this.#sandbox
    if (realtime === 0 || !this.alive) return
    try {
      raise(leaf?.pids() ?? [this.pid], realtime)
    } catch (error) {
      const message = `the board asks for "realtime": ${realtime}, which is not possible here: ${String(error)}`
      this.fatal = { code: 'died-at-start', message }
      void this.kill()
    }
  }

  get freezeMs(): number {
    return this.#sandbox.freezeMs
  }

  /** SIGKILL to all processes of the child. True when their end was seen in time. */
  async kill(deadlineMs = this.#sandbox.killMs): Promise<boolean> {
    // Found before the kill: a process that left the group is known only as a descendant (HANDOVER 13.8).
    const others = this.#isBare && this.alive ? descendantsOf(this.pid) : []
    for (const pid of others) signal(pid, 'SIGKILL')
    this.signal('SIGKILL')
    const timer = new AbortController()
    const late = sleep(deadlineMs, false, { signal: timer.signal }).catch(() => false)
    const emptied = await this.#empty(deadlineMs)
    const ended = await Promise.race([this.exited.then(() => true), late])
    timer.abort()
    // This process may be late itself: an exit that has happened is reported in the next turn of the event loop.
    if (!ended) await new Promise(setImmediate)
    return emptied && !this.alive
  }

  /** The child has neither a control group nor a user of its own. */
  get #isBare(): boolean {
    return this.#sandbox.leaf === null && this.#sandbox.uid === null
  }

  /** Ends every process that the child started, also after the child's own end (HANDOVER 13.8). */
  #empty(deadlineMs: number): Promise<boolean> {
    const { leaf, uid } = this.#sandbox
    // Without control group and user, only the process group can be signalled; the SDK ends processes that left it.
    if (this.#isBare && this.process.pid !== undefined) signal(-this.process.pid, 'SIGKILL')
    if (leaf !== null) return leaf.kill(deadlineMs)
    return uid === null ? Promise.resolve(true) : killUser(uid, deadlineMs)
  }

  contained(): boolean {
    const { leaf } = this.#sandbox
    return leaf === null || !this.alive || leaf.holds(this.pid)
  }

  signal(name: NodeJS.Signals): void {
    if (!this.alive || this.process.pid === undefined) return
    try {
      process.kill(-this.process.pid, name)
    } catch {
      // ESRCH: the process has ended, and its exit event follows.
    }
  }

  #cutOff(why: 'an endless line' | 'a flood'): void {
    if (why === 'a flood') this.fatal = { code: 'crashed', message: 'the program floods its channel to the runtime' }
    void this.kill()
  }

  #hear(line: string): void {
    const heard = parseFromProgram(line)
    const message = heard === null || this.#mask === null ? heard : maskMessage(heard, this.#mask)
    this.fatal = lastWords(message) ?? this.fatal
    if (message === null) return void this.kill()
    if (message.t === 'enter') this.entered = message.place
    if (message.t === 'waiting') this.#waits()
    else this.#listener?.message(message)
  }
}
