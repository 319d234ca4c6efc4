/** A program's checkpoint as it lies on the robot's disk. */
import { join } from 'node:path'
import { readCheckpoint } from '../../runtime/store/checkpoint.ts'
import type { TestRobot } from './robot.ts'

export const checkpointFile = (robot: TestRobot, program: string): string =>
  join(robot.home, 'slots', 'main', `checkpoint-${program}`)

/** Null when the program has none. */
export async function checkpointOf(robot: TestRobot, program: string) {
  const kept = await readCheckpoint(checkpointFile(robot, program))
  if (kept === null) return null
  const { stateVersion, encoding, bytes } = kept
  const state = JSON.parse(Buffer.from(bytes).toString()) as Record<string, number>
  return { program: kept.program, stateVersion, encoding, state }
}
