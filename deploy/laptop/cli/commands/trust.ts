import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { ROLE_RANK } from '../../../shared/api.ts'
import { type SignedCertificate, verifyCertificate } from '../../../shared/cert.ts'
import { Refusal } from '../../../shared/errors.ts'
import { NAME_PATTERN } from '../../../shared/names.ts'
import { keyPath, operator } from '../../config.ts'
import { type App, example, type Runner } from '../app.ts'
import { shellWord } from '../clean.ts'
import { pinRobot } from '../pins.ts'
import { showRecovery } from '../recoverytext.ts'
import { formatAddress, parseAddress } from '../robot.ts'
import { askRuntime } from '../runtimebin.ts'

interface Options {
  card?: string
  id?: string
  home?: string
  role?: string
  name?: string
  export?: true
  replace?: true
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'On the laptop: remembers a robot by its card (robot.json in its home), under a name and an address.\n' +
        'On the robot (--home): lets an operator in, by the card or the public key file that you bring.\n' +
        'Do both; carry the files by a way that you trust, such as a USB stick or ssh.',
    )
    .argument('[name-or-file]', "laptop: the robot's name; robot: the operator's card or .pub file")
    .argument('[address]', 'laptop: HOST or HOST:PORT')
    .option('--card <file>', "laptop: the robot's card")
    .option(
      '--id <fingerprint>',
      'laptop: refuse the card unless it belongs to this robot (SHA256:…); without --card, ask the robot for its card',
    )
    .option('--export', "laptop: print this laptop's own card, for the robot")
    .option('--replace', 'laptop: forget the robot that had this name or address (default: refuse other keys)')
    .option('--home <dir>', "robot: the runtime's home")
    .option(
      '--role <role>',
      `robot: ${Object.keys(ROLE_RANK).join(', ')} (default: the first is owner, others operator)`,
    )
    .option('--name <name>', "robot: the operator's name on this robot")
    .addHelpText(
      'after',
      example(
        'medulla trust --export > me.json                            # laptop',
        'medulla trust --home /var/lib/medulla me.json --role owner  # robot',
        'medulla trust arm 192.168.1.20 --card robot.json            # laptop',
        'medulla trust arm 192.168.1.20 --id SHA256:…                # laptop',
      ),
    )
    .action((first: string | undefined, second: string | undefined, _: unknown, own: Command) => {
      const options = own.opts<Options>()
      const { key } = own.optsWithGlobals<{ key?: string }>()
      return run(() => {
        if (options.export === true) return exportCard(app, key)
        if (options.home !== undefined) return onRobot(app, options.home, first, options)
        return onLaptop(app, first, second, options)
      })
    })
}

async function exportCard(app: App, key: string | undefined): Promise<number> {
  const { card } = await operator(app.dir, keyPath(app.dir, key, app.env))
  app.term.raw(`${JSON.stringify(card)}\n`)
  return 0
}

async function onRobot(app: App, home: string, file: string | undefined, options: Options): Promise<number> {
  if (file === undefined) {
    throw new Refusal('usage', "expected the operator's card or public key file", 'medulla trust --help')
  }
  if (options.role !== undefined && !Object.hasOwn(ROLE_RANK, options.role)) {
    throw new Refusal('usage', `expected a role of ${Object.keys(ROLE_RANK).join(', ')}, got ${options.role}`)
  }
  const args = ['trust', '--home', home, '--card', file, '--recovery']
  if (options.role !== undefined) args.push('--role', options.role)
  if (options.name !== undefined) args.push('--name', options.name)
  const answer = (await askRuntime(args)) as Partial<Record<'name' | 'role' | 'fingerprint' | 'recovery', string>>
  const { recovery, ...added } = answer
  app.term.event({ event: 'trusted', ...added })
  app.term.line(`${added.name ?? file} is now ${added.role ?? 'trusted'} on this robot`)
  if (recovery !== undefined) showRecovery(app, recovery)
  app.term.hint(`bring the robot's card to the laptop: ${home}/robot.json`)
  return 0
}

async function onLaptop(
  app: App,
  name: string | undefined,
  address: string | undefined,
  options: Options,
): Promise<number> {
  if (name === undefined || address === undefined || (options.card ?? options.id) === undefined) {
    const message = 'expected NAME ADDRESS --card FILE, or NAME ADDRESS --id SHA256:…'
    throw new Refusal('usage', message, 'medulla trust --help shows both sides')
  }
  if (!NAME_PATTERN.test(name)) throw new Refusal('usage', `expected a name like arm-1, got ${JSON.stringify(name)}`)
  const { host, port } = parseAddress(address)
  const card = options.card === undefined ? await shownCard(host, port) : await readCard(options.card)
  const robot = verifyCertificate(card)
  if (robot.subject !== 'robot') {
    throw new Refusal(
      'unknown-robot',
      `${options.card ?? address} is an operator's card, expected a robot's`,
      'on the robot it is robot.json in its home',
    )
  }
  if (options.id !== undefined && options.id !== robot.id) {
    throw new Refusal('robot-mismatch', `the card belongs to ${robot.id}, expected ${options.id}`)
  }
  const at = formatAddress(host, port)
  const how = options.card === undefined ? `--id ${options.id}` : `--card ${shellWord(options.card)}`
  const again = `medulla trust ${name} ${at} ${how} --replace`
  const forgotten = await pinRobot(app.dir, name, { address: at, card }, { replace: options.replace, again })
  app.term.event({ event: 'trusted', name, address: at, id: robot.id, forgotten })
  app.term.line(`${name} is ${robot.id} at ${at}`)
  if (forgotten.length > 0) app.term.note(`forgotten, because it had this address: ${forgotten.join(', ')}`)
  app.term.hint(`medulla status -d ${name}`)
  return 0
}

/** The card that the robot shows to everybody; the caller compares its id with the one that a person has typed. */
async function shownCard(host: string, port: number): Promise<SignedCertificate> {
  const { askCard } = await import('../../greeting.ts')
  const card = await askCard(host, port)
  if (card !== null) return card
  const message = 'the robot is older than this command, and shows no card'
  throw new Refusal('not-found', message, 'bring robot.json from its home, and name it with --card')
}

async function readCard(path: string): Promise<SignedCertificate> {
  let card: SignedCertificate
  try {
    card = JSON.parse(await readFile(path, 'utf8')) as SignedCertificate
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code ?? 'it is not JSON'
    throw new Refusal('usage', `cannot read a card from ${path}: ${why}`, 'on the robot it is robot.json in its home', {
      cause,
    })
  }
  return card
}
