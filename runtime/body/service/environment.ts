/**
 * What systemd gives to the body in its environment: the notify socket, the time of the watchdog, the listening socket
 * (sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3)). The variables are removed: no child of the body is meant by them.
 */
import { closeSync } from 'node:fs'
import { Refusal } from '../../../deploy/shared/errors.ts'
import { loadSystem } from '../../../drivers/owner/linux/system.ts'
import { isDatagram, NotifySocket, portOf } from './notifysocket.ts'

const VARIABLES = [
  'NOTIFY_SOCKET',
  'WATCHDOG_USEC',
  'WATCHDOG_PID',
  'LISTEN_FDS',
  'LISTEN_PID',
  'LISTEN_FDNAMES',
] as const
/** The first descriptor that systemd passes on. */
const FIRST_FD = 3

/** A socket that already listens on the robot's address. */
export interface ListeningSocket {
  readonly fd: number
  readonly port: number
}

export interface ServiceEnvironment {
  /** Null: no service manager started this process. */
  readonly notify: NotifySocket | null
  /** systemd ends the service after this time without a message. Null: it does not. */
  readonly watchdogMs: number | null
  readonly listener: ListeningSocket | null
  /** The descriptor of the socket for multicast DNS (CHANNEL 11). */
  readonly discovery: number | null
  /** For the runtime that replaces this one. */
  readonly saved: SavedService
}

export interface SavedService {
  readonly notifySocket: string | null
  readonly watchdogMs: number | null
  readonly listener: ListeningSocket | null
  readonly discovery: number | null
}

/** Throws Refusal `bad-device` when systemd expects messages and koffi, which sends them, is absent. */
export function takeEnvironment(env: NodeJS.ProcessEnv): ServiceEnvironment {
  const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID, LISTEN_FDS, LISTEN_PID } = env
  for (const name of VARIABLES) delete env[name]
  try {
    const microseconds = isThis(WATCHDOG_PID, true) ? Number(WATCHDOG_USEC) : 0
    return serviceOf({
      notifySocket: NOTIFY_SOCKET || null,
      watchdogMs: NOTIFY_SOCKET && microseconds > 0 ? microseconds / 1000 : null,
      ...takeSockets(isThis(LISTEN_PID, false) ? Number(LISTEN_FDS) || 0 : 0),
    })
  } catch (cause) {
    throw new Refusal('bad-device', `systemd started this runtime: ${(cause as Error).message}`, 'medulla doctor', {
      cause,
    })
  }
}

/** The same service manager, after the runtime was replaced. */
export function serviceOf(saved: SavedService): ServiceEnvironment {
  const { notifySocket, watchdogMs, listener, discovery } = saved
  const notify = notifySocket === null ? null : new NotifySocket(notifySocket)
  return { notify, watchdogMs, listener, discovery, saved }
}

/** Right before execve(2) of a runtime that takes nothing over: it gets what systemd gave to this one. */
export function restoreEnvironment(
  { notifySocket, watchdogMs, listener, discovery }: SavedService,
  env: NodeJS.ProcessEnv,
): void {
  if (notifySocket !== null) env.NOTIFY_SOCKET = notifySocket
  if (watchdogMs !== null) env.WATCHDOG_USEC = String(watchdogMs * 1000)
  if (listener === null) return
  const sockets = [listener.fd, ...(discovery === null ? [] : [discovery])]
  env.LISTEN_FDS = String(sockets.length)
  env.LISTEN_PID = String(process.pid)
  const dup2 = loadSystem().bind('dup2', 'int', ['int', 'int'])
  for (const [at, fd] of sockets.entries()) dup2(fd, FIRST_FD + at)
}

/** Whether a variable with a pid means this process; `absent` is the answer when there is no variable. */
const isThis = (pid: string | undefined, absent: boolean): boolean =>
  pid === undefined ? absent : Number(pid) === process.pid

/**
 * systemd leaves the descriptors open in every child: copies that are closed on exec take their place. They come from two units, in
 * no promised order: the stream socket is the robot's address, a datagram socket is for discovery.
 */
function takeSockets(count: number): Pick<SavedService, 'listener' | 'discovery'> {
  const taken: { listener: ListeningSocket | null; discovery: number | null } = { listener: null, discovery: null }
  const given = Array.from({ length: count }, (_, at) => FIRST_FD + at)
  const copies = given.map((fd) => loadSystem().duplicate(fd))
  for (const fd of given) closeSync(fd)
  for (const fd of copies) {
    if (isDatagram(fd)) taken.discovery ??= fd
    else taken.listener ??= { fd, port: portOf(fd) }
  }
  return taken
}
