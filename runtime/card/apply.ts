/**
 * Applies the settings on a card: writes the data partition from medulla.toml, and the robot's card (its public certificate) and a
 * report to the FAT partition. A file with a mistake changes nothing.
 */
import { existsSync } from 'node:fs'
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DEFAULT_SLOT, OPERATOR_NAME } from '../../deploy/shared/api.ts'
import { LIMITS } from '../../deploy/shared/bundle/limits.ts'
import { openInner } from '../../deploy/shared/bundle/open.ts'
import { FIRST_START } from '../../deploy/shared/bundle/release.ts'
import {
  DEFAULT_HOSTNAME,
  type Mistake,
  parseSettings,
  SETTINGS_FILE,
  type Settings,
  wpaKey,
} from '../../deploy/shared/cardsettings.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { publicKeyLine } from '../../deploy/shared/keys.ts'
import { parseBoard } from '../../drivers/board/board.ts'
import { writeAtomic } from '../store/atomic.ts'
import { dropFirstProgram, putFirstProgram } from '../store/firstprogram.ts'
import { openHome } from '../store/home.ts'
import { addOperator, loadOperators } from '../store/operators.ts'

interface Places {
  /** Where the FAT partition is mounted. */
  boot: string
  /** Where the data partition is mounted. */
  data: string
  /** The robot's home. */
  home: string
}

const REPORT = 'medulla-report.txt'

interface Applied {
  applied: boolean
  /** The lines of the report. */
  report: string[]
}

/** Without medulla.toml only makes the robot's identity. A disk that is full or broken is reported like a mistake in the file. */
export async function applySettings(places: Places): Promise<Applied> {
  const { applied, report } = await apply(places).catch(unapplied)
  try {
    await onFat(writeFile(join(places.boot, REPORT), report.map((line) => `${line}\n`).join('')))
  } catch (error) {
    report.push(`this report is not in ${REPORT}: ${reasonOf(error)}`)
  }
  return { applied, report }
}

function unapplied(error: unknown): Applied {
  return { applied: false, report: ['not everything was applied:', reasonOf(error)] }
}

/** The cause, and what to do about it. Throws what is neither a refusal nor an error of the file system: a bug. */
function reasonOf(error: unknown): string {
  const { message, hint } = error instanceof Refusal ? error : refusalOf(error, 'data')
  return [message, hint].filter(Boolean).join(': ')
}

function refusalOf(error: unknown, partition: keyof typeof MAKE_ROOM): Refusal {
  const { code, syscall, message } = error as NodeJS.ErrnoException
  if (code === undefined || syscall === undefined) throw error
  const [what, hint] =
    code === 'ENOSPC' || code === 'EDQUOT'
      ? ['is full', MAKE_ROOM[partition]]
      : ['cannot be used', 'use another card, or write this one again']
  return new Refusal('not-written', `the ${partition} partition of the card ${what} (${message})`, hint, {
    cause: error,
  })
}

/** What a full partition needs. The settings are applied at the next start of the robot. */
const MAKE_ROOM = {
  FAT: `remove from it what you have put beside ${SETTINGS_FILE} and no longer need, then start the robot again`,
  data: 'sudo du -xhd 3 /data | sort -h   shows on the robot what fills it; make room, then: sudo reboot',
}

async function onFat<T>(done: Promise<T>): Promise<T> {
  try {
    return await done
  } catch (error) {
    throw refusalOf(error, 'FAT')
  }
}

/**
 * Makes the robot's identity, unless it has one, and puts its card where a laptop can read it. The robot's name is its hostname: the
 * one of medulla.toml, else the present one.
 */
async function publishCard({ boot, data, home: dir }: Places, hostname?: string): Promise<string> {
  const home = await openHome(dir, { name: hostname ?? (await presentHostname(data)) })
  try {
    await onFat(writeFile(join(boot, 'robot.json'), `${JSON.stringify(home.card)}\n`))
    return home.id
  } finally {
    await home.close()
  }
}

const hostnameFile = (data: string): string => join(data, 'etc/hostname')

/** As pi-image/root/usr/lib/medulla-card/setup sets it. */
async function presentHostname(data: string): Promise<string> {
  const text = await readFile(hostnameFile(data), 'utf8').catch(() => '')
  return text.trim() || DEFAULT_HOSTNAME
}

