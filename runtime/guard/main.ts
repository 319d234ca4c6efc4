/**
 * The guard: the reflex of the robot. It holds a copy of every hardware descriptor of the body, reads the input of the
 * emergency stop, and watches the body. Invariant: while the guard lives, no line is released; and when the input is at its
 * level, the body asks for a stop, or the body ends or hangs, every program is stopped and the declared safe levels are
 * driven in bounded time (HANDLES 14; test/runtime/guard/guard.test.ts).
 *
 * The guard has one thread and no event loop: it waits in poll(2), and reads no network, no disk and no program.
 */
import { closeSync, fstatSync, readSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { setPriority } from 'node:os'
import { join } from 'node:path'
import type { KeptHandle } from '../../drivers/owner/backend.ts'
import type { SafeCall } from '../../drivers/owner/linux/safe.ts'
import { loadSystem } from '../../drivers/owner/linux/system.ts'
import { UnixSockets } from '../../drivers/owner/linux/unix.ts'
import { GPIO_V2_LINE_GET_VALUES_IOCTL, lineValues } from '../../drivers/program/inherit/line.ts'
import { prioritised } from '../journal.ts'
import { type Latch, LatchRegion, latchOf } from './latch.ts'
import { LineReader } from './lines.ts'
import { GuardedPrograms } from './programs.ts'
import {
  FIRST_FD,
  type FromGuard,
  GUARD_FORMAT,
  GUARD_SOCKET,
  type GuardInheritance,
  type HeldHandle,
  LATCH_FD,
  LIFELINE,
  type Rescue,
  type SafeDrive,
  type StopInput,
  type ToGuard,
} from './wire.ts'

/** Time between two attempts to hand over, in ms. */
const RETRY_MS = 1
/** Time between two readings of the emergency stop's input, in ms; poll(2) reports most edges at once. */
const INPUT_MS = 5
/** A wait that took this much longer than asked, in ms, shows that this process did not get the CPU. */
const LATE_MS = 50
/** Time to wait, in ms, when poll(2) reports an edge that the body has not read yet. */
const UNREAD_MS = 1
/** How often a guard that waits for a body looks whether a newer one has taken its name. */
const NAME_MS = 200
const NEVER = new Int32Array(new SharedArrayBuffer(4))

type Init = Extract<ToGuard, { t: 'init' }>

class Guard {
  readonly #init: Init
  readonly #system = loadSystem()
  readonly #sockets = new UnixSockets(this.#system)
  readonly #programs: GuardedPrograms
  readonly #listener: number
  readonly #inode: number
  readonly #region: LatchRegion | null
  readonly #level = lineValues(0)
  #handles: HeldHandle[]
  readonly #fds = new Map<string, number[]>()
  #latch: Latch | null = null
  #stopInput: StopInput | null
  /** The input was at its level at the last reading. */
  #pressed = false
  /** The process at the other end of the lifeline. */
  #bodyPid = process.ppid

  /** Throws when a descriptor, the control group or the input cannot be used. */
  constructor(init: Init) {
    if (init.format !== GUARD_FORMAT) throw new Error(`expected format ${GUARD_FORMAT}, got ${init.format}`)
    this.#init = init
    this.#handles = [...init.handles]
    let fd = FIRST_FD
    for (const { name, fds } of init.handles) {
      const own = Array.from({ length: fds }, () => fd++)
      for (const one of own) fstatSync(one)
      this.#fds.set(name, own)
    }
    this.#region = init.latch ? new LatchRegion(LATCH_FD, 'guard') : null
    this.#latch = this.#region?.read().estop ?? null
    this.#programs = new GuardedPrograms(init.cgroup, init.scale)
    if (init.cgroup !== null) statSync(join(init.cgroup, 'cgroup.events'))
    this.#stopInput = init.stopInput
    // The guard refuses to start with an input that it cannot read.
    if (init.stopInput !== null) this.#active(init.stopInput)
    this.#listener = this.#sockets.listen(init.folder, GUARD_SOCKET)
    this.#inode = statSync(join(init.folder, GUARD_SOCKET)).ino
    claimPriority()
  }

  /** Returns when a body has ended in order, or a newer guard has taken over. */
  serve(lifeline: LineReader): void {
    let body = lifeline
    for (;;) {
      const end = this.#watch(body)
      if (end === 'told') break
      const rescue = this.#rescue(end)
      note(rescue, this.#init.bodyMs * this.#init.scale)
      // A newer guard holds the same lines, and its socket has the name (HANDLES 14.7).
      if (!this.#hasSocketName()) return
      const next = this.#handOver(rescue)
      if (next === null) return
      body = next
    }
    if (this.#hasSocketName()) rmSync(join(this.#init.folder, GUARD_SOCKET), { force: true })
  }

  /** Watches a body. `told`: it said `end`; `ended`: it is gone without that; `hung`: it lives and sends no pulse. */
  #watch(body: LineReader): 'told' | 'ended' | 'hung' {
    const { bodyMs, scale } = this.#init
    /** When the next pulse is due at the latest; Infinity before the first one. */
    let due = Number.POSITIVE_INFINITY
    for (;;) {
      this.#readInput(body.fd)
      const from = performance.now()
      const waitMs = Math.max(0, Math.min(due - from, this.#stopInput === null ? due - from : INPUT_MS))
      const edges = this.#stopInput?.encoding === 'line' ? [this.#fdOf(this.#stopInput.name)] : []
      const ready = this.#system.poll([body.fd, ...edges], Number.isFinite(waitMs) ? waitMs : -1)
      // Whatever kept this process from running may have kept the body, too.
      const lateMs = performance.now() - from - waitMs
      if (lateMs > LATE_MS) due += lateMs
      if (ready.includes(body.fd)) {
        if (!body.read()) return 'ended'
        for (let line = body.take(); line !== null; line = body.take()) {
          const message = parse(line)
          if (message?.t === 'end') return 'told'
          // A body that is being replaced says for how long it may be silent (HANDOVER 18.4).
          if (message?.t === 'pulse' && bodyMs > 0) due = performance.now() + (message.forMs ?? bodyMs) * scale
          if (message !== null) this.#hear(body.fd, message)
        }
      } else if (performance.now() >= due) return 'hung'
      else if (ready.length > 0) Atomics.wait(NEVER, 0, 0, UNREAD_MS)
    }
  }

  #hear(body: number, message: ToGuard): void {
    switch (message.t) {
      case 'pids':
        return this.#programs.know(message.pids)
      case 'kept':
        return this.#keep(message.kept)
      case 'stop':
        return this.#stop(body, message.reason, false)
      case 'release':
        return this.#release(body)
      case 'drop':
        this.#drop(message.names)
        return say(body, { t: 'dropped' })
      case 'init':
      case 'pulse':
      case 'end':
        return
    }
  }

  /** Reads the input; stops everything once each time that it comes to its level. */
  #readInput(body: number): void {
    const stopInput = this.#stopInput
    if (stopInput === null) return
    let pressed: boolean
    try {
      pressed = this.#active(stopInput)
    } catch (error) {
      // An input that cannot be read counts as pressed: its wire may be broken.
      pressed = true
      if (!this.#pressed) print(50, `the input ${stopInput.name} cannot be read: ${(error as Error).message}`)
    }
    const before = this.#pressed
    this.#pressed = pressed
    if (pressed && !before) this.#stop(body, `the input ${stopInput.name}`, true)
  }

  #active({ name, level, encoding }: StopInput): boolean {
    const fd = this.#fdOf(name)
    if (encoding === 'line') {
      this.#system.ioctl(fd, GPIO_V2_LINE_GET_VALUES_IOCTL, this.#level)
      return ((this.#level[0] as number) & 1) === level
    }
    const byte = Buffer.alloc(1)
    if (readSync(fd, byte, 0, 1, 0) !== 1) throw new Error('its file is empty')
    return byte.toString() === String(level)
  }

  #fdOf(name: string): number {
    const [fd] = this.#fds.get(name) ?? []
    if (fd === undefined) throw new Error(`there is no descriptor of ${name}`)
    return fd
  }

  /** Stops the programs and drives the safe levels first, then latches, then tells the body (HANDLES 6.7). */
  #stop(body: number, reason: string, byInput: boolean): void {
    const drive = this.#halt(now())
    this.#latch ??= latchOf(reason)
    // Written in another thread and not awaited: the guard waits for no disk (HANDLES 6.11).
    this.#region?.write({ estop: this.#latch, slots: [] }, () => {})
    say(body, { t: 'stopped', latch: this.#latch, byInput, ...drive })
  }

  #release(body: number): void {
    // The input may have changed since the last reading.
    this.#readInput(body)
    if (!this.#pressed) this.#latch = null
    say(body, { t: 'released', pressed: this.#pressed })
  }

  /** Stops the programs and drives the levels. Programs not seen stopped may have written since: they are ended, and the levels are driven again. */
  #halt(seen: string): SafeDrive {
    const confirmed = this.#programs.stop()
    let failed = this.#drive()
    const safe = now()
    if (!confirmed) {
      this.#programs.end()
      failed = this.#drive()
    }
    return { seen, safe, confirmed, failed }
  }

  /** The body is gone or hangs: safe levels, then the end of every program (HANDLES 14.2). */
  #rescue(cause: Rescue['cause']): Rescue {
    const seen = now()
    // A body that hangs may wake up and write.
    if (cause === 'hung') kill(this.#bodyPid)
    const drive = this.#halt(seen)
    this.#programs.end()
    return { cause, ...drive, ended: now() }
  }

  /** Drives every safe level. Returns the handles that could not be driven, and why. */
  #drive(): string[] {
    const failed: string[] = []
    this.#handles = this.#handles.map((one) => {
      try {
        for (const step of one.safe) this.#step(this.#fds.get(one.name)?.[step.fd] as number, step)
        return one.safeValue === null ? one : { ...one, kept: { ...one.kept, value: one.safeValue } }
      } catch (error) {
        failed.push(`${one.name}: ${(error as Error).message}`)
        return one
      }
    })
    return failed
  }

  #step(fd: number, { bytes: hex, request, at }: SafeCall): void {
    const bytes = Buffer.from(hex, 'hex')
    if (request !== undefined) this.#system.ioctl(fd, request, bytes)
    else writeSync(fd, bytes, 0, bytes.length, at ?? null)
  }

  /**
   * Gives everything to the next body. Returns its connection: from then on, its end is the end of that body. Null: the guard that
   * the dead body had just started has begun meanwhile, so that no body can reach this one.
   */
  #handOver(rescue: Rescue): LineReader | null {
    for (;;) {
      while (this.#system.poll([this.#listener], NAME_MS).length === 0) if (!this.#hasSocketName()) return null
      let socket = -1
      try {
        socket = this.#sockets.accept(this.#listener)
        const peer = this.#sockets.peer(socket)
        // Only a process of the same user gets the handles (HANDLES 14.5).
        if (peer.uid !== process.getuid?.()) throw new Error('another user')
        const { about } = this.#init
        const legacy: GuardInheritance = {
          format: GUARD_FORMAT,
          about,
          handles: this.#handles,
          rescue,
          latch: this.#latch,
        }
        const text = Buffer.from(JSON.stringify(legacy))
        const length = Buffer.alloc(4)
        length.writeUInt32LE(text.length)
        writeAll(socket, Buffer.concat([length, text]))
        this.#sockets.sendFds(
          socket,
          this.#handles.flatMap(({ name }) => this.#fds.get(name) ?? []),
        )
        this.#bodyPid = peer.pid
        return new LineReader(socket)
      } catch {
        // The other side broke off: the guard still has everything, and waits for the next one.
        if (socket >= 0) closeSync(socket)
        Atomics.wait(NEVER, 0, 0, RETRY_MS)
      }
    }
  }

  #keep(kept: Readonly<Record<string, Omit<KeptHandle, 'fds'>>>): void {
    this.#handles = this.#handles.map((one) => ({ ...one, kept: kept[one.name] ?? one.kept }))
  }

  #drop(names: readonly string[]): void {
    for (const name of names) {
      for (const fd of this.#fds.get(name) ?? []) closeSync(fd)
      this.#fds.delete(name)
    }
    this.#handles = this.#handles.filter(({ name }) => !names.includes(name))
    if (this.#stopInput !== null && names.includes(this.#stopInput.name)) this.#stopInput = null
  }

  #hasSocketName(): boolean {
    try {
      return statSync(join(this.#init.folder, GUARD_SOCKET)).ino === this.#inode
    } catch {
      // The folder was cleared. A body may still be connecting, so the guard stays.
      return true
    }
  }
}

/**
 * Keeps the out-of-memory killer away from the guard, and gives it a high priority; it sleeps nearly all the time. (Locking
 * its memory would help, too, but V8 aborts then.)
 */
function claimPriority(): void {
  for (const attempt of [() => writeFileSync('/proc/self/oom_score_adj', '-1000'), () => setPriority(-20)]) {
    try {
      attempt()
    } catch {
      // This process may not.
    }
  }
}

/** Null for a line that is no JSON: no message may end the guard. */
function parse(line: string): ToGuard | null {
  try {
    return JSON.parse(line) as ToGuard
  } catch {
    return null
  }
}

const now = (): string => String(process.hrtime.bigint())

function say(fd: number, message: FromGuard): void {
  try {
    writeAll(fd, Buffer.from(`${JSON.stringify(message)}\n`))
  } catch {
    // The other side has closed: the next read says so.
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at)
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // The process has ended meanwhile.
  }
}

function note({ cause, seen, safe, confirmed, failed }: Rescue, bodyMs: number): void {
  const ms = Number(BigInt(safe) - BigInt(seen)) / 1e6
  const why = cause === 'ended' ? 'the body is gone' : `the body sent no pulse for ${bodyMs} ms and was killed`
  const late = confirmed ? '' : '; programs were still running'
  const bad = failed.length === 0 ? '' : `; not driven: ${failed.join(', ')}`
  print(50, `${why}; safe levels after ${ms.toFixed(1)} ms${late}${bad}`)
}

/** A line for the journal, in the format of log.ts. Without pino, which would need more memory than the rest of the guard. */
function print(level: number, msg: string): void {
  const line = { level, name: 'guard', time: new Date().toISOString(), msg }
  try {
    writeSync(2, prioritised(2, level, `${JSON.stringify(line)}\n`))
  } catch {
    // The journal's pipe is closed: the guard goes on without it.
  }
}

function main(): void {
  const lifeline = new LineReader(LIFELINE)
  const first = lifeline.next()
  if (first === null) return
  try {
    const guard = new Guard(JSON.parse(first) as Init)
    say(LIFELINE, { t: 'ready' })
    guard.serve(lifeline)
  } catch (error) {
    say(LIFELINE, { t: 'failed', message: (error as Error).message })
    process.exitCode = 1
  }
}

main()
