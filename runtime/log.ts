/** The runtime's log: NDJSON on stderr. No other file of the runtime prints, except main.ts its results on stdout. */
import { destination, type Logger, pino } from 'pino'
import { isJournal, prioritised } from './journal.ts'

export type { Logger } from 'pino'

let stderr: ReturnType<typeof destination> | null = null

/** When the reader of stderr is gone, a pino destination drops lines, while process.stderr would end this process. */
function toStderr(): ReturnType<typeof destination> {
  stderr ??= destination({ fd: 2, sync: true })
  return stderr
}

export function createLog(name: 'body' | 'endpoint'): Logger {
  const timestamp = () => `,"time":"${new Date().toISOString()}"`
  const options = { base: { name }, timestamp }
  if (!isJournal(2)) return pino(options, destination({ fd: 2, sync: true }))
  // each line of pino begins with its level
  const levelOf = (line: string) => Number(/^\{"level":(\d+)/.exec(line)?.[1] ?? Number.NaN)
  return pino(options, { write: (line) => void toStderr().write(prioritised(2, levelOf(line), line)) })
}

/** Prints a line of the endpoint's log. The line is hostile: it is re-encoded as JSON, so control characters are escaped. */
export function logEndpointLine(line: string): void {
  let entry: unknown
  try {
    entry = JSON.parse(line)
  } catch {
    entry = { name: 'endpoint', msg: line }
  }
  const { level } = (entry ?? {}) as { level?: unknown }
  toStderr().write(prioritised(2, level, `${JSON.stringify(entry)}\n`))
}
