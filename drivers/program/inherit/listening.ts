/**
 * A listening socket through its inherited descriptor. A server gets a copy of the descriptor, because it closes what
 * it listens on, and the socket must stay open for the next program (HANDLES 17.3).
 */

import { HardwareError } from '../../errors.ts'
import { revoked } from '../attached.ts'
import type { Grant, ListeningSocket, NodeServer } from '../handle.ts'
import { fileIo, type HandleTransports } from './transports.ts'

export class InheritedListening implements ListeningSocket {
  readonly kind = 'listen'
  readonly name: string
  readonly port: number | null
  readonly #fd: number | undefined
  readonly #access: HandleTransports
  #open = true

  /** Without a descriptor or `transports.serving`, as in a rehearsal or in simulated time, nothing is served. */
  constructor({ name, port, fd }: Grant, access: HandleTransports) {
    this.name = name
    this.port = port ?? null
    this.#fd = fd
    this.#access = access
  }

  serve(server: NodeServer): void {
    if (!this.#open) throw revoked(this.name, false)
    if (server.listening) {
      const instead = `call ${this.name}.serve(server) instead of server.listen`
      throw new HardwareError('other', `${this.name}: this server listens already: ${instead}`)
    }
    const { serving, system } = this.#access
    const fd = this.#fd
    if (serving === undefined || fd === undefined) return
    const duplicate = system?.duplicate?.bind(system)
    if (duplicate === undefined) throw new HardwareError('unsupported', `${this.name}: a port needs the loader's dup`)
    serving.add(this.name, server, () => duplicate(fd))
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    if (this.#fd !== undefined) (this.#access.io ?? fileIo).close(this.#fd)
  }
}
