/** The runtime's log: NDJSON on stderr, the only file of the runtime that prints, but for the one line in main.ts. */
import { destination, type Logger, pino } from 'pino'

export type { Logger } from 'pino'

export function createLog(name: 'body' | 'endpoint'): Logger {
  const timestamp = () => `,"time":"${new Date().toISOString()}"`
  return pino({ name, base: null, timestamp }, destination({ fd: 2, sync: true }))
}

let raw: ReturnType<typeof destination> | null = null

/** A line of the endpoint's log, which may hold anything: written as JSON, so that it cannot steer a terminal. */
export function passOn(line: string): void {
  let said: unknown
  try {
    said = JSON.parse(line)
  } catch {
    said = { name: 'endpoint', msg: line }
  }
  // pino's own goes silent when nobody reads it any more, and process.stderr would end this process
  raw ??= destination({ fd: 2, sync: true })
  raw.write(`${JSON.stringify(said)}\n`)
}
