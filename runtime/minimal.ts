/** Whether the runtime starts in minimal mode (HANDOVER 17.9). */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { MinimalMode } from '../deploy/shared/api.ts'

/** In the home: why in the first line, what to do in the second one. Written by pi-image/root/usr/lib/medulla-card/setup. */
const FILE = 'minimal'
const PUSH = 'push a runtime that works: medulla runtime push; or restart this one on the robot'

/** `why`: what this process knows of itself. Null: it starts programs. */
export function minimalMode(home: string, why: string | null): MinimalMode | null {
  if (why !== null) return { why, hint: PUSH }
  try {
    const [first = '', hint = PUSH] = readFileSync(join(home, FILE), 'utf8').trim().split('\n')
    return { why: first, hint }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}
