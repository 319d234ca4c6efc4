import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import type { Command } from 'commander'
import { ROLE_RANK } from '../../../shared/api.ts'
import { introduce, type PairOptions, pair } from '../../../shared/channel/pairconnect.ts'
import { readCode, showCode } from '../../../shared/channel/pairing.ts'
import { Refusal } from '../../../shared/errors.ts'
import { NAME_PATTERN } from '../../../shared/names.ts'
import { keyPath, operator, PSK_TEXT, readPsk, writePsk } from '../../config.ts'
import { type App, example, type Runner } from '../app.ts'
import { checkPin, pinRobot } from '../pins.ts'
import { formatAddress, parseAddress } from '../robot.ts'
import { askRuntime } from '../runtimebin.ts'
import { readSecret } from '../secret.ts'
import { ensureKey } from '../simstart.ts'
import { renew } from './recover.ts'

interface Options {
  name?: string
  replace?: true
  psk?: string
  allow?: true
  home: string
  role?: string
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'On the laptop: lets this laptop and a robot know each other by a code of 8 digits, which the robot shows: in its log, and ' +
        'in files. The command asks for the code, or reads it from stdin. The first person who pairs owns the robot.\n' +
        'A robot without an owner shows a code for 15 minutes after its start. Three wrong codes end that. On the robot, ' +
        '--allow shows a new code.',
    )
    .argument('[address]', 'laptop: HOST or HOST:PORT of the robot')
    .allowExcessArguments()
    .option('--name <name>', "laptop: the robot's name here (default: its own)")
    .option('--replace', 'laptop: forget the robot that had this name or address (default: refuse other keys)')
    .option('--psk <file>', 'laptop: the pre-shared key of a robot that has one, 64 hex digits')
    .option('--allow', 'robot: open a pairing window, and show its code')
    .option('--home <dir>', "robot: the runtime's home", '/var/lib/medulla')
    .option(
      '--role <role>',
      `robot: ${Object.keys(ROLE_RANK).join(', ')} for whoever pairs (default: the first is owner, others operator)`,
    )
    .addHelpText(
      'after',
      example(
        'medulla pair rover.local',
        'medulla pair 192.168.1.20:7171 --name rover',
        'sudo medulla pair --allow                # robot',
        'sudo medulla pair --allow --role owner   # robot, after a laptop was lost',
      ),
    )
    .action((address: string | undefined, options: Options, own: Command) => {
      const { key } = own.optsWithGlobals<{ key?: string }>()
      return run(() => {
        if (options.allow === true) return allow(app, options)
        if (options.role !== undefined) throw new Refusal('usage', '--role is decided on the robot, with --allow')
        return onLaptop(app, address, own.args.length, options, key)
      })
    })
}

/** On the robot. The body draws the code; this command only asks for it. */
async function allow(app: App, { home, role }: Options): Promise<number> {
  if (role !== undefined && !Object.hasOwn(ROLE_RANK, role)) {
    throw new Refusal('usage', `expected a role of ${Object.keys(ROLE_RANK).join(', ')}, got ${JSON.stringify(role)}`)
  }
  const args = ['pair', '--home', home, ...(role === undefined ? [] : ['--role', role])]
  const { code, until, tries } = (await askRuntime(args)) as { code: string; until: string; tries: number }
  app.term.event({ event: 'pairing', code, until, tries })
  app.term.line(`pairing code: ${app.term.paint('bold', showCode(code))}`)
  const minutes = Math.round((Date.parse(until) - Date.now()) / 60_000)
  app.term.line(`it serves once, for ${minutes} minutes (until ${until}); ${tries} wrong codes end it`)
  app.term.hint(`on the laptop: medulla pair ${hostname()}.local, or the address that medulla robots shows`)
  return 0
}

