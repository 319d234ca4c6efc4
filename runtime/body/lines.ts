/** Invariant: a peer that sends an endless line is cut off; what it sent is never kept beyond the limit. */
import type { Readable } from 'node:stream'

/** Calls `onLine` for each complete line of UTF-8; `onTooLong` once, after which nothing more is delivered. */
export function readLines(from: Readable, max: number, onLine: (line: string) => void, onTooLong: () => void): void {
  let rest = ''
  let dead = false
  from.setEncoding('utf8')
  from.on('data', (text: string) => {
    if (dead) return
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of [...lines, rest]) dead ||= line.length > max
    for (const line of lines) if (line.length <= max) onLine(line)
    if (dead) {
      rest = ''
      onTooLong()
    }
  })
  from.on('error', () => {})
}
