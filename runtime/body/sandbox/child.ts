/**
 * Invariant: a child gets exactly the descriptors of its table (HANDOVER 3.3), and counts as dead only when its exit was seen
 * (test/runtime/body/sandbox/confinement.test.ts, test/runtime/body/sandbox/child.test.ts).
 *
 * The process of a program instance. It runs the runtime's own loader with only the environment names below (HANDOVER 3.4),
 * in a process group of its own, so that a signal also reaches its children.
 */
import { closeSync, openSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { timeScale } from '../../../deploy/shared/timescale.ts'
import { grantOf, type OwnedHandle } from '../../../drivers/owner/backend.ts'
import { type BrokerService, serveBroker } from '../../../drivers/owner/broker.ts'
import type { Grant } from '../../../drivers/program/handle.ts'
import { Budget, PROGRAM_ALLOWANCE } from '../../plumbing/budget.ts'
import { type LineReader, readLines } from '../../plumbing/lines.ts'
import { type Entered, FD, type FromProgram, type InitMessage, MAX_LINE, type ToProgram, WIRE } from '../../sdk/wire.ts'
import type { Cause } from '../slot/cause.ts'
import type { SlotLog } from '../slot/log.ts'
import { type Mask, maskMessage, maskOf } from '../slot/mask.ts'
import { lastWords, parseFromProgram } from '../slot/messages.ts'
import type { ProgramInstance } from '../slot/running.ts'
import { watchDataFolder } from './datafolder.ts'
import { continueProcess, descendantsOf, grandchildOf, killUser, signal, stopProcess } from './fence.ts'
import { type HangPlace, HangTrace, hangPlace, openMap } from './hangplace.ts'
import { connectForMessages, listenForMessages } from './messagesocket.ts'
import { adopted, leave, type ProgramProcess, spawned } from './process.ts'
import { raisePriority } from './realtime.ts'
import { openFifoEnd, type RunDir } from './rundir.ts'
import type { ChildSandbox, SandboxOfChild } from './sandboxes.ts'
import type { SavedChild } from './savedchild.ts'

/** Descriptors between the broker and the first grant. */
const FIXED = FD.firstGrant - FD.outbox

export interface ChildOptions {
  dir: RunDir
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

const NOTHING_UNREAD: SavedChild['unread'] = { stdout: '', stderr: '', control: '', broker: new Uint8Array(0) }

export class Child implements ProgramInstance {
  readonly options: ChildOptions
  readonly #process: ProgramProcess
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
  readonly #sandbox: SandboxOfChild
  readonly #trace = new HangTrace()
  /** A descriptor of the program's source map, from captureHang to hangPlace. */
  #mapFd: number | null = null
  readonly #readers: { control: LineReader; broker: BrokerService; stdout(): string; stderr(): string }
  #config: Readonly<Record<string, string>> = {}
  #listener: Listener | null = null
  #mask: Mask | null = null
  /** The exit was handled. */
  #isGone = false
  #waits = (): void => {}
  /** The child waits in its sandbox, or was adopted. */
  #isConfined = false

  private constructor(
    options: ChildOptions,
    sandbox: SandboxOfChild,
    process: ProgramProcess,
    unread: SavedChild['unread'] = NOTHING_UNREAD,
  ) {
    this.options = options
    this.#sandbox = sandbox
    this.#process = process
    const { dir, handles, log } = options
    this.waiting = new Promise((resolve) => {
      this.#waits = resolve
    })
    this.exited = new Promise((resolve) => {
      const gone = () => {
        // The last message may say why the child died, so it is handled before the exit.
        this.#readers.control.deliver()
        this.#isGone = true
        resolve()
        // The child's own children end with it.
        void this.#empty(sandbox.killMs).then(() => sandbox.close())
        dir.remove()
        this.#listener?.exit()
      }
      process.onEnd((ending) => {
        if (!this.alive) return
        this.ending = ending
        this.alive = false
        // libuv may report an exit before it has read what the process wrote. The second immediate comes after another poll
        // of the pipes.
        setImmediate(() => setImmediate(gone))
      })
    })
    const { stdout, stderr, control, broker } = process
    const masked = (text: string) => this.#mask?.(text) ?? text
    const fence = () => this.fence
    control.on('error', () => {})
    broker.on('error', () => {})
    const hear = (line: string) => this.#hear(line)
    const cutOff = (why: 'an endless line' | 'a flood') => this.#cutOff(why)
    // Combined transfers of an inherited I2C device go through the broker, too (HANDLES 12.5).
    const served = handles.filter((h) => h.kind === 'i2c' || h.grant().via === 'broker')
    const brokered = new Map(served.map((h) => [h.id, h]))
    this.#readers = {
      stdout: log.drain(stdout, 'stdout', fence, masked, unread.stdout),
      stderr: log.drain(stderr, 'stderr', fence, masked, unread.stderr, (line) => this.#trace.take(line)),
      control: readLines(control, MAX_LINE, hear, cutOff, new Budget(PROGRAM_ALLOWANCE), unread.control),
      broker: serveBroker(broker, brokered, fence, { unread: unread.broker }),
    }
  }

  /** Starts the loader in its sandbox. `sandboxFor` gets what the child is granted. */
  static start(options: ChildOptions, sandboxFor: (grants: readonly Grant[]) => ChildSandbox): Child {
    const { dir, predecessor, handles } = options
    const grants: Grant[] = []
    const passed: number[] = []
    for (const handle of handles) {
      const given = handle.grant()
      grants.push(grantOf(handle, given, FD.firstGrant + passed.length))
      if (given.via === 'inherit') passed.push(given.fd)
    }
    const sandbox = sandboxFor(grants)
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
      const listening = listenForMessages(dir)
      if (listening !== null) own.push(listening)
      const channels = FD.outbox + own.length + passed.length - 1
      const child = spawned(sandbox.command, {
        cwd: dir.path,
        // Keeps libuv from reading files through an io_uring, past the filter. Node 24 opens rings all the same (HANDLES 13.14).
        env: { PATH: '/usr/bin:/bin', LANG: 'C.UTF-8', TZ: process.env.TZ ?? 'UTC', UV_USE_IO_URING: '0' },
        fds: [...own.slice(0, FIXED), ...passed, ...own.slice(FIXED)],
      })
      const started = new Child(options, sandbox, child)
      const { confine } = sandbox
      started.send({ t: 'sandbox', grants, confine, ...(listening !== null && { channels }) })
      return started
    } catch (error) {
      sandbox.close()
      throw error
    } finally {
      for (const fd of own) closeSync(fd)
    }
  }

  /** Goes on with a program that the last runtime left running. */
  static adopt(options: ChildOptions, sandbox: SandboxOfChild, saved: SavedChild, listener: Listener): Child {
    const child = new Child(options, sandbox, adopted(saved.process), saved.unread)
    child.fence = saved.fence
    child.#listener = listener
    child.#config = saved.config
    child.#mask = maskOf(saved.config)
    child.#isConfined = true
    watchDataFolder(child, sandbox.data)
    return child
  }

  /** For {@link Child.adopt} in the next runtime. Null: what was sent to it is not written yet. */
  save(): SavedChild | null {
    if (this.#process.control.writableLength > 0 || this.#process.broker.writableLength > 0) return null
    const { control, broker, stdout, stderr } = this.#readers
    return {
      process: leave(this.#process),
      folder: this.options.dir.path,
      // A second SIGINT would end the program.
      sandbox: { ...this.#sandbox.save(), ...(this.#trace.isAsked ? { tracing: 'unknown' } : {}) },
      fence: this.fence,
      config: this.#config,
      unread: { stdout: stdout(), stderr: stderr(), control: control.unread(), broker: broker.unread() },
    }
  }

  /** Gives the child its program, which is in its folder by now; called once. Before, messages and exit have no listener. */
  begin({ config, ...assignment }: Assignment, listener: Listener): void {
    const { reveal, file } = this.#sandbox as ChildSandbox
    this.#listener = listener
    this.#config = config
    this.#mask = maskOf(config)
    if (this.#isGone) return listener.exit()
    reveal()
    watchDataFolder(this, this.#sandbox.data)
    const role = this.options.predecessor === null ? 'first' : 'candidate'
    // One message each: all values together could exceed the longest line (HANDOVER 3.2).
    for (const [name, value] of Object.entries(config)) this.send({ t: 'config', name, value })
    this.send({
      t: 'init',
      wire: WIRE,
      file,
      dataDir: this.#sandbox.data.inside,
      role,
      ...assignment,
    })
  }

  get pid(): number {
    return this.#process.pid
  }

  send(message: ToProgram): void {
    if (this.alive) this.#process.control.write(`${JSON.stringify(message)}\n`)
  }

  connect(): number {
    return connectForMessages(this.options.dir)
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

  #traceHang(): void {
    const { tracing, leaf } = this.#sandbox
    // Before its filter is on, a child would end by the signal.
    if (!this.#isConfined) return
    if (tracing === 'harmless') this.#askTrace(this.pid)
    if (tracing === 'monitored') this.#askTrace(grandchildOf(this.pid, leaf?.pids() ?? []))
  }

  /** Once: Node prints one stack, and does not catch the next SIGINT. */
  #askTrace(pid: number | null): void {
    if (!this.alive || pid === null || pid <= 0 || this.#trace.isAsked) return
    this.#trace.ask()
    signal(pid, 'SIGINT')
  }

  async captureHang(mayRun: boolean): Promise<void> {
    if (!this.alive || this.#mapFd !== null) return
    this.#mapFd = openMap(this.options.dir)
    if (this.#trace.isComplete || !mayRun || !this.#isFenced) return
    this.thaw()
    this.#traceHang()
    if (this.#sandbox.tracing === 'fatal') this.#askTrace(this.pid)
    if (!this.#trace.isAsked) return
    const timer = new AbortController()
    const late = sleep(this.#sandbox.killMs / 4, undefined, { signal: timer.signal }).catch(() => {})
    await Promise.race([this.#trace.complete, this.exited, late])
    timer.abort()
  }

  async hangPlace(): Promise<HangPlace | null> {
    const fd = this.#mapFd
    this.#mapFd = null
    const place = await hangPlace({ stack: this.#trace.stack, fd }, timeScale())
    const mask = this.#mask
    return place === null || mask === null ? place : { text: mask(place.text), stack: mask(place.stack) }
  }

  /** Whatever the child writes to a handle is checked by its fencing number, which is old once the safe levels are driven. */
  get #isFenced(): boolean {
    return this.options.handles.every((handle) => {
      const grant = handle.grant()
      return grant.via === 'broker' || grant.encoding === 'record' || grant.encoding === 'listen'
    })
  }

  raisePriority(): void {
    const { leaf, realtime } = this.#sandbox
    if (realtime === 0 || !this.alive) return
    try {
      raisePriority(leaf?.pids() ?? [this.pid], realtime)
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
    if (this.#isBare && this.pid > 0) signal(-this.pid, 'SIGKILL')
    if (leaf !== null) return leaf.kill(deadlineMs)
    return uid === null ? Promise.resolve(true) : killUser(uid, deadlineMs)
  }

  contained(): boolean {
    const { leaf } = this.#sandbox
    return leaf === null || !this.alive || leaf.holds(this.pid)
  }

  signal(name: NodeJS.Signals): void {
    if (!this.alive || this.pid <= 0) return
    try {
      process.kill(-this.pid, name)
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
    if (message.t === 'waiting') {
      this.#isConfined = true
      this.#waits()
    } else this.#listener?.message(message)
  }
}
