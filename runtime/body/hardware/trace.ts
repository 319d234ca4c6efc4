/** Writes every change of a simulated pin as NDJSON to a file, in batches, so that tracing hardly delays the body. */
import { closeSync, openSync, writeSync } from 'node:fs'

const BATCH_MS = 25

export class TraceFile {
  readonly #fd: number
  readonly #timer: NodeJS.Timeout
  #lines: object[] = []

  /** `goesOn`: after what is in the file already. */
  constructor(path: string, goesOn: boolean) {
    this.#fd = openSync(path, goesOn ? 'a' : 'w', 0o600)
    this.#timer = setInterval(() => this.flush(), BATCH_MS)
    this.#timer.unref()
  }

  add(change: object): void {
    this.#lines.push(change)
  }

  close(): void {
    clearInterval(this.#timer)
    this.flush()
    closeSync(this.#fd)
  }

  flush(): void {
    if (this.#lines.length === 0) return
    const lines = this.#lines
    this.#lines = []
    writeSync(this.#fd, lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
  }
}
