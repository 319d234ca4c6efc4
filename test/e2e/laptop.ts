/** The laptop of a test robot's operator: runs the built CLI, each command in its own process. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Ended, Laptop } from '../deploy/laptop/cli/medulla.ts'
import type { Named } from './programs.ts'
import type { TestRobot } from './robot.ts'

/** A laptop that knows only this robot, and that the robot trusts. */
export async function laptopOf(robot: TestRobot): Promise<Laptop> {
  const laptop = new Laptop()
  await ran(laptop.run('keygen'))
  const { stdout } = await ran(laptop.run('trust', '--export'))
  const cardFile = join(laptop.dir, 'card.json')
  writeFileSync(cardFile, stdout)
  await robot.trust({ cardFile }, 'operator')
  await ran(laptop.run('trust', 'e2e', `127.0.0.1:${robot.port}`, '--card', join(robot.home, 'robot.json')))
  return laptop
}

async function ran(command: Promise<Ended>): Promise<Ended> {
  const ended = await command
  if (ended.status !== 0) throw new Error(ended.stderr)
  return ended
}

/** Runs `medulla push FILE` with a program of test/programs. */
export async function pushed(laptop: Laptop, robot: TestRobot, name: string, options: Named = {}): Promise<Ended> {
  const file = join(laptop.dir, `${name}.medulla`)
  writeFileSync(file, (await robot.bundle(name, options)).bytes)
  return laptop.run('push', file)
}
