/**
 * Installs the gate (gate.ts) between all code of this process and Node, once. It patches prototypes and replaces functions
 * of Node's modules, so that every package passes through the gate. Effects of native code are out of its reach.
 */
import childProcess from 'node:child_process'
import dgram from 'node:dgram'
import { EventEmitter } from 'node:events'
import { syncBuiltinESMExports } from 'node:module'
import net from 'node:net'
import { Duplex, PassThrough } from 'node:stream'
import worker from 'node:worker_threads'
import { gateFiles } from './effects-files.ts'
import { gateTimers } from './effects-timers.ts'
import { dropInRound, type GatedFunction, type PatchTarget, type RealFunction, replaceFunction } from './exchange.ts'
import type { Gate } from './gate.ts'

/** `ownFds`: descriptors below this number belong to the runtime; the SDK writes to them. */
export function installGate(gate: Gate, ownFds: number): void {
  gateTimers(gate)
  gateListeners(gate)
  gateNetwork(gate)
  gateChildren(gate)
  gateWorkers(gate)
  gateProcess(gate)
  gateFiles(gate, ownFds)
  syncBuiltinESMExports()
}

/** A listener that a round adds to an emitter that outlives the round is removed at the round's end. */
function gateListeners(gate: Gate): void {
  replaceFunction(
    EventEmitter as unknown as PatchTarget,
    'init',
    (real) =>
      function (this: object, ...args: unknown[]) {
        gate.round?.made.add(this)
        return real.apply(this, args)
      },
  )
  const { removeListener } = EventEmitter.prototype
  const gated = (real: RealFunction): GatedFunction =>
    function (this: EventEmitter, ...args: unknown[]) {
      const { round } = gate
      if (round === undefined || round.made.has(this)) return real.apply(this, args)
      if (round.ended || (this as unknown) === process) return this
      const [type, listener] = args as [string, () => void]
      round.undo.push(() => removeListener.call(this, type, listener))
      return real.apply(this, args)
    }
  const emitter = EventEmitter.prototype as unknown as PatchTarget
  for (const name of ['on', 'addListener', 'prependListener']) replaceFunction(emitter, name, gated)
  replaceFunction(
    emitter,
    'removeAllListeners',
    (real) =>
      function (this: object, ...args: unknown[]) {
        return gate.round?.made.has(this) === false ? this : real.apply(this, args)
      },
  )
  replaceFunction(
    EventTarget.prototype as unknown as PatchTarget,
    'addEventListener',
    (real) =>
      function (this: EventTarget, ...args: unknown[]) {
        const { round } = gate
        if (round === undefined) return real.apply(this, args)
        if (round.ended) return undefined
        const [type, listener, options] = args as Parameters<EventTarget['addEventListener']>
        round.undo.push(() => this.removeEventListener(type, listener, options))
        return real.apply(this, args)
      },
  )
}