async function apply(places: Places): Promise<Applied> {
  const file = join(places.boot, SETTINGS_FILE)
  if (!existsSync(file)) {
    const report = [`this robot is ${await publishCard(places)}; there is no ${SETTINGS_FILE} on its card`]
    return { applied: true, report }
  }
  const parsed = parseSettings(await onFat(readFile(file, 'utf8')))
  if ('mistakes' in parsed) return { applied: false, report: explain(parsed.mistakes) }
  const { settings } = parsed
  const board = await readBoard(places.boot, settings.robot.board)
  if ('mistake' in board) return { applied: false, report: explain([board.mistake]) }
  const program = await readProgram(places, settings.robot)
  if (program !== null && 'mistake' in program) return { applied: false, report: explain([program.mistake]) }
  const { hostname } = settings.system
  const id = await publishCard(places, hostname)
  const said = [`applied: ${SETTINGS_FILE}`, `this robot is ${id}`]
  try {
    said.push(await letIn(places.home, settings.robot.operator))
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    return { applied: false, report: explain([{ line: 0, message: error.message, fix: 'another operator = "…"' }]) }
  }
  // Replaced whole: on a full disk the robot keeps its Wi-Fi and its ssh keys.
  const etc = join(places.data, 'etc')
  await mkdir(etc, { recursive: true })
  if (hostname !== undefined) await writeAtomic(hostnameFile(places.data), `${hostname}\n`, 0o644)
  const keys = settings.ssh.enabled ? settings.ssh.authorized_keys : []
  await writeAtomic(join(etc, 'authorized_keys'), keys.map((key) => `${key}\n`).join(''), 0o644)
  await writeWlan(join(etc, 'wpa_supplicant.conf'), settings.wlan)
  if (board.text !== undefined) await writeAtomic(join(places.home, 'board.json'), board.text, 0o644)
  if (program === null) await dropFirstProgram({ dir: places.home })
  else {
    await putFirstProgram({ dir: places.home }, program.bytes)
    said.push(`${program.name} is started first, unless this robot has had a program already`)
  }
  return { applied: true, report: said }
}

/** @returns what was done, for the report */
async function letIn(home: string, operator: string | undefined): Promise<string> {
  if (operator === undefined)
    return 'this robot shows a pairing code on its screen until it has an owner: medulla pair, on your laptop; or write operator = "ssh-ed25519 …" in [robot]'
  const [, bytes = '', comment = ''] = /^\S+ (\S+) ?(.*)$/.exec(operator) ?? []
  // an operator is named by the comment of the key; the last letters of a key tell keys without one apart
  const named = OPERATOR_NAME.test(comment) ? [] : [`key-${bytes.replace(/[^A-Za-z0-9]/g, '').slice(-6)}`]
  const { name, role } = await addOperator({ dir: home }, operator, undefined, ...named)
  return `${name} is ${role} of this robot`
}

function explain(mistakes: Mistake[]): string[] {
  const lines = mistakes.map(
    ({ line, message, fix }) => `${SETTINGS_FILE}${line === 0 ? '' : `, line ${line}`}: ${message}: ${fix}`,
  )
  return ['nothing was applied:', ...lines]
}

async function readBoard(boot: string, name?: string): Promise<{ text?: string } | { mistake: Mistake }> {
  if (name === undefined) return {}
  try {
    const text = await readFile(join(boot, name), 'utf8')
    parseBoard(text, name)
    return { text }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const said = code === 'ENOENT' ? `there is no file ${name} beside it` : message
    return { mistake: { line: 0, message: said, fix: `medulla board check ${name}, on your laptop` } }
  }
}

/** The body checks it again, with the board, before it starts it (BUNDLE 19). */
async function readProgram(
  { boot, home }: Places,
  { program: file, operator }: Settings['robot'],
): Promise<{ bytes: Uint8Array; name: string } | { mistake: Mistake } | null> {
  if (file === undefined) return null
  try {
    const path = join(boot, file)
    if (!existsSync(path)) throw new Refusal('not-found', `there is no file ${file} beside it`)
    if ((await onFat(stat(path))).size > LIMITS.bundle)
      throw new Refusal('too-large', `${file} is above ${LIMITS.bundle} bytes`)
    const bytes = await onFat(readFile(path))
    const signers = (await loadOperators({ dir: home })).signers()
    if (operator !== undefined) signers.add(publicKeyLine(operator))
    const { release } = await openInner(bytes, signers)
    if (!release.recipients.includes(FIRST_START))
      throw new Refusal('wrong-robot', `${file} was made for a robot, not for a card`)
    if (release.kind !== 'program' || (release.slot ?? DEFAULT_SLOT) !== DEFAULT_SLOT)
      throw new Refusal('wrong-slot', `${file} is no program for slot ${DEFAULT_SLOT}`)
    return { bytes, name: `${release.program} ${release.version}` }
  } catch (error) {
    if (!(error instanceof Refusal) || error.code === 'not-written') throw error
    const { message } = error
    const fix = 'medulla image --program FOLDER, on your laptop; or remove the line program = "…"'
    return { mistake: { line: 0, message, fix } }
  }
}

/** Holds the key of the network, computed from its password: only root may read it. */
async function writeWlan(file: string, wlan: Settings['wlan']): Promise<void> {
  if (wlan === undefined) return rm(file, { force: true })
  const { ssid, password, password_encrypted: isKey, hidden, country } = wlan
  const key = isKey ? password : password && wpaKey(ssid, password)
  const lines = [
    'ctrl_interface=/run/wpa_supplicant',
    `country=${country}`,
    'network={',
    // hexadecimal: nothing in a name can end the line
    `\tssid=${Buffer.from(ssid).toString('hex')}`,
    ...(hidden ? ['\tscan_ssid=1'] : []),
    key === undefined ? '\tkey_mgmt=NONE' : `\tpsk=${key}`,
    '}',
  ]
  await writeAtomic(file, lines.map((line) => `${line}\n`).join(''))
}
