/** What a robot has on disk and which processes it runs, to be compared before and after an attempt. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import type { RobotClient } from '../../deploy/laptop/client.ts'
import { eventually } from './eventually.ts'
import { listing } from './listing.ts'

interface Robot {
  readonly home: string
  readonly client: RobotClient
  children(): { pid: number; command: string }[]
}

/** The contents once earlier pushes have been cleaned up. */
export function quietContents(robot: Robot): Promise<string[]> {
  let before: string[] = []
  return eventually(async () => {
    if (!(await isSettled(robot))) return false
    const now = contents(robot)
    const same = now.length > 0 && now.join('\n') === before.join('\n')
    before = now
    if (!same) await new Promise((resolve) => setTimeout(resolve, 40))
    return same && now
  })
}

/**
 * Every path in the home with mode and hash, except receipts and lock, and the files made for programs.
 * Empty when a file was removed while it was read.
 */
function contents(robot: Robot): string[] {
  try {
    const home = listing(robot.home)
      .filter((line) => !/^(?:receipts\.ndjson|lock)/.test(line))
      .map((line) => line.replace(/(?<=^(slots\/[^/]+\/slot\.json) \d+ ).*/, (_, path) => recordOf(robot, path)))
    const children = robot.children().map(({ pid, command }) => `process ${pid} ${command}`)
    const [program] = programsOf(robot)
    const made = program === undefined ? [] : readdirSync(join(readlinkSync(`/proc/${program.pid}/cwd`), '..'))
    return [...home, ...children.sort(), ...made.map((name) => `instance ${name}`).sort()]
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

const programsOf = (robot: Robot): { pid: number }[] =>
  robot.children().filter(({ command }) => command.includes('sdk/loader.js'))

/** A record of a slot without how long its releases ran, which changes with time. */
function recordOf({ home }: Robot, path: string): string {
  const record = JSON.parse(readFileSync(join(home, path), 'utf8')) as Record<string, unknown>
  return JSON.stringify({ ...record, runs: undefined })
}

/** A replaced program ends, and its files are removed, after the result of a push was sent. */
async function isSettled(robot: Robot): Promise<boolean> {
  const { slots } = await robot.client.status()
  if (programsOf(robot).length !== slots.filter(({ state }) => state === 'running').length) return false
  const kept = await Promise.all(slots.map(({ slot }) => robot.client.releases(slot)))
  const digests = kept.flat().map(({ digest }) => digest.replace('sha256:', ''))
  const entries = readdirSync(join(robot.home, 'store')).filter((name) => !name.endsWith('.json'))
  return entries.every((name) => digests.includes(name))
}
