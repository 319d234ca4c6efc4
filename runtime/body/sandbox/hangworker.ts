/** The thread of hangplace.ts: maps one stack with the source map of its bundle. It ends with its job. */
import { fstatSync, readSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { explain } from '../../../deploy/shared/stack.ts'
import type { HangJob, HangPlace } from './hangplace.ts'

/** Bytes of a source map; a larger one is not read, and the place is then one in the bundle. */
const MAX_MAP = 2 * 1024 * 1024

/** The text of the source map; null when it is missing, too large, or no file. */
function mapOf(fd: number | null): string | null {
  if (fd === null) return null
  const stat = fstatSync(fd)
  if (!stat.isFile() || stat.size > MAX_MAP) return null
  const bytes = Buffer.alloc(stat.size)
  return bytes.toString('utf8', 0, readSync(fd, bytes, 0, bytes.length, 0))
}

parentPort?.once('message', ({ stack, fd }: HangJob) => {
  const map = mapOf(fd)
  const {
    text,
    stack: calls,
    place,
  } = explain([{ name: '', message: 'it hangs', stack }], (file) => (file.endsWith('/program.mjs') ? map : undefined))
  const answer: HangPlace | { text: null } = place === null ? { text: null } : { text, stack: calls.slice(0, 4096) }
  parentPort?.postMessage(answer)
})
