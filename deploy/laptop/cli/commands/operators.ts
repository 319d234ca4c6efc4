import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { type OperatorInfo, ROLE_RANK, type Role } from '../../../shared/api.ts'
import type { SignedCertificate } from '../../../shared/cert.ts'
import { Refusal } from '../../../shared/errors.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { type RotateOptions, rotateOwnKey } from '../ownkey.ts'
import { withRobot } from '../robot.ts'

interface Adding {
  role?: string
  name?: string
}

const ROLES = Object.keys(ROLE_RANK).join(', ')

export function define(command: Command, app: App, run: Runner): void {
  const globals = () => command.optsWithGlobals<Globals>()
  command
    .description(
      'The operators of a robot and their roles. An observer can watch the robot and stop it; an operator can also push, ' +
        'start and change; an owner can also change this list. A change is an order that you sign. It takes effect at once, ' +
        'also for open sessions.',
    )
    .helpCommand(false)
    .action(() => run(() => list(app, globals())))
    .addHelpText(
      'after',
      example(
        'medulla operators',
        'medulla operators add bob.json --role observer',
        'medulla operators role bob owner',
        'medulla operators remove bob',
        'medulla operators revoke bob',
        'medulla operators rotate',
      ),
    )
  command
    .command('add')
    .summary('let a person in')
    .description('Lets a person in: by the card that `medulla trust --export` prints, or by a public key file.')
    .argument('<file>', 'the card, or the .pub file of an ed25519 or ed25519-sk key')
    .option('--role <role>', `${ROLES} (default: operator, or as before)`)
    .option('--name <name>', 'the name on this robot, instead of the one in the file')
    .addHelpText('after', example('medulla operators add bob.json', 'medulla operators add eve.pub --role observer'))
    .action((file: string, options: Adding) => run(() => add(app, file, options, globals())))
  command
    .command('role')
    .summary('change the role of an operator')
    .argument('<who>', 'a name, or a fingerprint')
    .argument('<role>', ROLES)
    .addHelpText('after', example('medulla operators role bob owner'))
    .action((who: string, role: string) => run(() => changeRole(app, who, role, globals())))
  command
    .command('remove')
    .summary('remove an operator from the robot')
    .argument('<who>', 'a name, or a fingerprint')
    .addHelpText('after', example('medulla operators remove bob'))
    .action((who: string) => run(() => remove(app, who, globals())))
  command
    .command('revoke')
    .summary('never let a key in again')
    .description(
      'For a key that others may have: removes its operator, and the robot never lets the key in again, whoever adds it. The ' +
        'person makes another key. Bundles that the key has signed are refused from now on; a program that runs goes on.',
    )
    .argument('<who>', 'a name, or a fingerprint, also one that the robot does not know')
    .addHelpText('after', example('medulla operators revoke bob', 'medulla operators revoke SHA256:…'))
    .action((who: string) => run(() => revoke(app, who, globals())))
  command
    .command('rotate')
    .summary('replace your own key')
    .description(
      'Makes another key and replaces yours by it, on all robots that this laptop knows, or on that of -d. Your present key signs ' +
        'the change, and is revoked. Name and role stay.',
    )
    .option('--to <file>', 'the new key; also the .pub file of a key that an agent holds (default: makes one)')
    .addHelpText('after', example('medulla operators rotate', 'medulla operators rotate -d arm --to ~/.ssh/id_ed25519'))
    .action((options: RotateOptions) => run(() => rotateOwnKey(app, options, globals())))
}

async function list(app: App, globals: Globals): Promise<number> {
  const all = await withRobot(app, globals, (client) => client.operators())
  for (const each of all) app.term.event({ event: 'operator', ...each })
  app.term.table(
    ['name', 'role', 'key'],
    all.map(({ name, role, fingerprint }) => [name, role, fingerprint]),
  )
  return 0
}

async function add(app: App, file: string, options: Adding, globals: Globals): Promise<number> {
  const role = options.role === undefined ? null : readRole(options.role)
  const text = (await readText(file)).trim()
  const card = text.startsWith('{') ? readCard(file, text) : null
  if (card === null && !/^(?:sk-)?ssh-/.test(text)) {
    const hint = 'on the laptop of that person: medulla trust --export > card.json'
    throw new Refusal('usage', `${file} holds neither a card nor a public key`, hint)
  }
  const key = card === null ? text : null
  const added = await withRobot(app, globals, (client) =>
    client.changeOperators({ order: 'add-operator', card, key, name: options.name ?? null, role }),
  )
  printChange(app, added, `${added.name} is ${added.role} now`)
  app.term.hint(`on the other laptop, with the robot's card: medulla trust NAME ADDRESS --card robot.json`)
  return 0
}

async function changeRole(app: App, who: string, wanted: string, globals: Globals): Promise<number> {
  const role = readRole(wanted)
  const changed = await withRobot(app, globals, async (client) => {
    const { fingerprint } = find(await client.operators(), who)
    return client.changeOperators({ order: 'change-role', operator: fingerprint, role })
  })
  return printChange(app, changed, `${changed.name} is ${changed.role} now`)
}

async function remove(app: App, who: string, globals: Globals): Promise<number> {
  const removed = await withRobot(app, globals, async (client) => {
    const { fingerprint } = find(await client.operators(), who)
    return client.changeOperators({ order: 'remove-operator', operator: fingerprint })
  })
  return printChange(app, removed, `${removed.name} is kept out now`)
}

async function revoke(app: App, who: string, globals: Globals): Promise<number> {
  const revoked = await withRobot(app, globals, async (client) => {
    const isKey = /^SHA256:[A-Za-z0-9+/]{43}$/.test(who)
    return client.revokeKey(isKey ? who : find(await client.operators(), who).fingerprint)
  })
  app.term.event({ event: 'revoked', ...revoked })
  app.term.line(`${revoked.name ?? 'a key that the robot did not know'} is revoked: ${revoked.fingerprint}`)
  app.term.next('medulla keys rotate', 'medulla operators')
  return 0
}

function printChange(app: App, who: OperatorInfo, line: string): number {
  app.term.event({ event: 'operator', ...who })
  app.term.line(line)
  return 0
}

function find(all: readonly OperatorInfo[], who: string): OperatorInfo {
  const found = all.filter(({ name, fingerprint }) => name === who || fingerprint === who)
  const [only] = found
  const hint = 'medulla operators'
  if (only === undefined)
    throw new Refusal('not-found', `no operator of the robot is called ${JSON.stringify(who)}`, hint)
  if (found.length > 1)
    throw new Refusal('usage', `${found.length} operators are called ${who}: give the fingerprint instead`, hint)
  return only
}

function readRole(text: string): Role {
  if (Object.hasOwn(ROLE_RANK, text)) return text as Role
  throw new Refusal('usage', `expected a role of ${ROLES}, got ${JSON.stringify(text)}`)
}

function readText(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new Refusal('usage', `cannot read ${file}: ${cause.code}`, 'medulla trust --export > me.json', { cause })
  })
}

function readCard(file: string, text: string): SignedCertificate {
  try {
    const { cert, sig } = JSON.parse(text) as Record<string, unknown>
    if (typeof cert === 'string' && typeof sig === 'string') return { cert, sig }
  } catch {
    // not JSON: refused below
  }
  throw new Refusal('usage', `${file} is not a card`, 'medulla trust --export > me.json')
}
