/**
 * The standby: holds a copy of every hardware descriptor of the body, and waits for its end. Invariant: as long as it
 * lives no line is released, and when the body is gone the declared safe levels are driven, in bounded time (HANDLES 14).
 *
 * It has one thread and no event loop: it blocks in read(2) on the lifeline, and then in accept(2) for the next body.
 */
import { closeSync, fstatSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { setPriority } from 'node:os'
import { join } from 'node:path'
import type { Kept } from '../../drivers/backend.ts'
import type { Step } from '../../drivers/linux/safe.ts'
import { loadSystem } from '../../drivers/linux/system.ts'
import { UnixSockets } from '../../drivers/linux/unix.ts'
import { Lines } from './lines.ts'
import { Programs } from './programs.ts'
import {
  FIRST_FD,
  type FromStandby,
  type Held,
  type Legacy,
  LIFELINE,
  type Rescue,
  STANDBY_FORMAT,
  STANDBY_SOCKET,
  type ToStandby,
} from './wire.ts'

/** Between two attempts to hand over. */
const RETRY_MS = 1
const NEVER = new Int32Array(new SharedArrayBuffer(4))

type Init = Extract<ToStandby, { t: 'init' }>

class Standby {
  readonly #init: Init
  readonly #system = loadSystem()
  readonly #sockets = new UnixSockets(this.#system)
  readonly #programs: Programs
  readonly #listener: number
  readonly #inode: number
  #handles: Held[]
  readonly #fds = new Map<string, number[]>()

  /** Throws when it could not do its duty. */
  constructor(init: Init) {
    if (init.format !== STANDBY_FORMAT) throw new Error(`expected format ${STANDBY_FORMAT}, got ${init.format}`)
    this.#init = init
    this.#handles = [...init.handles]
    let fd = FIRST_FD
    for (const { name, fds } of init.handles) {
      const own = Array.from({ length: fds }, () => fd++)
      for (const one of own) fstatSync(one)
      this.#fds.set(name, own)
    }
    this.#programs = new Programs(init.cgroup, init.scale)
    if (init.cgroup !== null) statSync(join(init.cgroup, 'cgroup.events'))
    this.#listener = this.#sockets.listen(init.folder, STANDBY_SOCKET)
    this.#inode = statSync(join(init.folder, STANDBY_SOCKET)).ino
    stay()
  }

  /** Returns when there is nothing left to hold: a body has ended well, or another standby has its place. */
  serve(lifeline: Lines): void {
    let body = lifeline
    while (!this.#follow(body)) {
      const rescue = this.#rescue()
      note(rescue)
      // HANDLES 14.7: a newer standby holds the same lines, and has the name
      if (!this.#named()) return
      body = this.#handOver(rescue)
    }
    if (this.#named()) rmSync(join(this.#init.folder, STANDBY_SOCKET), { force: true })
  }

  /** False: the body has gone without a word. */
  #follow(body: Lines): boolean {
    for (;;) {
      const line = body.next()
      if (line === null) return false
      const message = parse(line)
      if (message === null) continue
      if (message.t === 'end') return true
      if (message.t === 'pids') this.#programs.know(message.pids)
      if (message.t === 'kept') this.#keep(message.kept)
      if (message.t === 'drop') {
        this.#drop(message.names)
        say(body.fd, { t: 'dropped' })
      }
    }
  }

  /** HANDLES 14.2: no program writes after the levels. */
  #rescue(): Rescue {
    const seen = now()
    const confirmed = this.#programs.stop()
    let failed = this.#drive()
    const safe = now()
    this.#programs.end()
    // one that was still running may have written since
    if (!confirmed) failed = this.#drive()
    return { seen, safe, ended: now(), confirmed, failed }
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
        // HANDLES 14.5
        if (this.#sockets.peer(socket).uid !== process.getuid?.()) throw new Error('another user')
        const legacy: Legacy = { format: STANDBY_FORMAT, about: this.#init.about, handles: this.#handles, rescue }
        const text = Buffer.from(JSON.stringify(legacy))
        const length = Buffer.alloc(4)
        length.writeUInt32LE(text.length)
        writeAll(socket, Buffer.concat([length, text]))
        this.#sockets.sendFds(
          socket,
          this.#handles.flatMap(({ name }) => this.#fds.get(name) ?? []),
        )
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
  }

  #named(): boolean {
    try {
      return statSync(join(this.#init.folder, STANDBY_SOCKET)).ino === this.#inode
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
function parse(line: string): ToStandby | null {
  try {
    return JSON.parse(line) as ToStandby
  } catch {
    return null
  }
}

const now = (): string => String(process.hrtime.bigint())

function say(fd: number, message: FromStandby): void {
  try {
    writeAll(fd, Buffer.from(`${JSON.stringify(message)}\n`))
  } catch {
    // its end is read next
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at)
}

/** One line for the journal, in the form of log.ts: pino would cost more memory than all the rest. */
function note({ seen, safe, confirmed, failed }: Rescue): void {
  const ms = Number(BigInt(safe) - BigInt(seen)) / 1e6
  const late = confirmed ? '' : '; programs were still running'
  const bad = failed.length === 0 ? '' : `; not driven: ${failed.join(', ')}`
  const msg = `the body is gone; safe levels after ${ms.toFixed(1)} ms${late}${bad}`
  const line = { level: 50, name: 'standby', time: new Date().toISOString(), msg }
  try {
    writeSync(2, `${JSON.stringify(line)}\n`)
  } catch {
    // nobody reads it any more
  }
}

function main(): void {
  const lifeline = new Lines(LIFELINE)
  const first = lifeline.next()
  if (first === null) return
  try {
    const standby = new Standby(JSON.parse(first) as Init)
    say(LIFELINE, { t: 'ready' })
    standby.serve(lifeline)
  } catch (error) {
    say(LIFELINE, { t: 'failed', message: (error as Error).message })
    process.exitCode = 1
  }
}

main()
