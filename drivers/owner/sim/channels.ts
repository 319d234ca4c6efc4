/**
 * The descriptors through which programs use simulated handles: a FIFO for writes, a file for the level of an input.
 *
 * Each file is removed from the folder as soon as both ends are open, so that no other process can open it
 * (HANDLES 9.5, 9.6).
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
  /** Path of the other end, for a terminal program. */
  readonly link?: string
  /** Both ends, in the order that `adopt` expects. */
  readonly fds: readonly number[]
  /** Applies the records that programs have written so far. */
  drain(): void
  /** Inputs: sets the level that programs read. */
  show(level: number): void
  close(): void
}

export const NO_CHANNEL: Channel = { source: { via: 'broker' }, fds: [], drain() {}, show() {}, close() {} }

const CHUNK = 64 * 1024

/** A FIFO: programs write records at its blocking end, the world reads them at the non-blocking one (HANDLES 9.5). */
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
    // an owner that was killed at this point has left its file
    rmSync(path, { force: true })
    const made = spawnSync('mkfifo', ['-m', '600', path], { encoding: 'utf8' })
    if (made.status !== 0) {
      throw new HardwareError('other', `${name}: mkfifo: ${made.error?.message ?? made.stderr.trim()}`)
    }
    try {
      const read = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
      // does not wait, since a reader exists; an open file of its own, so that writes block when the pipe is full
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

/** A file with the level of an input: one byte, which programs read at position 0 (HANDLES 9.6). */
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
