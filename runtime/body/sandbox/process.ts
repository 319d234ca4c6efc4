/**
 * The process of a child and its pipes: spawned by this body, or left running by the runtime that this one replaced, and then
 * known by its pid and descriptors only (HANDOVER 18.3).
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { Socket } from 'node:net'
import { Duplex, type Readable } from 'node:stream'
import { onExit } from './reaper.ts'

/** Null: it could not be started. */
type Ended = (ending: string | null) => void

export interface ProgramProcess {
  /** -1: it could not be started. */
  readonly pid: number
  readonly stdout: Readable
  readonly stderr: Readable
  readonly control: Duplex
  readonly broker: Duplex
  /** Called once: `exit code 1`, or the name of a signal. */
  onEnd(listener: Ended): void
}

/** Pid and descriptors of a process that goes on without the body that started it. */
export interface LeftProcess {
  readonly pid: number
  readonly stdout: number
  readonly stderr: number
  readonly control: number
  readonly broker: number
}

const PIPES = ['stdout', 'stderr', 'control', 'broker'] as const

export interface SpawnOptions {
  readonly cwd: string
  readonly env: NodeJS.ProcessEnv
  /** The descriptors after those of the pipes. */
  readonly fds: readonly number[]
}

/** Throws what spawn(3) throws; a command that cannot be started ends with null. */
export function spawned([command = '', ...args]: readonly string[], { cwd, env, fds }: SpawnOptions): ProgramProcess {
  const child: ChildProcess = spawn(command, args, {
    cwd,
    env,
    stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', ...fds],
    detached: true,
  })
  const [, stdout, stderr, control, broker] = child.stdio as [null, Readable, Readable, Duplex, Duplex]
  return {
    pid: child.pid ?? -1,
    ...{ stdout, stderr, control, broker },
    onEnd(listener) {
      child.once('exit', (code, signal) => listener(signal ?? `exit code ${code}`))
      child.once('error', () => listener(null))
    },
  }
}

export function adopted(left: LeftProcess): ProgramProcess {
  const [stdout, stderr, control, broker] = PIPES.map((name) =>
    left[name] < 0 ? endedPipe() : new Socket({ fd: left[name], readable: true, writable: true }),
  ) as [Duplex, Duplex, Duplex, Duplex]
  return { pid: left.pid, stdout, stderr, control, broker, onEnd: (listener) => onExit(left.pid, listener) }
}

/** For a pipe that the program had closed before the runtime was replaced. */
function endedPipe(): Duplex {
  return new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() }).destroy()
}

export function leave(process: ProgramProcess): LeftProcess {
  const fds = PIPES.map((name) => descriptorOf(process[name]))
  const [stdout = -1, stderr = -1, control = -1, broker = -1] = fds
  return { pid: process.pid, stdout, stderr, control, broker }
}

/** Node has no public way to ask a socket for its descriptor; -1: it is closed. */
export function descriptorOf(stream: object | null): number {
  return (stream as { _handle?: { fd: number } | null } | null)?._handle?.fd ?? -1
}
