import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Command } from 'commander'
import { DEFAULT_SLOT, type Role, type SlotStatus } from '../../../shared/api.ts'
import { Refusal } from '../../../shared/errors.ts'
import { RobotClient } from '../../client.ts'
import { keyPath, signer } from '../../config.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { makeBundle, type Program } from '../attackbundle.ts'
import { type Attack, anotherRobot, type Insider, keepOut, letIn, makeAttacker, type Scene } from '../attackers.ts'
import { changesOf, isTried, type Result, tryAll } from '../attackrun.ts'
import { ATTACKS } from '../attacks.ts'
import { EXIT } from '../exit.ts'
import { untilInterrupt } from '../interrupt.ts'
import { padEnd } from '../layout.ts'
import { buildFiles } from '../program.ts'
import { clientOptions, findRobot, type Target } from '../robot.ts'
import { checkTarget, conclusion, readState, type TrustedState } from '../truststate.ts'
import { firstProgram } from './new.ts'

/** Widths of the columns who, what and answer, in cells; the last column, state, fits into what remains of 80. */
const WIDTHS = [9, 38, 17]
/** Outcomes of the receipts that a run may leave: refusals of the attacks, and the owner's own changes of operators. */
const EXPECTED_OUTCOMES = ['refused', 'changed']

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Attacks a simulated robot of yours: as a stranger on its port, as an observer, as an operator, and\n' +
        'as somebody who forwards what others signed. Prints the answer to each attack, and whether anything\n' +
        'changed on the robot. Your program runs on; when slot main is empty, a first one is pushed there.\n' +
        'You have to be an owner: two keys are let in for the time of the attacks, and kept out again.\n' +
        `Exit code ${EXIT.ok}: all attacks were refused; ${EXIT.internal}: one was not, or something changed.`,
    )
    .addHelpText('after', example('medulla attack', 'medulla attack -d sim --json'))
    .action((_: unknown, own: Command) => run(() => attack(app, own.optsWithGlobals<Globals>())))
}

async function attack(app: App, globals: Globals): Promise<number> {
  const robot = await findRobot(app.dir, globals.device)
  const options = await clientOptions(app, robot, globals.key)
  if (options.psk !== undefined)
    throw new Refusal(
      'usage',
      `${robot.name} has a pre-shared key, which the attacks do not know`,
      'medulla attack -d sim',
    )
  const client = await RobotClient.connect(options)
  const folder = await mkdtemp(join(tmpdir(), 'medulla-attack-'))
  try {
    checkTarget(await client.status())
    await firstProgram(folder, 'attack')
    const program = await buildFiles(app, join(folder, 'attack'))
    const owner = { client, options, signer: await signer(keyPath(app.dir, globals.key, app.env)) }
    return await withInsiders(app, robot, owner, program)
  } finally {
    client.close()
    await rm(folder, { recursive: true, force: true })
  }
}

/** Adds two attackers as operators of the robot and runs all attacks; removes the attackers at the end, also after an error. */
async function withInsiders(app: App, robot: Target, owner: Scene['owner'], program: Program): Promise<number> {
  const { client, options } = owner
  const recipient = { id: robot.card.id, age: robot.card.age ?? '' }
  const installed = await fillEmptySlot(app, client, () => makeBundle(program, owner.signer, recipient))
  const slot = await attackedSlot(client)
  const before = await readState(client)
  const insiders: Insider[] = []
  const admit = async (name: string, role: Role): Promise<Insider> => {
    const insider = await letIn(client, await makeAttacker(name, options), role)
    insiders.push(insider)
    return insider
  }
  let results: Result[]
  try {
    const scene: Scene = {
      owner,
      observer: await admit('attack-observer', 'observer'),
      operator: await admit('attack-operator', 'operator'),
      stranger: await makeAttacker('attack-stranger', options),
      robot: recipient,
      elsewhere: await anotherRobot(),
      program,
      slot,
      handles: (await client.board()).handles,
      installed,
    }
    app.term.line(`${robot.name} is simulated, and slot ${slot.slot} runs ${runs(slot)}.`)
    app.term.line('Let in for the time of the attacks: attack-observer, attack-operator.')
    results = await runAttacks(app, scene, robot.card.key)
  } finally {
    for (const insider of insiders) await removeAttacker(app, client, insider)
  }
  return judgeRun(app, robot, client, before, results)
}

