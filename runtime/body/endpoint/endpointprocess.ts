/**
 * Starts the endpoint. Invariant: the endpoint gets what it needs as descriptors and in its first message, and can open no
 * file of the home (HANDOVER 8.13 to 8.16; test/e2e/endpoint.test.ts).
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, mkdirSync, openSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import type { Duplex, Readable } from 'node:stream'
import type { EndpointReport } from '../../../deploy/shared/api.ts'
import { LIMITS } from '../../../deploy/shared/bundle/limits.ts'
import { loadSystem } from '../../../drivers/owner/linux/system.ts'
import { ENDPOINT_FD, STAGED_FILES } from '../../ipc.ts'
import { logEndpointLine } from '../../log.ts'
import { runtimePath } from '../../places.ts'
import { Budget, OUTPUT_ALLOWANCE } from '../../plumbing/budget.ts'
import { readLines } from '../../plumbing/lines.ts'
import type { ServerConfine } from '../../sdk/confined.ts'
import { isArch } from '../../sdk/seccomp.ts'
import {
  type ConfinedBy,
  confineEndpoint,
  ENDPOINT_DESCRIPTORS,
  FILE_BLOCK,
  LIMIT_SCRIPT,
  limitParameters,
} from '../sandbox/confinement.ts'
import type { ListeningSocket } from '../service/environment.ts'

const ENDPOINT = runtimePath('endpoint/main.js')
/** Most threads: Node has about 11, the opener 1, and V8 starts more on more cores. */
const PIDS = 64
/** Size of its /tmp, which it does not use: it writes only the staged files. */
const TMP_MB = 1
/** Most bytes of a log line. */
const MAX_LOG_LINE = 16 * 1024

export interface EndpointStart {
  /** A folder in memory, private to the body. */
  folder: string
  host: string
  /** 0: any free port. */
  port: number
  /** Null: the endpoint runs as the body's user. */
  own: { sandbox: ConfinedBy; uid: number } | null
  /** The socket that systemd gave to the body; null: the body binds the address itself. */
  listener: ListeningSocket | null
  /** The discovery socket; null: this robot is not announced. */
  discovery: number | null
}

export interface EndpointProcess {
  readonly child: ChildProcess
  readonly link: Duplex
  /** The pipe for stops (HANDOVER 8.8). */
  readonly urgent: Duplex
  /** The socket on which the endpoint gets the connections of message channels (CHANNEL 12.2). */
  readonly channels: Duplex
  readonly port: number
  readonly confine: ServerConfine
  readonly report: EndpointReport
}

/** The file in which the body finds the opened bundle `index`. */
export const stagedFile = (folder: string, index: number): string => join(folder, `${index}.tar`)

/** Throws the error of bind(2), or of a file that cannot be created. */
export async function startEndpoint({
  folder,
  host,
  port,
  own,
  listener,
  discovery,
}: EndpointStart): Promise<EndpointProcess> {
  const confine: ServerConfine = { user: own?.uid ?? null, seccomp: canFilter() }
  const command = commandOf(folder, own)
  const server = listener === null ? await bound(host, port) : null
  const served = listener ?? listeningSocketOf(server as Server)
  // No await until this process has closed its copy of the socket: it must not accept a connection meant for the endpoint.
  const staged: number[] = []
  try {
    for (let index = 0; index < STAGED_FILES; index++) staged.push(freshFile(stagedFile(folder, index)))
    const { PATH, LANG, TZ, MEDULLA_TIME_SCALE } = process.env
    const [file, ...args] = command
    const child = spawn(file as string, args, {
      stdio: [
        'ignore',
        'ignore',
        'pipe',
        'pipe',
        'pipe',
        served.fd,
        ...staged,
        'pipe',
        ...(discovery === null ? [] : [discovery]),
      ],
      // Keeps libuv from reading files through an io_uring, past the filter. Node 24 opens rings all the same (HANDLES 13.14).
      env: { PATH, LANG, TZ, MEDULLA_TIME_SCALE, UV_USE_IO_URING: '0' },
    })
    const [, , stderr, link, urgent] = child.stdio as unknown as [null, null, Readable, Duplex, Duplex]
    const channels = child.stdio[ENDPOINT_FD.channels] as unknown as Duplex
    // the body sends descriptors on it, and reads nothing
    channels.pause().on('error', () => {})
    const report = { user: confine.user, sandbox: own?.sandbox ?? ('none' as const), seccomp: confine.seccomp }
    readLines(stderr, MAX_LOG_LINE, logEndpointLine, () => child.kill('SIGKILL'), new Budget(OUTPUT_ALLOWANCE))
    return { child, link, urgent, channels, port: served.port, confine, report }
  } finally {
    for (const fd of staged) closeSync(fd)
    server?.close()
  }
}

/** Throws the error of bind(2). */
async function bound(host: string, port: number): Promise<Server> {
  const server = createServer()
  server.listen({ host, port, exclusive: true })
  await once(server, 'listening')
  return server
}

/** A new file, which a former endpoint does not have open (HANDOVER 8.16). */
function freshFile(path: string): number {
  rmSync(path, { force: true })
  return openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)
}

/** Node has no public way to pass a listening socket to a process that is no cluster worker. */
function listeningSocketOf(server: Server): ListeningSocket {
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle
  return { fd, port: (server.address() as AddressInfo).port }
}

function commandOf(folder: string, own: EndpointStart['own']): string[] {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  if (own !== null) {
    return confineEndpoint({ ...own, folder, main: ENDPOINT, pids: PIDS, tmpMb: TMP_MB, fileBytes: LIMITS.bundle })
  }
  const node = [process.execPath, ENDPOINT]
  if (process.platform !== 'linux') return node
  const script = `${LIMIT_SCRIPT}ulimit -f "$4"\nshift 4\nexec "$@"`
  const limits = [...limitParameters(null, null, ENDPOINT_DESCRIPTORS), String(LIMITS.bundle / FILE_BLOCK)]
  return ['sh', '-c', script, 'medulla', ...limits, 'setpriv', '--pdeathsig', 'KILL', '--no-new-privs', ...node]
}

function canFilter(): boolean {
  if (process.platform !== 'linux' || !isArch(process.arch)) return false
  try {
    loadSystem()
    return true
  } catch {
    return false
  }
}
