/**
 * Base class of inherited devices. They are used only while their lease is live and the handle is open (HANDLES 3.4).
 */

import { HardwareError, hardwareFault } from '../../errors.ts'
import { revoked } from '../attached.ts'
import type { Grant, Lease } from '../handle.ts'
import type { System } from './system.ts'
import { type FileIo, fileIo, type HandleTransports } from './transports.ts'

export abstract class InheritedDevice {
  readonly name: string
  protected readonly fd: number
  readonly #lease: Lease
  readonly #io: FileIo
  #open = true

  constructor(grant: Grant, lease: Lease, access: HandleTransports) {
    if (grant.fd === undefined) throw new HardwareError('no-device', `${grant.name}: the grant has no descriptor`)
    this.name = grant.name
    this.fd = grant.fd
    this.#lease = lease
    this.#io = access.io ?? fileIo
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#io.close(this.fd)
  }

  protected check(): void {
    if (!this.#lease.live || !this.#open) throw revoked(this.name, this.#open)
  }

  /** One read(2); returns the number of bytes read. Throws the system's error. */
  protected readSome(bytes: Uint8Array): number {
    return this.#io.read(this.fd, bytes)
  }

  /** One write(2); returns the number of bytes written. Throws the system's error. */
  protected writeSome(bytes: Uint8Array): number {
    return this.#io.write(this.fd, bytes)
  }

  protected ioctl(system: System, request: number, argument: Uint8Array): void {
    try {
      system.ioctl(this.fd, request, argument)
    } catch (error) {
      throw hardwareFault(this.name, error)
    }
  }

  protected fault(error: unknown): HardwareError {
    return hardwareFault(this.name, error)
  }
}