/** Pushes a first program when slot main is empty, and returns its bundle. The robot's log shows it as any other push. */
async function fillEmptySlot(
  app: App,
  client: RobotClient,
  make: () => Promise<Uint8Array>,
): Promise<Uint8Array | undefined> {
  const { slots } = await client.status()
  if (slots.some(({ slot, digest }) => slot === DEFAULT_SLOT && digest !== undefined)) return undefined
  app.term.progress(`slot ${DEFAULT_SLOT} is empty: pushing a first program`)
  const bundle = await make()
  for await (const event of client.push(DEFAULT_SLOT, bundle)) {
    if (event.event !== 'result') continue
    if (event.outcome === 'committed') break
    throw new Refusal(event.code ?? 'internal', event.message, 'push a program of yours first: medulla push')
  }
  app.term.event({ event: 'pushed', slot: DEFAULT_SLOT, program: 'attack' })
  app.term.line(`Slot ${DEFAULT_SLOT} was empty: a first program, attack 1.0.0, was pushed and runs there.`)
  return bundle
}

async function attackedSlot(client: RobotClient): Promise<SlotStatus> {
  const found = (await client.status()).slots.find(({ slot }) => slot === DEFAULT_SLOT)
  if (found === undefined) throw new Refusal('not-running', `slot ${DEFAULT_SLOT} is empty`, 'medulla push')
  return found
}

async function runAttacks(app: App, scene: Scene, robotKey: string): Promise<Result[]> {
  const { term } = app
  const results: Result[] = []
  term.line(term.paint('dim', columns('who', 'what is tried', 'answer', 'state')))
  const starting = ({ who, what }: Attack): void =>
    term.progress(`${results.length + 1} of ${ATTACKS.length}  ${who}: ${what}`)
  let interrupted = false
  await untilInterrupt(async (signal) => {
    for await (const result of tryAll(ATTACKS, scene, robotKey, starting, signal)) {
      results.push(result)
      show(app, result)
    }
    interrupted = signal.aborted
  })
  if (interrupted) throw new Refusal('interrupted', `interrupted after ${results.length} of ${ATTACKS.length} attacks`)
  return results
}

function show({ term }: App, result: Result): void {
  const { who, what, expected } = result.attack
  if (!isTried(result)) {
    term.event({ event: 'attack', who, what, expected, tried: false, reason: result.reason })
    term.line(term.paint('dim', columns(who, what, 'not tried', '')))
    term.line(term.paint('dim', `           ${result.reason}`))
    return
  }
  const { answer, verdict, changes, ms } = result
  const unchanged = changes.length === 0
  term.event({
    event: 'attack',
    who,
    what,
    expected,
    tried: true,
    answer,
    verdict,
    unchanged,
    changes,
    ms: Math.round(ms),
  })
  const line = columns(who, what, answer, unchanged ? 'unchanged' : 'CHANGED')
  term.line(verdict === 'refused' ? line : term.paint('red', line))
  if (verdict === 'refused') return
  if (answer !== expected) term.line(`           expected: ${expected}`)
  for (const change of changes) term.line(`           ${change}`)
}

/** Removes the attacker from the robot's operators. If that fails, nobody can use its key: it was only in this process. */
async function removeAttacker(app: App, client: RobotClient, insider: Insider): Promise<void> {
  insider.client.close()
  try {
    await keepOut(client, insider)
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    app.term.note(`${insider.name} could not be removed from the robot's operators: ${error.message}; its key is gone`)
    app.term.hint(`medulla operators remove ${insider.signer.fingerprint}`)
  }
}

/** Judges the whole run: the state must be as before, and the log may only show refusals and this command's own changes. */
async function judgeRun(
  app: App,
  robot: Target,
  client: RobotClient,
  before: TrustedState,
  results: readonly Result[],
): Promise<number> {
  const { term } = app
  const after = await readState(client)
  const changes = await changesOf(client, robot.card.key, before, after, EXPECTED_OUTCOMES)
  const verdicts = results.filter(isTried).map(({ verdict }) => verdict)
  const notTried = results.length - verdicts.length
  const { ok, line } = conclusion(verdicts, changes, notTried)
  term.line('attack-observer and attack-operator are kept out again.')
  for (const change of changes) term.line(term.paint('red', change))
  const slot = await attackedSlot(client)
  term.line(`Slot ${slot.slot} ran on: ${runs(slot)}.`)
  term.line(`The log has ${after.head.seq - before.head.seq} receipts more, signed by the robot and unbroken.`)
  term.event({ event: 'attacked', ok, attacks: verdicts.length, notTried, changes })
  term.line(term.paint(ok ? 'green' : 'red', line))
  return ok ? EXIT.ok : EXIT.internal
}

function columns(...cells: string[]): string {
  return cells
    .map((cell, at) => padEnd(cell, WIDTHS[at] ?? 0))
    .join('  ')
    .trimEnd()
}

function runs({ program = 'nothing', version = '', pid, ticks }: SlotStatus): string {
  return `${program} ${version}, pid ${pid ?? 'none'}${ticks === undefined ? '' : `, ${ticks} ticks`}`
}
