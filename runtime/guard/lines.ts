/** Reads lines from a descriptor in blocking calls. */
import { readSync } from 'node:fs'
import { retryInterrupted } from '../../drivers/owner/linux/unix.ts'

export class LineReader {
  readonly fd: number
  readonly #bytes = Buffer.alloc(65_536)
  #rest = Buffer.alloc(0)

  constructor(fd: number) {
    this.fd = fd
  }

  /** Waits for a whole line. Null: the other side has closed. */
  next(): string | null {
    for (;;) {
      const line = this.take()
      if (line !== null) return line
      if (!this.read()) return null
    }
  }

  /** A line that was read already; null when there is none yet. */
  take(): string | null {
    const end = this.#rest.indexOf(0x0a)
    if (end < 0) return null
    const line = this.#rest.toString('utf8', 0, end)
    this.#rest = this.#rest.subarray(end + 1)
    return line
  }

  /** Waits for bytes. False: the other side has closed, or the connection was reset. */
  read(): boolean {
    let got: number
    try {
      got = retryInterrupted(() => readSync(this.fd, this.#bytes, 0, this.#bytes.length, null))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') throw error
      return false
    }
    this.#rest = Buffer.concat([this.#rest, this.#bytes.subarray(0, got)])
    return got > 0
  }
}
