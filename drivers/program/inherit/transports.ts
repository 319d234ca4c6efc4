/** Invariant: a handle is given all that it needs beside its descriptor, and finds nothing by itself. */
import { closeSync, readSync, writeSync } from 'node:fs'
import type { Pacing } from '../attached.ts'
import type { BrokerPort } from '../broker/client.ts'
import type { NodeServer } from '../handle.ts'
import type { System } from './system.ts'

/** read(2), write(2) and close(2), as node:fs has them; a rehearsal gives its own, which touch no descriptor. */
export interface FileIo {
  read(fd: number, bytes: Uint8Array): number
  write(fd: number, bytes: Uint8Array): number
  close(fd: number): void
}

export interface HandleTransports extends Pacing {
  /** null where the loader gives none: what needs it is `unsupported` */
  readonly system: System | null
  /** For the transfers of an inherited i2c device that go over the owner (HANDLES 12.5). */
  readonly broker: BrokerPort | null
  readonly io?: FileIo
  /** Who opens and closes servers as the program's turn begins and ends; absent where nothing is served. */
  readonly serving?: Serving
}

export interface Serving {
  /** `open` gives a descriptor of the socket, which the server closes. */
  add(name: string, server: NodeServer, open: () => number): void
}

export const fileIo: FileIo = {
  read: (fd, bytes) => readSync(fd, bytes),
  write: (fd, bytes) => writeSync(fd, bytes),
  close: closeSync,
}
