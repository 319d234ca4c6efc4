/** Invariant: a line is read in blocking calls, and `next` answers null exactly once the other side is gone. */
import { readSync } from 'node:fs'
import { again } from '../../drivers/linux/unix.ts'

export class Lines {
  readonly fd: number
  readonly #bytes = Buffer.alloc(65_536)
  #rest = Buffer.alloc(0)

  constructor(fd: number) {
    this.fd = fd
  }

  next(): string | null {
    for (;;) {
      const end = this.#rest.indexOf(0x0a)
      if (end >= 0) {
        const line = this.#rest.toString('utf8', 0, end)
        this.#rest = this.#rest.subarray(end + 1)
        return line
      }
      const got = this.#read()
      if (got === 0) return null
      this.#rest = Buffer.concat([this.#rest, this.#bytes.subarray(0, got)])
    }
  }

  /** A connection that was reset has ended, too. */
  #read(): number {
    try {
      return again(() => readSync(this.fd, this.#bytes, 0, this.#bytes.length, null))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') throw error
      return 0
    }
  }
}
