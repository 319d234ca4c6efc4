/**
 * Invariant: each inherited handle of the simulator is a real descriptor, and its file is gone from the folder as soon
 * as both ends are open, so that nobody can open it again.
 */
import { spawnSync } from 'node:child_process'
import { closeSync, constants, openSync, readSync, rmSync, unlinkSync, writeSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { HardwareError, hardwareFault } from '../../errors.ts'
import { RecordReader, type WriteRecord } from '../../program/inherit/record.ts'
import type { GrantSource } from '../backend.ts'

export interface Channel {
  readonly source: GrantSource
  /** Where a person reaches the other end. */
  readonly link?: string
  /** Both ends, in the order that `adopt` takes them. */
  readonly fds: readonly number[]
  /** Takes what programs have written until now. */
  drain(): void
  /** Inputs: shows a level to programs. */
  show(level: number): void
  close(): void
}

export const NO_CHANNEL: Channel = { source: { via: 'broker' }, fds: [], drain() {}, show() {}, close() {} }

const CHUNK = 64 * 1024

/** HANDLES 9.5: programs write records into a FIFO, at a blocking end; the world reads at a non-blocking one. */
export class RecordPipe implements Channel {
  readonly source: GrantSource
  readonly fds: readonly number[]
  readonly #name: string
  readonly #reader = new RecordReader()
  readonly #onRecord: (record: WriteRecord) => void
  readonly #socket: Socket
  readonly #chunk = Buffer.allocUnsafe(CHUNK)
  #open = true

  constructor(name: string, fds: readonly [number, number], onRecord: (record: WriteRecord) => void) {
    this.#name = name
    this.fds = fds
    this.source = { via: 'inherit', fd: fds[1], encoding: 'record' }
    this.#onRecord = onRecord
    this.#socket = new Socket({ fd: fds[0], readable: true, writable: false })
    this.#socket.on('data', (chunk) => this.#reader.push(chunk, this.#onRecord))
    this.#socket.on('error', () => this.close())
    this.#socket.unref()
  }

  static make(folder: string, name: string, id: number, onRecord: (record: WriteRecord) => void): RecordPipe {
    const path = join(folder, `${id}.fifo`)
    // what an owner left that was killed just here
    rmSync(path, { force: true })
    const made = spawnSync('mkfifo', ['-m', '600', path], { encoding: 'utf8' })
    if (made.status !== 0) {
      throw new HardwareError('other', `${name}: mkfifo: ${made.error?.message ?? made.stderr.trim()}`)
    }
    try {
      const read = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
      // a reader is there, so this does not wait; the end is its own open file, and blocks when the pipe is full
      return new RecordPipe(name, [read, openSync(path, constants.O_WRONLY)], onRecord)
    } finally {
      unlinkSync(path)
    }
  }

  drain(): void {
    while (this.#open) {
      let got: number
      try {
        got = readSync(this.fds[0] as number, this.#chunk)
      } catch (error) {
        if ((error as { code?: unknown }).code === 'EAGAIN') return
        throw hardwareFault(this.#name, error)
      }
      if (got === 0) return
      this.#reader.push(this.#chunk.subarray(0, got), this.#onRecord)
    }
  }

  show(): void {}

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#socket.destroy()
    closeSync(this.fds[1] as number)
  }
}

/** HANDLES 9.6: the level of an input, as one byte that programs read at position 0. */
export class LevelFile implements Channel {
  readonly source: GrantSource
  readonly fds: readonly number[]
  #open = true

  constructor(fds: readonly [number, number]) {
    this.fds = fds
    this.source = { via: 'inherit', fd: fds[0], encoding: 'level' }
  }

  static make(folder: string, id: number): LevelFile {
    const path = join(folder, `${id}.level`)
    rmSync(path, { force: true })
    const write = openSync(path, 'wx', 0o600)
    try {
      return new LevelFile([openSync(path, 'r'), write])
    } finally {
      unlinkSync(path)
    }
  }

  drain(): void {}

  show(level: number): void {
    if (this.#open) writeSync(this.fds[1] as number, level ? '1' : '0', 0)
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    for (const fd of this.fds) closeSync(fd)
  }
}
