/**
 * The listening socket of a program instance for message channels. Invariant: the body makes it and connects to it, and never reads
 * or writes what goes over it (CHANNEL 12.2; test/e2e/messages.test.ts).
 *
 * It lies beside the instance's folder (`RunDir.remove` removes it, too), where no program can replace it.
 */
import { basename, dirname } from 'node:path'
import { Refusal } from '../../../deploy/shared/errors.ts'
import { UnixSockets } from '../../../drivers/owner/linux/unix.ts'
import type { RunDir } from './rundir.ts'

/** Connections that the program has not accepted yet. */
const BACKLOG = 16

let loaded: UnixSockets | null | undefined

/** Null without Linux and koffi. */
function sockets(): UnixSockets | null {
  if (loaded !== undefined) return loaded
  try {
    loaded = process.platform === 'linux' ? new UnixSockets() : null
  } catch {
    loaded = null
  }
  return loaded
}

const nameOf = ({ path }: RunDir): string => `${basename(path)}.channels`

/** A descriptor for the child; null: this robot has no message channels. */
export function listenForMessages(dir: RunDir): number | null {
  return sockets()?.listen(dirname(dir.path), nameOf(dir), { backlog: BACKLOG }) ?? null
}

/** A new connection with the instance. Never waits. Throws Refusal `not-running`, `in-progress` or `unsupported`. */
export function connectForMessages(dir: RunDir): number {
  const unix = sockets()
  if (unix === null) throw new Refusal('unsupported', 'message channels need Linux and the package koffi on the robot')
  try {
    return unix.connectNow(dirname(dir.path), nameOf(dir))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EAGAIN') throw new Refusal('in-progress', 'the program accepts no further channel', 'try again')
    throw new Refusal('not-running', 'the program has just ended, or has no channels', 'medulla status')
  }
}

/** Sends a copy of a connection to the endpoint. Throws `in-progress` when the endpoint takes no more. */
export function passConnection(socket: number, connection: number): void {
  try {
    sockets()?.sendFds(socket, [connection])
  } catch {
    throw new Refusal('in-progress', 'the endpoint has not taken the channels before this one', 'try again')
  }
}
