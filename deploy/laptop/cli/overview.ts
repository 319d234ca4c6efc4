/**
 * `medulla` without a command, and `medulla robots`: the robots that this laptop knows and what they run. All are asked at
 * once.
 */
import type { App } from './app.ts'
import { readRobots } from './config.ts'
import { connectTo, findRobot, impliedRobot } from './robot.ts'
import { describeFailure } from './term.ts'

const PATIENCE_MS = 2000

export async function overview(app: App, key: string | undefined): Promise<number> {
  const { term } = app
  const known = readRobots(app.dir)
  const names = Object.keys(known.robots)
  if (names.length === 0) {
    term.line('This laptop knows no robot yet.')
    term.hint('medulla sim starts a simulated one; medulla --help shows all commands')
    return 0
  }
  const implied = impliedRobot(known, app.env)
  const rows = await Promise.all(names.map((name) => ask(app, key, name, known.robots[name]?.address ?? '')))
  term.aim(null)
  term.table(
    ['', 'robot', 'address', 'runs'],
    rows.map((row) => [row[0] === implied ? '*' : '', ...row]),
  )
  if (implied === null) term.hint(`medulla use ${names[0]} chooses the robot for commands without -d`)
  term.hint('medulla --help shows all commands')
  return 0
}

async function ask(app: App, key: string | undefined, name: string, address: string): Promise<string[]> {
  try {
    const client = await connectTo(app, await findRobot(app.dir, name), key, PATIENCE_MS)
    const { slots } = await client.status().finally(() => client.close())
    app.term.event({ event: 'robot', name, address, slots })
    const runs = slots.map((slot) => [slot.slot, slot.state, slot.program, slot.version].filter(Boolean).join(' '))
    return [name, address, runs.length > 0 ? runs.join('; ') : 'nothing']
  } catch (error) {
    const failure = describeFailure(error)
    app.term.event({ event: 'robot', name, address, error: failure })
    return [name, address, failure.message]
  }
}
