/**
 * Priorities for the journal: systemd reads `<N>` at the start of each line (sd-daemon(3)), so that `journalctl -p err`
 * works. Only where the output is the journal: elsewhere the lines stay plain JSON.
 */
import { fstatSync } from 'node:fs'

/** Numbers of syslog(3) for those of pino: error, warning, info, debug. */
const PRIORITIES: readonly (readonly [least: number, priority: number])[] = [
  [50, 3],
  [40, 4],
  [30, 6],
]

type Output = 1 | 2
const known = new Map<Output, boolean>()

/** Whether stdout or stderr is the journal: JOURNAL_STREAM names device and inode of its socket (systemd.exec(5)). */
export function isJournal(fd: Output): boolean {
  const before = known.get(fd)
  if (before !== undefined) return before
  const now = isStream(fd, process.env.JOURNAL_STREAM)
  known.set(fd, now)
  return now
}

function isStream(fd: Output, stream: string | undefined): boolean {
  if (stream === undefined) return false
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true })
    return stream === `${dev}:${ino}`
  } catch {
    return false
  }
}

/** `line` with its priority in front, for the journal; `level` is a number of pino. */
export function prioritised(fd: Output, level: unknown, line: string): string {
  if (!isJournal(fd)) return line
  const number = typeof level === 'number' && !Number.isNaN(level) ? level : 30
  const [, priority = 7] = PRIORITIES.find(([least]) => number >= least) ?? []
  return `<${priority}>${line}`
}