async function onLaptop(
  app: App,
  address: string | undefined,
  words: number,
  options: Options,
  key: string | undefined,
): Promise<number> {
  if (address === undefined) {
    throw new Refusal(
      'usage',
      'expected the address of the robot',
      'medulla robots shows it; on the robot itself: medulla pair --allow',
    )
  }
  if (words > 1) {
    // without the words, which may be the code
    const message = 'a code on the command line is refused: every process of this computer could read it there'
    throw new Refusal('usage', message, `medulla pair ${address}   asks for the code`)
  }
  if (options.name !== undefined && !NAME_PATTERN.test(options.name)) {
    throw new Refusal('usage', `expected a name like rover, got ${JSON.stringify(options.name)}`)
  }
  const { host, port } = parseAddress(address)
  const at = formatAddress(host, port)
  await ensureKey(app, key)
  const { noiseSecret, card } = await operator(app.dir, keyPath(app.dir, key, app.env))
  const given = options.psk === undefined ? undefined : readPskFile(options.psk)
  const psk = given ?? (options.name === undefined ? undefined : readPsk(app.dir, options.name))
  const wanted: PairOptions = { host, port, noiseSecret, cert: card, ...(psk !== undefined && { psk }) }

  // Before the code is asked for: a closed window, and a robot whose keys have changed (CHANNEL 3.9), use up no try.
  const { robot, card: shown } = await introduce(wanted)
  const name = options.name ?? robot.name
  const again = `medulla pair ${at}${options.name === undefined ? '' : ` --name ${name}`} --replace`
  const pin = { replace: options.replace, again }
  checkPin(app.dir, name, { card: shown, address: at }, pin)
  app.term.note(`${at} calls itself ${robot.name} (${robot.id})`)
  app.term.note('the code is in the log of the robot; another one, on the robot: sudo medulla pair --allow')
  const code = readCode(await readSecret(app.term, `pairing code of ${robot.name} (not shown): `))
  if (code === null) {
    throw new Refusal('usage', 'a pairing code has 8 digits, as 1234 5678; nothing was sent', `medulla pair ${address}`)
  }

  const {
    card: proven,
    robot: sure,
    answer,
  } = await pair(wanted, code).catch((error: unknown) => {
    throw withAddress(error, address)
  })
  const forgotten = await pinRobot(app.dir, name, { address: at, card: proven }, pin)
  if (given !== undefined) await writePsk(app.dir, name, Buffer.from(given).toString('hex'))
  const { name: called, role } = answer
  app.term.event({ event: 'paired', name, address: at, id: sure.id, operator: called, role, forgotten })
  app.term.line(`${name} is ${sure.id} at ${at}`)
  app.term.line(`you are ${called} there, ${role} of this robot`)
  if (forgotten.length > 0) app.term.note(`forgotten, because it had this address: ${forgotten.join(', ')}`)
  if (answer.first) await firstRecovery(app, name, key)
  app.term.hint(`medulla status -d ${name}`)
  return 0
}

/** The first owner gets the paper that helps when this laptop is lost; without it, the pairing holds all the same. */
async function firstRecovery(app: App, device: string, key: string | undefined): Promise<void> {
  try {
    await renew(app, { device, ...(key !== undefined && { key }) })
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    app.term.note(`no recovery key was made (${error.message}); later: medulla recover --new -d ${device}`)
  }
}

/** The robot does not know by which address it was reached: where it says to try again, the hint names the address. */
function withAddress(error: unknown, address: string): unknown {
  if (!(error instanceof Refusal) || error.hint?.endsWith('medulla pair') !== true) return error
  return new Refusal(error.code, error.message, `${error.hint} ${address}`, { cause: error })
}

function readPskFile(path: string): Uint8Array {
  let text: string
  try {
    text = readFileSync(path, 'latin1').trim().toLowerCase()
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    throw new Refusal('usage', `cannot read ${path}: ${code}`, 'openssl rand -hex 32 makes such a key', { cause })
  }
  if (PSK_TEXT.test(text)) return new Uint8Array(Buffer.from(text, 'hex'))
  throw new Refusal('usage', `${path}: expected 64 hex digits, got ${text.length} characters`, 'openssl rand -hex 32')
}
