import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import type { Command } from 'commander'
import { stringify } from 'smol-toml'
import { DEFAULT_SLOT } from '../../../shared/api.ts'
import { unmet, unset } from '../../../shared/bundle/policy.ts'
import { CARD_SCHEMA, DEFAULT_HOSTNAME, parseSettings, SETTINGS_FILE, wpaKey } from '../../../shared/cardsettings.ts'
import { Refusal } from '../../../shared/errors.ts'
import { publicKeyLine } from '../../../shared/keys.ts'
import { keyPath, publicKeyOf } from '../../config.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { CardImage, copyImage } from '../cardimage.ts'
import { shellWord } from '../clean.ts'
import { buildFirstProgram } from '../program.ts'
import { readSecret } from '../secret.ts'
import { checkedBoard } from './board.ts'

interface Options {
  from?: string
  operator?: string
  board?: string
  program?: string
  hostname?: string
  wifi?: string
  country?: string
  hidden?: true
  ssh: string[]
  replace?: true
  schema?: true
}

/** The name of the board file on the card, whatever it is called here: FAT and medulla.toml allow few characters. */
const BOARD_FILE = 'board.json'
const PROGRAM_FILE = 'program.tar'

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      `Writes ${SETTINGS_FILE} into a card image: who owns the robot, its board file, its first program, its name and its Wi-Fi,\n` +
        'so that a card boots into a robot that knows you. Needs mtools and no root. Asks for the password of the Wi-Fi, or reads it from stdin;\n' +
        'the image gets the key that WPA2 makes of it, not the password. npm run image makes the image.',
    )
    .argument('[image]', 'the image to write into (.img)')
    .option('--from <file>', 'make the image from this one first (.img or .img.zst)')
    .option('--operator <key>', 'the first owner: a .pub file, or the key itself (default: your key)')
    .option('--board <file>', 'board file of the robot')
    .option('--program <path>', 'the program that it starts first: a folder or a source file, signed by your key')
    .option('--hostname <name>', `name of the robot: NAME.local on the network (default: ${DEFAULT_HOSTNAME})`)
    .option('--wifi <ssid>', 'the Wi-Fi to join')
    .option('--country <code>', 'two letters: which channels a radio may use there (default: that of your locale)')
    .option('--hidden', 'the Wi-Fi does not send its name')
    .option('--ssh <key>', 'a .pub file that may log in as pi; more than once', collect, [])
    .option('--replace', `replace the ${SETTINGS_FILE} that is in the image, with its board file and program`)
    .option('--schema', `print the JSON schema of ${SETTINGS_FILE}, and do nothing`)
    .addHelpText(
      'after',
      example(
        'medulla image --from medulla.img.zst --board arm.json --wifi lab arm.img',
        'medulla image --board arm.json --program blinky --replace arm.img',
        'medulla image --operator ann.pub --hostname arm --replace arm.img',
      ),
    )
    .action((image: string | undefined, options: Options, own: Command) =>
      run(() => (options.schema === true ? schema(app) : write(app, image, options, own.optsWithGlobals<Globals>()))),
    )
}

const collect = (value: string, before: string[]): string[] => [...before, value]

async function schema({ term }: App): Promise<number> {
  term.raw(`${JSON.stringify(CARD_SCHEMA, null, 2)}\n`)
  return 0
}

async function write(app: App, path: string | undefined, options: Options, { key }: Globals): Promise<number> {
  if (path === undefined) throw new Refusal('usage', 'expected the image to write into', 'medulla image --help')
  const { term } = app
  const file = resolve(path)
  if (options.from !== undefined && existsSync(file)) {
    throw new Refusal('usage', `${path} is there already`, 'leave out --from to write into it, or remove it first')
  }
  const board = options.board === undefined ? undefined : await readBoard(app, options.board)
  const operator = await owner(app, options.operator, key)
  const program =
    options.program === undefined ? undefined : await firstProgram(app, options.program, { key, operator, board })
  const settings = {
    ...(options.hostname !== undefined && { system: { hostname: options.hostname } }),
    ...(options.ssh.length > 0 && { ssh: { authorized_keys: await Promise.all(options.ssh.map(publicKey)) } }),
    ...(options.wifi !== undefined && { wlan: await wlan(app, options, options.wifi) }),
    robot: {
      operator,
      ...(board !== undefined && { board: BOARD_FILE }),
      ...(program !== undefined && { program: PROGRAM_FILE }),
    },
  }
  const text = `# written by medulla image; the robot reads it at its next start\n${stringify(settings)}\n`
  const parsed = parseSettings(text)
  if ('mistakes' in parsed) {
    const [{ message, fix } = { message: '', fix: '' }] = parsed.mistakes
    throw new Refusal('usage', `${message}: ${fix}`, 'medulla image --help')
  }

  if (options.from !== undefined) {
    term.progress(`unpacking ${options.from}`)
    await copyImage(resolve(options.from), file)
  }
  const image = await CardImage.open(file)
  const isReplaced = (await image.read(SETTINGS_FILE)) !== undefined
  if (options.replace !== true && isReplaced) {
    throw new Refusal('usage', `${path} has a ${SETTINGS_FILE} already`, 'medulla image --replace replaces it')
  }
  const files = new Map<string, string | Uint8Array>()
  if (board !== undefined) files.set(BOARD_FILE, board.text)
  if (program !== undefined) files.set(PROGRAM_FILE, program.bytes)
  for (const [name, content] of files) await image.write(name, content)
  // last: a robot that finds this file finds the others, too
  await image.write(SETTINGS_FILE, text)
  // Last, too: until the new settings are written, those before name these files.
  const removed: string[] = []
  for (const name of isReplaced ? [BOARD_FILE, PROGRAM_FILE] : []) {
    if (!files.has(name) && (await image.remove(name))) removed.push(name)
  }

  const { board: boardFile = null, wifi = null } = options
  const first = program === undefined ? null : { program: program.manifest.program, version: program.manifest.version }
  term.event({ event: 'image', file, operator, board: boardFile, first, wifi, removed })
  term.line(`${path}: wrote ${[...files.keys(), SETTINGS_FILE].join(', ')}`)
  if (removed.length > 0) term.line(`${path}: removed ${removed.join(', ')}`)
  term.line(`owner    ${operator}`)
  if (first !== null) term.line(`program  ${first.program} ${first.version}, at the first start`)
  for (const line of about(parsed.settings, options)) term.line(line)
  term.next(`sudo dd if=${shellWord(path)} of=/dev/sdX bs=4M conv=fsync   sdX is the card`)
  return 0
}

