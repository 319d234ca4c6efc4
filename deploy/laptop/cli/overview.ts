/**
 * `medulla` without a command, and `medulla robots`: the robots that this laptop knows, what they are and what they run, and the robots
 * on the network that it does not know. All are asked at once, while the network is searched, so that it takes at most 2 s.
 */
import { Refusal } from '../../shared/errors.ts'
import { timeScale } from '../../shared/timescale.ts'
import type { RobotClient } from '../client.ts'
import { readRobots } from '../config.ts'
import { discover, type Found, mayDiscover, type Search } from '../discovery.ts'
import type { App } from './app.ts'
import { connectFound } from './elsewhere.ts'
import { clientOptions, connectTo, findRobot, formatAddress, impliedRobot } from './robot.ts'
import { describeFailure } from './term.ts'

/** For a session at the stored address; the search takes a little more, and 0.5 s are left for another address. */
const PATIENCE_MS = 1200
const ELSEWHERE_MS = 500

const NOT_SEARCHED: Search = { found: [], problem: 'MEDULLA_DISCOVERY=off' }

export async function overview(app: App, key: string | undefined): Promise<number> {
  const { term } = app
  const known = readRobots(app.dir)
  const names = Object.keys(known.robots)
  const ids = new Set<string>()
  for (const name of names) ids.add(await findRobot(app.dir, name).then(({ card }) => card.id, () => '')) // biome-ignore format: one statement
  const searching = mayDiscover(app.env) ? discover(ids, () => false) : Promise.resolve(NOT_SEARCHED)
  const rows = await Promise.all(names.map((name) => ask(app, key, name, searching)))
  const { found, problem } = await searching
  const strangers = unknown(found, ids)
  term.aim(null)
  if (names.length === 0) term.line('This laptop knows no robot yet.')
  const implied = impliedRobot(known, app.env)
  const others = strangers.map(({ name, host, port, version, id }) => [name, formatAddress(host, port), '', version, 'yes', `not known: ${id}`]) // biome-ignore format: one row
  const all = [...rows, ...others]
  if (all.length > 0) {
    const lines = all.map((row, index) => [index < rows.length && row[0] === implied ? '*' : '', ...row])
    term.table(['', 'robot', 'address', 'model', 'version', 'there', 'runs'], lines)
  }
  for (const { name, id, host, port, version } of strangers) {
    term.event({ event: 'found', name, id, version, address: formatAddress(host, port) })
  }
  const [first] = strangers
  if (first !== undefined) {
    const at = formatAddress(first.host, first.port)
    if (names.includes(first.name))
      term.hint(`${at} is not the ${first.name} that this laptop knows: it has other keys`)
    else term.hint(`medulla pair ${at} makes ${first.name} known`)
  } else if (problem !== null && mayDiscover(app.env)) {
    term.hint(`the network was not searched: ${problem}; a robot is reached by its address, too: -d HOST[:PORT]`)
  } else if (rows.some(([, , , , isThere]) => isThere === 'no')) {
    term.hint('a robot that multicast DNS does not find is reached by its address, too: -d HOST[:PORT]')
  }
  if (names.length === 0) term.hint('medulla sim starts a simulated one; medulla --help shows all commands')
  else {
    if (implied === null) term.hint(`medulla use ${names[0]} chooses the robot for commands without -d`)
    term.hint('medulla --help shows all commands')
  }
  return 0
}

/** One row for each robot; a known robot's id at another address is found by {@link ask}. */
const unknown = (found: readonly Found[], ids: ReadonlySet<string>): Found[] =>
  found.filter(({ id }, index) => !ids.has(id) && found.findIndex((each) => each.id === id) === index)

async function ask(app: App, key: string | undefined, name: string, searching: Promise<Search>): Promise<string[]> {
  let address = readRobots(app.dir).robots[name]?.address ?? ''
  try {
    const client = await reach(app, key, name, searching)
    address = readRobots(app.dir).robots[name]?.address ?? address
    const asked = Promise.all([client.status(), client.board()])
    const [{ slots, version }, { model }] = await asked.finally(() => client.close())
    app.term.event({ event: 'robot', name, address, model, version, slots })
    const runs = slots.map((slot) => [slot.slot, slot.state, slot.program, slot.version].filter(Boolean).join(' '))
    return [name, address, model, version, 'yes', runs.length > 0 ? runs.join('; ') : 'nothing']
  } catch (error) {
    const failure = describeFailure(error)
    app.term.event({ event: 'robot', name, address, error: failure })
    return [name, address, '', '', 'no', failure.message]
  }
}

/** At its stored address, or at one that answers the search. */
async function reach(
  app: App,
  key: string | undefined,
  name: string,
  searching: Promise<Search>,
): Promise<RobotClient> {
  const robot = await findRobot(app.dir, name)
  try {
    return await connectTo(app, robot, key, PATIENCE_MS * timeScale(), false)
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    const { found } = await searching
    const options = { ...(await clientOptions(app, robot, key)), timeoutMs: ELSEWHERE_MS * timeScale() }
    const client = await connectFound(app, robot, options, found)
    if (client === null) throw error
    return client
  }
}
