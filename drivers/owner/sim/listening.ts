/** `listen` on a simulated board: a real socket, as on a real board (HANDLES 17.1). */

import type { ListenEntry } from '../../board/types.ts'
import { HardwareError } from '../../errors.ts'
import type { GrantSource } from '../backend.ts'
import { listenOn, stopListening } from '../linux/listen.ts'
import { type LinuxSystem, loadSystem } from '../linux/system.ts'
import type { Channel } from './channels.ts'

export class SimulatedListener implements Channel {
  readonly source: GrantSource
  readonly fds: readonly number[]
  readonly #entry: ListenEntry
  readonly #sockets: string | undefined
  #open = true

  private constructor(fd: number, entry: ListenEntry, sockets: string | undefined) {
    this.source = { via: 'inherit', fd, encoding: 'listen' }
    this.fds = [fd]
    this.#entry = entry
    this.#sockets = sockets
  }

  /** `fd`: a socket that was kept open. Throws `unsupported` without Linux or koffi, `busy` for a port in use. */
  static make(
    name: string,
    entry: ListenEntry,
    sockets: string | undefined,
    fd: number | undefined,
  ): SimulatedListener {
    return new SimulatedListener(fd ?? listenOn(name, entry, sockets, systemFor(name)), entry, sockets)
  }

  drain(): void {}

  show(): void {}

  close(): void {
    if (!this.#open) return
    this.#open = false
    stopListening(this.fds[0] as number, this.#entry, this.#sockets)
  }
}

function systemFor(name: string): LinuxSystem {
  try {
    return loadSystem()
  } catch (cause) {
    const message = `${name}: a listening socket needs Linux and koffi: ${(cause as Error).message}`
    throw new HardwareError('unsupported', message, { cause })
  }
}