function about({ system, wlan: wifi, ssh }: Parsed, options: Options): string[] {
  const { hostname = DEFAULT_HOSTNAME } = system
  const lines = [`name     ${hostname}, at ${hostname}.local`]
  if (options.board !== undefined) lines.push(`board    ${options.board}`)
  if (wifi !== undefined) lines.push(`Wi-Fi    ${wifi.ssid}, country ${wifi.country}`)
  if (ssh.authorized_keys.length > 0) lines.push(`ssh      ${options.ssh.map((file) => basename(file)).join(', ')}`)
  return lines
}

type Parsed = Extract<ReturnType<typeof parseSettings>, { settings: unknown }>['settings']

interface CardBoard {
  text: string
  /** name of a handle to its kind */
  handles: Record<string, string>
}

async function readBoard(app: App, path: string): Promise<CardBoard> {
  const { board } = await checkedBoard(app, path)
  return {
    text: await readFile(path, 'utf8'),
    handles: Object.fromEntries(board.handles.map(({ name, kind }) => [name, kind])),
  }
}

/** Refuses what the robot would refuse at its first start, when nobody can ask it why. */
async function firstProgram(
  app: App,
  path: string,
  { key, operator, board }: { key: string | undefined; operator: string; board: CardBoard | undefined },
): Promise<Awaited<ReturnType<typeof buildFirstProgram>>> {
  const made = await buildFirstProgram(app, path, key)
  if (publicKeyLine(operator) !== made.publicKey) {
    const hint = 'leave out --operator, or sign with the key of that operator: --key FILE'
    throw new Refusal('usage', 'your key signs the program, and another one is to own the robot', hint)
  }
  const { needs, config } = made.manifest
  const handles = board?.handles ?? {}
  const refusal = unmet(needs, { handles, leased: {}, slot: DEFAULT_SLOT }) ?? unset(config, new Set())
  if (refusal === null) return made
  if (refusal.code === 'missing-config') {
    const message = `the program needs ${config?.join(', ')}, and config values are set on a robot that is there`
    const hint = `leave out --program; when the robot is there: medulla config set ${config?.[0]}, then medulla push`
    throw new Refusal(refusal.code, message, hint)
  }
  throw new Refusal(
    refusal.code,
    refusal.message,
    board === undefined ? 'name its board file: --board FILE' : refusal.hint,
  )
}

async function owner(app: App, given: string | undefined, key: string | undefined): Promise<string> {
  return given === undefined ? publicKeyOf(keyPath(app.dir, key, app.env)) : publicKey(given)
}

/** The line of a public key: given itself, or in a file. A private key is refused without being read. */
async function publicKey(given: string): Promise<string> {
  if (/^(?:ssh|ecdsa|sk)-/.test(given)) return given.trim()
  const path = given.endsWith('.pub') ? given : `${given}.pub`
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (error) {
    throw new Refusal('no-key', `${path} cannot be read: ${(error as NodeJS.ErrnoException).code}`, 'ls ~/.ssh/*.pub')
  }
}

async function wlan(app: App, { country, hidden }: Options, ssid: string) {
  const code = country ?? localeCountry(app.env)
  if (code === undefined) {
    throw new Refusal('usage', 'a radio needs the country in which it sends', 'medulla image --country DE …')
  }
  const password = await readSecret(app.term, `password of the Wi-Fi ${ssid} (not shown): `)
  if (!/^[\x20-\x7e]{8,63}$/.test(password)) {
    const hint = `a Wi-Fi without a password: write [wlan] into ${SETTINGS_FILE} by hand`
    throw new Refusal('usage', `a password of WPA2 has 8 to 63 characters, this one has ${password.length}`, hint)
  }
  const psk = wpaKey(ssid, password)
  return { ssid, password: psk, password_encrypted: true, country: code, ...(hidden === true && { hidden }) }
}

/** `DE` of `de_DE.UTF-8`. */
function localeCountry(env: App['env']): string | undefined {
  return /^[a-z]{2,3}_([A-Z]{2})\b/.exec(env.LC_ALL || env.LC_CTYPE || env.LANG || '')?.[1]
}
