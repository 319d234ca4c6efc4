/** Whether the runtime starts in minimal mode (HANDOVER 17.9). */
import { lstatSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { MinimalMode } from '../deploy/shared/api.ts'

/** In the home: why in the first line, what to do in the second one. Written by pi-image/root/usr/lib/medulla-card/setup. */
const FILE = 'minimal'
const PUSH = 'push a runtime that works: medulla runtime push; or restart this one on the robot'
const MAX_LINE = 500

/** `why`: what this process knows of itself. Null: it starts programs. */
export function minimalMode(home: string, why: string | null): MinimalMode | null {
  if (why !== null) return { why, hint: PUSH }
  const path = join(home, FILE)
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (stat === undefined) return null
  const [first = '', second = ''] = linesOf(path, stat.isFile()).map((line) => line.trim().slice(0, MAX_LINE))
  return {
    why: first || `its home has a file ${FILE}`,
    hint: second || `remove ${path} on the robot, and restart the runtime`,
  }
}

/** A file that cannot be read counts as an empty one: its owner must still reach the robot. */
function linesOf(path: string, isFile: boolean): string[] {
  try {
    // a FIFO would block the runtime
    return isFile ? readFileSync(path, 'utf8').trim().split('\n') : []
  } catch {
    return []
  }
}
