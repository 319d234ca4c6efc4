/** The runtime's log: NDJSON on stderr. No other file of the runtime prints, except main.ts its results on stdout. */
import { destination, type Logger, pino } from 'pino'

export type { Logger } from 'pino'

export function createLog(name: 'body' | 'endpoint'): Logger {
  const timestamp = () => `,"time":"${new Date().toISOString()}"`
  return pino({ name, base: null, timestamp }, destination({ fd: 2, sync: true }))
}

let raw: ReturnType<typeof destination> | null = null

/** Prints a line of the endpoint's log. The line is hostile: it is re-encoded as JSON, so control characters are escaped. */
export function passOn(line: string): void {
  let entry: unknown
  try {
    entry = JSON.parse(line)
  } catch {
    entry = { name: 'endpoint', msg: line }
  }
  // when the reader of stderr is gone, a pino destination drops lines, while process.stderr would end this process
  raw ??= destination({ fd: 2, sync: true })
  raw.write(`${JSON.stringify(entry)}\n`)
}
