/** The command line of an operator of a test robot: every command is the built CLI, in a process of its own. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Ended, Laptop } from '../cli/medulla.ts'
import type { Named } from './programs.ts'
import type { TestRobot } from './robot.ts'

/** A laptop that the robot knows, and that knows no other robot. */
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

/** `medulla push FILE`, of a program of test/programs. */
export async function pushed(laptop: Laptop, robot: TestRobot, name: string, options: Named = {}): Promise<Ended> {
  const file = join(laptop.dir, `${name}.medulla`)
  writeFileSync(file, (await robot.bundle(name, options)).bytes)
  return laptop.run('push', file)
}