function gateNetwork(gate: Gate): void {
  /** Closes a socket or server at the end of the run that opened it. */
  const kept = (of: object): void => {
    const emitter = of as net.Socket | net.Server | dgram.Socket
    gate.keep(of, () => ('destroy' in emitter ? emitter.destroy() : emitter.close(() => {})))
    emitter.once('close', () => gate.forget(of))
    if (emitter instanceof net.Server) emitter.on('connection', kept)
  }
  /** The call is made when the gate opens; in a round never. */
  const deferred =
    (what: (args: unknown[]) => string, prepare: (on: object) => void = () => {}) =>
    (real: RealFunction): GatedFunction =>
      function (this: object, ...args: unknown[]) {
        const { round } = gate
        if (round === undefined) kept(this)
        if (round === undefined && gate.isOpen) return real.apply(this, args)
        if (round?.made.has(this) === false) return this
        prepare(this)
        if (round === undefined) {
          gate.defer(this, what(args), () => {
            if ((this as { destroyed?: boolean }).destroyed !== true) real.apply(this, args)
          })
        } else if ('destroy' in this) {
          // a connection pool must get its slot back, so that waiting requests are dropped in turn
          const end = () => (this as net.Socket).destroy()
          if (round.ended) process.nextTick(end)
          else round.undo.push(end)
        }
        return this
      }
  /** In a round the call is made only on objects that the round made. On others it is dropped: it returns `answer` and calls back. */
  const dropped =
    (answer: (on: object) => unknown, forget = false) =>
    (real: RealFunction): GatedFunction =>
      function (this: object, ...args: unknown[]) {
        const { round } = gate
        // Node makes stdout at its first use, which may be in a round; it outlives the round all the same
        const { _isStdio } = this as { _isStdio?: boolean }
        if (round === undefined || (round.made.has(this) && _isStdio !== true)) {
          if (forget && !gate.isOpen) gate.forget(this)
          return real.apply(this, args)
        }
        const done = args.at(-1)
        if (typeof done === 'function') process.nextTick(done as () => void)
        return answer(this)
      }
  const itself = (on: object) => on
  const server = net.Server.prototype as unknown as PatchTarget
  replaceFunction(
    server,
    'listen',
    deferred(([port]) => `a server (listen ${addressText(port)})`),
  )
  replaceFunction(server, 'close', dropped(itself, true))
  const socket = net.Socket.prototype as unknown as PatchTarget
  // a socket that is `connecting` buffers what is written
  const connecting = (on: object) => Object.assign(on, { connecting: true })
  replaceFunction(
    socket,
    'connect',
    deferred(([to]) => `a connection (connect ${addressText(to)})`, connecting),
  )
  socket.write = Duplex.prototype.write
  replaceFunction(
    socket,
    'write',
    dropped(() => true),
  )
  socket.destroy = Duplex.prototype.destroy
  for (const name of ['end', 'destroy']) replaceFunction(socket, name, dropped(itself))
  const udp = dgram.Socket.prototype as unknown as PatchTarget
  replaceFunction(
    udp,
    'bind',
    deferred(([port]) => `a socket (bind ${addressText(port)})`),
  )
  replaceFunction(
    udp,
    'connect',
    deferred(([port]) => `a socket (connect ${addressText(port)})`),
  )
  replaceFunction(udp, 'send', (real) => {
    const later = deferred(() => 'a datagram (send)')(real)
    return function (this: object, ...args: unknown[]) {
      later.apply(this as never, args)
    }
  })
  replaceFunction(udp, 'close', dropped(itself, true))
  replaceFunction(globalThis as unknown as PatchTarget, 'fetch', dropInRound(gate, true))
}

/** The address as text. `to` is a port, a path, options, or Node's normalised list of arguments. */
function addressText(to: unknown): string {
  const first = Array.isArray(to) ? to[0] : to
  if (typeof first !== 'object' || first === null) return String(first)
  const { host, port, path } = first as { host?: unknown; port?: unknown; path?: unknown }
  return path === undefined || path === null ? `${host ?? 'localhost'}:${port}` : String(path)
}

function gateChildren(gate: Gate): void {
  const running = new Set<childProcess.ChildProcess>()
  // a child process ends with its program, also when it has left the process group (HANDOVER 13.8)
  process.on('exit', () => {
    for (const child of running) end(child)
  })
  replaceFunction(
    childProcess.ChildProcess.prototype as unknown as PatchTarget,
    'spawn',
    (real) =>
      function (this: childProcess.ChildProcess, ...args: unknown[]) {
        const {
          file = '',
          args: argv = [],
          stdio,
        } = (args[0] ?? {}) as { file?: string; args?: string[]; stdio?: unknown }
        if (gate.round !== undefined) return inertChild(this, file, argv, stdio)
        if (!gate.isLive) throw gate.refusal(`a process (${file})`)
        const failed = real.apply(this, args)
        if (this.pid !== undefined) {
          running.add(this)
          gate.keep(this, () => end(this))
          this.once('exit', () => {
            running.delete(this)
            gate.forget(this)
          })
        }
        return failed
      },
  )
  const empty = (args: unknown[]) => {
    const options = args.find((arg) => typeof arg === 'object' && arg !== null && !Array.isArray(arg))
    const { encoding = 'buffer' } = (options ?? {}) as { encoding?: string | null }
    return encoding === 'buffer' || encoding === null ? Buffer.alloc(0) : ''
  }
  const sync =
    (answer: (args: unknown[]) => unknown) =>
    (real: RealFunction): RealFunction =>
      function (this: unknown, ...args: unknown[]) {
        const { round } = gate
        if (round === undefined) {
          if (!gate.isLive) throw gate.refusal(`a process (${String(args[0])})`)
          return real.apply(this, args)
        }
        round.relied = true
        return answer(args)
      }
  const target = childProcess as unknown as PatchTarget
  replaceFunction(target, 'execSync', sync(empty))
  replaceFunction(target, 'execFileSync', sync(empty))
  replaceFunction(target, 'spawnSync', sync((args) => {
    const nothing = empty(args)
    return { pid: 0, status: 0, signal: null, output: [null, nothing, nothing], stdout: nothing, stderr: nothing }
  })) // biome-ignore format: as its neighbours
}

