/**
 * Invariant: a child gets exactly the descriptors of its table, and is dead only when its exit was seen.
 *
 * The loader is the runtime's own file; the environment is empty but for the few names below; the child is a process
 * group of its own, so that a signal reaches what it forked (HANDOVER 3.4).
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

/** What a child is told of its program. */
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
  /** The values that the manifest names (HANDOVER 15.2). */
  config: Record<string, string>
}

interface Listener {
  message(message: FromProgram): void
  /** Once, whatever ended it. */
  exit(): void
}

export class Child implements ProgramInstance {
  readonly options: ChildOptions
  readonly process: ChildProcess
  readonly exited: Promise<void>
  /** It is in its cell, confined, and has read nothing of any program. */
  readonly waiting: Promise<void>
  /** Highest fencing number this child may use: 0 until it was armed or started. */
  fence = 0
  alive = true
  fatal: Cause | null = null
  entered: Entered | null = null
  /** null while it runs, or when it could not be started */
  ending: string | null = null
  readonly #cell: ChildSandbox
  readonly #control: Duplex
  #listener: Listener | null = null
  #mask: Mask | null = null
  /** Its end was handled. */
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
    const cell = options.cell(grants)
    this.#cell = cell
    const own: number[] = []
    try {
      // one after the other: a predecessor that ends meanwhile takes its files with it
      own.push(openSync(dir.outbox, 'r+'))
      own.push(openSync(dir.inbox, 'r'))
      own.push(openFifoEnd(dir.fifo, 'write'))
      // HANDOVER 3.3: no holes in the table
      own.push(predecessor === null ? openSync('/dev/null', 'r') : openFifoEnd(predecessor.options.dir.fifo, 'read'))
      own.push(openSync(predecessor === null ? '/dev/null' : predecessor.options.dir.outbox, 'r'))
      own.push(openSync(dir.scratch, 'r+'))
      for (const file of cell.extra) own.push(openSync(file, 'r'))
      const [command, ...args] = cell.command
      this.process = spawn(command as string, args, {
        cwd: dir.path,
        // without rings of libuv where that can be told (HANDLES 13.14)
        env: { PATH: '/usr/bin:/bin', LANG: 'C.UTF-8', TZ: process.env.TZ ?? 'UTC', UV_USE_IO_URING: '0' },
        stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', ...own.slice(0, FIXED), ...passed, ...own.slice(FIXED)],
        detached: true,
      })
    } catch (error) {
      cell.close()
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
        // libuv may see this end together with that of another process, before it has read what was written before: the
        // second immediate comes after one more look at the pipes.
        setImmediate(() => setImmediate(gone))
      }
      const gone = () => {
        // Its last message may hold the reason why it died, so it is handled before the exit.
        deliver()
        this.#isGone = true
        resolve()
        // what it has forked goes with it
        void this.#empty(cell.killMs).then(() => cell.close())
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
    // HANDLES 12.5: combined transfers of an inherited device, too
    const asked = handles.filter((h) => h.kind === 'i2c' || h.grant().via === 'broker')
    const brokered = new Map(asked.map((h) => [h.id, h]))
    serveBroker(broker, brokered, () => this.fence)
    this.send({ t: 'cell', grants, confine: cell.confine })
  }

  /** Once: its program, which lies in its folder by now. Messages and the exit of a child that has none are its own. */
  begin({ config, ...assignment }: Assignment, listener: Listener): void {
    this.#listener = listener
    this.#mask = maskOf(config)
    if (this.#isGone) return listener.exit()
    this.#cell.reveal()
    watchDataFolder(this, this.#cell.data)
    const role = this.options.predecessor === null ? 'first' : 'candidate'
    // one line each: all of them together could be longer than a line may be (HANDOVER 3.2)
    for (const [name, value] of Object.entries(config)) this.send({ t: 'config', name, value })
    this.send({ t: 'init', wire: WIRE, file: this.#cell.file, dataDir: this.#cell.data.inside, role, ...assignment })
  }

  get pid(): number {
    return this.process.pid ?? -1
  }

  send(message: ToProgram): void {
    if (this.alive) this.#control.write(`${JSON.stringify(message)}\n`)
  }

  /** True when nothing of it can run, until `thaw` (HANDLES 10.3, 10.8). */
  freeze(): Promise<boolean> {
    const { leaf, uid, freezeMs } = this.#cell
    if (leaf !== null) return leaf.freeze(freezeMs)
    return this.alive ? stopProcess(this.pid, uid, freezeMs) : this.#empty(freezeMs)
  }

  thaw(): void {
    const { leaf, uid } = this.#cell
    if (leaf === null) continueProcess(this.pid, uid)
    else leaf.thaw()
  }

  raise(): void {
    const { leaf, realtime } = this.#cell
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
    return this.#cell.freezeMs
  }

  /** SIGKILL to all of it. True when its end was seen in time. */
  async kill(deadlineMs = this.#cell.killMs): Promise<boolean> {
    // HANDOVER 13.8: those that have left its group are still its children now
    const others = this.#isBare && this.alive ? descendantsOf(this.pid) : []
    for (const pid of others) signal(pid, 'SIGKILL')
    this.signal('SIGKILL')
    const timer = new AbortController()
    const late = sleep(deadlineMs, false, { signal: timer.signal }).catch(() => false)
    const emptied = await this.#empty(deadlineMs)
    const ended = await Promise.race([this.exited.then(() => true), late])
    timer.abort()
    // this process may be late itself: what has ended meanwhile is told at its next turn
    if (!ended) await new Promise(setImmediate)
    return emptied && !this.alive
  }

  /** It has neither a control group nor a user of its own. */
  get #isBare(): boolean {
    return this.#cell.leaf === null && this.#cell.uid === null
  }

  /** Ends all that it has started, also after its own end (HANDOVER 13.8). */
  #empty(deadlineMs: number): Promise<boolean> {
    const { leaf, uid } = this.#cell
    // of a bare one what is still in its group; its SDK ends what is not
    if (this.#isBare && this.process.pid !== undefined) signal(-this.process.pid, 'SIGKILL')
    if (leaf !== null) return leaf.kill(deadlineMs)
    return uid === null ? Promise.resolve(true) : killUser(uid, deadlineMs)
  }

  contained(): boolean {
    const { leaf } = this.#cell
    return leaf === null || !this.alive || leaf.holds(this.pid)
  }

  signal(name: NodeJS.Signals): void {
    if (!this.alive || this.process.pid === undefined) return
    try {
      process.kill(-this.process.pid, name)
    } catch {
      // ESRCH: its exit event is on its way
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
