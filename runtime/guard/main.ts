/**
 * The guard: the reflex of the robot. It holds a copy of every hardware descriptor of the body, reads the input of the
 * emergency stop, and watches the body. Invariant: as long as it lives no line is released; and when the input is at its
 * level, the body says so, or the body is gone or hangs, every program is stopped and the declared safe levels are driven,
 * in bounded time, whatever anybody else does (HANDLES 14; test/runtime/guard.test.ts).
 *
 * It has one thread and no event loop: it waits in poll(2), and reads no network, no disk and no program.
 */
import { closeSync, fstatSync, readSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { setPriority } from 'node:os'
import { join } from 'node:path'
import type { Kept } from '../../drivers/owner/backend.ts'
import type { Step } from '../../drivers/owner/linux/safe.ts'
import { loadSystem } from '../../drivers/owner/linux/system.ts'
import { UnixSockets } from '../../drivers/owner/linux/unix.ts'
import { GPIO_V2_LINE_GET_VALUES_IOCTL, lineValues } from '../../drivers/program/inherit/line.ts'
import { type Latch, LatchRegion, latchOf } from './latch.ts'
import { Lines } from './lines.ts'
import { GuardedPrograms } from './programs.ts'
import {
  type Drive,
  FIRST_FD,
  type FromGuard,
  GUARD_FORMAT,
  GUARD_SOCKET,
  type Held,
  LATCH_FD,
  type Legacy,
  LIFELINE,
  type Rescue,
  type StopInput,
  type ToGuard,
} from './wire.ts'

/** ms between two attempts to hand over. */
const RETRY_MS = 1
/** ms between two looks at the level of the emergency stop's input; poll(2) tells of most edges at once. */
const LOOK_MS = 10
/** ms: a wait that took so much longer than asked shows that this process got no turn. */
const LATE_MS = 50
/** ms to wait where an edge is reported that the body has not read yet. */
const UNREAD_MS = 1
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
  #handles: Held[]
  readonly #fds = new Map<string, number[]>()
  #latch: Latch | null = null
  #stopInput: StopInput | null
  /** The input was at its level when it was last read. */
  #pressed = false
  /** Who is at the other end of the lifeline. */
  #bodyPid = process.ppid

  /** Throws when it could not do its duty. */
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
    // An emergency stop that cannot be read would never stop anything, so the guard refuses to start with one.
    if (init.stopInput !== null) this.#active(init.stopInput)
    this.#listener = this.#sockets.listen(init.folder, GUARD_SOCKET)
    this.#inode = statSync(join(init.folder, GUARD_SOCKET)).ino
    stay()
  }

  /** Returns when there is nothing left to hold: a body has ended well, or another guard has its place. */
  serve(lifeline: Lines): void {
    let body = lifeline
    for (;;) {
      const how = this.#follow(body)
      if (how === 'told') break
      const rescue = this.#rescue(how)
      note(rescue, this.#init.bodyMs * this.#init.scale)
      // HANDLES 14.7: a newer guard holds the same lines, and has the name
      if (!this.#named()) return
      body = this.#handOver(rescue)
    }
    if (this.#named()) rmSync(join(this.#init.folder, GUARD_SOCKET), { force: true })
  }

  /** How the body went: it was told to end, it has gone without a word, or it lives and does nothing. */
  #follow(body: Lines): 'told' | 'ended' | 'hung' {
    const { bodyMs, scale } = this.#init
    /** When the body is late; Infinity before its first pulse. */
    let due = Number.POSITIVE_INFINITY
    for (;;) {
      this.#look(body.fd)
      const from = performance.now()
      const waitMs = Math.max(0, Math.min(due - from, this.#stopInput === null ? due - from : LOOK_MS))
      const edges = this.#stopInput?.encoding === 'line' ? [this.#fdOf(this.#stopInput.name)] : []
      const ready = this.#system.poll([body.fd, ...edges], Number.isFinite(waitMs) ? waitMs : -1)
      // what kept this process from running kept the body, too
      const lateMs = performance.now() - from - waitMs
      if (lateMs > LATE_MS) due += lateMs
      if (ready.includes(body.fd)) {
        if (!body.read()) return 'ended'
        for (let line = body.take(); line !== null; line = body.take()) {
          const message = parse(line)
          if (message?.t === 'end') return 'told'
          if (message?.t === 'pulse' && bodyMs > 0) due = performance.now() + bodyMs * scale
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

  /** One stop for each time that the input comes to its level. */
  #look(body: number): void {
    const stopInput = this.#stopInput
    if (stopInput === null) return
    let pressed: boolean
    try {
      pressed = this.#active(stopInput)
    } catch (error) {
      // a wire that cannot be read any more is not one that says "go on"
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
    if (readSync(fd, byte, 0, 1, 0) !== 1) throw new Error('it has no level')
    return byte.toString() === String(level)
  }

  #fdOf(name: string): number {
    const [fd] = this.#fds.get(name) ?? []
    if (fd === undefined) throw new Error(`there is no descriptor of ${name}`)
    return fd
  }

  /** HANDLES 6.7: everything stands still at its safe level first; then the disk, then the body. */
  #stop(body: number, reason: string, byInput: boolean): void {
    const drive = this.#halt(now())
    this.#latch ??= latchOf(reason)
    // In another thread: its end is not waited for, and what became of it is seen by who reads the file (HANDLES 6.11).
    this.#region?.write({ estop: this.#latch, slots: [] }, () => {})
    say(body, { t: 'stopped', latch: this.#latch, byInput, ...drive })
  }

  #release(body: number): void {
    // what the input says now, not at the last look
    this.#look(body)
    if (!this.#pressed) this.#latch = null
    say(body, { t: 'released', pressed: this.#pressed })
  }

  /** GuardedPrograms stopped, levels driven. What was not seen stopped may have written since: it is ended, and all driven again. */
  #halt(seen: string): Drive {
    const confirmed = this.#programs.stop()
    let failed = this.#drive()
    const safe = now()
    if (!confirmed) {
      this.#programs.end()
      failed = this.#drive()
    }
    return { seen, safe, confirmed, failed }
  }

  /** HANDLES 14.2: no program writes after the levels. */
  #rescue(cause: Rescue['cause']): Rescue {
    const seen = now()
    // what hangs may wake up, and write
    if (cause === 'hung') kill(this.#bodyPid)
    const drive = this.#halt(seen)
    this.#programs.end()
    return { cause, ...drive, ended: now() }
  }

  /** What could not be driven, and why. */
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

  #step(fd: number, { bytes: hex, request, at }: Step): void {
    const bytes = Buffer.from(hex, 'hex')
    if (request !== undefined) this.#system.ioctl(fd, request, bytes)
    else writeSync(fd, bytes, 0, bytes.length, at ?? null)
  }

  /** The next body's connection, when it has everything: from then on its end is that body's end. */
  #handOver(rescue: Rescue): Lines {
    for (;;) {
      let socket = -1
      try {
        socket = this.#sockets.accept(this.#listener)
        const peer = this.#sockets.peer(socket)
        // HANDLES 14.5
        if (peer.uid !== process.getuid?.()) throw new Error('another user')
        const { about } = this.#init
        const legacy: Legacy = { format: GUARD_FORMAT, about, handles: this.#handles, rescue, latch: this.#latch }
        const text = Buffer.from(JSON.stringify(legacy))
        const length = Buffer.alloc(4)
        length.writeUInt32LE(text.length)
        writeAll(socket, Buffer.concat([length, text]))
        this.#sockets.sendFds(
          socket,
          this.#handles.flatMap(({ name }) => this.#fds.get(name) ?? []),
        )
        this.#bodyPid = peer.pid
        return new Lines(socket)
      } catch {
        // it went away half-way: all is still here
        if (socket >= 0) closeSync(socket)
        Atomics.wait(NEVER, 0, 0, RETRY_MS)
      }
    }
  }

  #keep(kept: Readonly<Record<string, Omit<Kept, 'fds'>>>): void {
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

  #named(): boolean {
    try {
      return statSync(join(this.#init.folder, GUARD_SOCKET)).ino === this.#inode
    } catch {
      // the folder was cleared: somebody may still come who was told the name
      return true
    }
  }
}

/**
 * When memory runs out it is not the one that is chosen, and in an emergency it comes first: until then it sleeps.
 * (Locked memory would help as well, but V8 dies of it.)
 */
function stay(): void {
  for (const attempt of [() => writeFileSync('/proc/self/oom_score_adj', '-1000'), () => setPriority(-20)]) {
    try {
      attempt()
    } catch {
      // not allowed here
    }
  }
}

/** Nothing that is said may end it. */
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
    // its end is read next
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at)
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // it has ended just now
  }
}

function note({ cause, seen, safe, confirmed, failed }: Rescue, bodyMs: number): void {
  const ms = Number(BigInt(safe) - BigInt(seen)) / 1e6
  const why = cause === 'ended' ? 'the body is gone' : `the body did nothing for ${bodyMs} ms and was killed`
  const late = confirmed ? '' : '; programs were still running'
  const bad = failed.length === 0 ? '' : `; not driven: ${failed.join(', ')}`
  print(50, `${why}; safe levels after ${ms.toFixed(1)} ms${late}${bad}`)
}

/** One line for the journal, in the form of log.ts: pino would cost more memory than all the rest. */
function print(level: number, msg: string): void {
  const line = { level, name: 'guard', time: new Date().toISOString(), msg }
  try {
    writeSync(2, `${JSON.stringify(line)}\n`)
  } catch {
    // The journal's pipe is closed; the guard goes on without it.
  }
}

function main(): void {
  const lifeline = new Lines(LIFELINE)
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