/** Kills a child, and its process group if it leads one. */
function end({ pid = 0 }: childProcess.ChildProcess): void {
  for (const target of [-pid, pid]) {
    try {
      process.kill(target, 'SIGKILL')
    } catch {
      // the child leads no group, or has ended
    }
  }
}

/** The child process that a rehearsal gets: never started, prints nothing, drops what is written to its stdin. */
function inertChild(child: childProcess.ChildProcess, file: string, argv: string[], stdio: unknown): number {
  const streams = [0, 1, 2].map((at) => {
    const wanted = Array.isArray(stdio) ? stdio[at] : stdio
    return wanted === 'ignore' || wanted === 'inherit' || typeof wanted === 'number' ? null : new PassThrough()
  })
  streams[0]?.resume()
  const isForked = Array.isArray(stdio) && stdio.includes('ipc')
  const channel = { connected: true, send: () => true, disconnect: () => {} }
  const [stdin, stdout, stderr] = streams
  Object.assign(child, { spawnfile: file, spawnargs: argv, stdin, stdout, stderr, stdio: streams })
  if (isForked) Object.assign(child, channel)
  child.kill = () => false
  return 0
}

function gateWorkers(gate: Gate): void {
  const target = worker as unknown as PatchTarget
  target.Worker = new Proxy(worker.Worker, {
    construct(real, args, newTarget) {
      if (gate.round !== undefined) return inertWorker(newTarget)
      if (!gate.isLive) throw gate.refusal(`a worker (${String(args[0])})`)
      const made = Reflect.construct(real, args, newTarget) as worker.Worker
      gate.keep(made, () => void made.terminate())
      made.once('exit', () => gate.forget(made))
      return made
    },
  })
}

function inertWorker(newTarget: unknown): object {
  const nothing = () => {}
  const members = {
    threadId: -1,
    resourceLimits: {},
    stdin: null,
    stdout: new PassThrough(),
    stderr: new PassThrough(),
    postMessage: nothing,
    ref: nothing,
    unref: nothing,
    terminate: () => new Promise(nothing),
  }
  return Object.defineProperties(
    Reflect.construct(EventEmitter, [], newTarget as typeof EventEmitter) as object,
    Object.getOwnPropertyDescriptors(members),
  )
}

function gateProcess(gate: Gate): void {
  const target = process as unknown as PatchTarget
  for (const name of ['exit', 'abort', 'reallyExit']) {
    replaceFunction(
      target,
      name,
      (real) =>
        function (this: unknown, ...args: unknown[]) {
          if (gate.round === undefined) return real.apply(this, args)
          throw new Error(`the program calls process.${name}(${args.map(String).join()})`)
        },
    )
  }
  replaceFunction(
    target,
    'kill',
    (real) =>
      function (this: unknown, ...args: unknown[]) {
        if (gate.round !== undefined) return true
        // signal 0 only asks whether a process exists
        if (!gate.isLive && args[1] !== 0) throw gate.refusal(`process.kill(${args.map(String).join(', ')})`)
        return real.apply(this, args)
      },
  )
  for (const name of ['chdir', 'umask', 'setuid', 'setgid', 'seteuid', 'setegid', 'setgroups', 'emitWarning']) {
    if (typeof target[name] !== 'function') continue
    replaceFunction(
      target,
      name,
      (real) =>
        function (this: unknown, ...args: unknown[]) {
          // umask() without an argument only reads
          if (gate.round === undefined || args.length === 0) return real.apply(this, args)
          return name === 'umask' ? 0 : undefined
        },
    )
  }
  const own = console as unknown as PatchTarget
  for (const name of Object.keys(own)) {
    if (typeof own[name] !== 'function' || name === 'Console') continue
    replaceFunction(
      own,
      name,
      (real) =>
        function (this: unknown, ...args: unknown[]) {
          return gate.round === undefined ? real.apply(this, args) : undefined
        },
    )
  }
}
