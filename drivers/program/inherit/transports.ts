/**
 * Everything that a handle needs besides its descriptor. It is passed in, so that a rehearsal can pass harmless parts.
 */
import { closeSync, readSync, writeSync } from 'node:fs'
import type { Pacing } from '../attached.ts'
import type { BrokerPort } from '../broker/client.ts'
import type { NodeServer } from '../handle.ts'
import type { System } from './system.ts'

/** read(2), write(2) and close(2), as in node:fs. A rehearsal passes functions that touch no descriptor. */
export interface FileIo {
  read(fd: number, bytes: Uint8Array): number
  write(fd: number, bytes: Uint8Array): number
  close(fd: number): void
}

export interface HandleTransports extends Pacing {
  /** null when the loader has none: handles that need it are `unsupported` */
  readonly system: System | null
  /** For the transfers of an inherited i2c device that its descriptor cannot make (HANDLES 12.5). */
  readonly broker: BrokerPort | null
  readonly io?: FileIo
  /** Opens and closes servers when the program's turn begins and ends. Absent: nothing is served. */
  readonly serving?: ServerRegistry
}

export interface ServerRegistry {
  /** `open` returns a new descriptor of the socket, which the server closes. */
  add(name: string, server: NodeServer, open: () => number): void
}

export const fileIo: FileIo = {
  read: (fd, bytes) => readSync(fd, bytes),
  write: (fd, bytes) => writeSync(fd, bytes),
  close: closeSync,
}
