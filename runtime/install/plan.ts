/**
 * Compares what a robot needs with what is there. Changes nothing. Invariant: a plan that was applied has no step left: a
 * second `medulla install` changes nothing (test/install/install.test.ts).
 */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Finding } from '../../deploy/shared/doctor.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import type { InstallPlan, InstallStep } from '../../deploy/shared/install.ts'
import type { Board } from '../../drivers/board/types.ts'
import type { Facts } from '../doctor/facts.ts'
import { gather } from '../doctor/gather.ts'
import { judge } from '../doctor/judge.ts'
import { isPi } from '../doctor/models.ts'
import { runtimePath } from '../places.ts'
import { fingerprintOf, readOperator } from '../store/operatorfile.ts'
import { loadOperators } from '../store/operators.ts'
import { type ChosenBoard, firstBoard, givenBoard, readBoard } from './board.ts'
import { linesFor, withLines, withWords } from './bootfiles.ts'
import {
  BOARD,
  DISCOVERY,
  GROUPS_FILE,
  HOME,
  MODULES_FILE,
  RECORD,
  RULES_FILE,
  SERVICE,
  SOCKET,
  WANTS,
  WATCHDOG_FILE,
} from './paths.ts'
import { Tree } from './tree.ts'
import { GROUPS, isHidden, MODULES, type Places, RULES, serviceUnit, WATCHDOG } from './units.ts'

export interface InstallOptions {
  readonly root: string
  /** A board file on this computer. */
  readonly board?: string
  /** The card or the public key file of an operator who becomes owner. */
  readonly operator?: string
  readonly operatorName?: string
  /** Called by a package: nothing that changes how the computer starts, and no refusal for what a person can mend later. */
  readonly fromPackage: boolean
  /** Only steps for these findings of the doctor; null: all. */
  readonly only: readonly string[] | null
}

/** Problems without whose solution no program could run. */
const BLOCKING = ['kernel', 'node', 'tools', 'packages', 'confine']
const CGROUP_WORD = 'cgroup_enable=memory'

export const hasSystemd = (): boolean => existsSync('/run/systemd/system')

/** Throws Refusal `needs-root` and `no-systemd`, for the system that runs. */
export function checkSystem(
  { root, fromPackage }: Pick<InstallOptions, 'root' | 'fromPackage'>,
  command: string,
): void {
  if (root !== '/') return
  if (process.platform !== 'linux' || (!hasSystemd() && !fromPackage)) {
    const why =
      process.platform === 'linux' ? 'systemd is not what started this computer' : `this is ${process.platform}`
    const message = `${why}, and the service needs systemd; nothing was changed`
    throw new Refusal('no-systemd', message, `sudo medulla runtime run --home ${HOME} runs a robot without a service`)
  }
  if (process.getuid?.() === 0) return
  throw new Refusal('needs-root', `${command} writes below /etc and /var; nothing was changed`, `sudo ${command}`)
}

export async function planInstall(options: InstallOptions): Promise<InstallPlan> {
  checkSystem(options, 'medulla install')
  const tree = new Tree(options.root)
  const here = tree.root === '/'
  const facts = here ? await gather({ home: HOME }) : null
  const chosen = boardOf(tree, options, facts)
  const findings = facts === null ? [] : judge(withBoard(facts, chosen)).findings
  const places = placesOf(tree)
  if (options.only === null && !options.fromPackage) checkMachine(findings, places)
  const board = chosen?.board ?? null
  const all = [
    ...homeSteps(tree, chosen, options),
    ...(await operatorSteps(tree, options)),
    ...deviceSteps(tree, board),
    ...bootSteps(tree, board, facts, options),
    ...serviceSteps(tree, board, places),
  ]
  const steps = all.filter(({ about }) => options.only?.some((name) => about.includes(name)) ?? true)
  const notes = board === null ? [`there is no board file yet: the service needs ${BOARD}`] : []
  const operators = await operatorCount(tree)
  return {
    root: tree.root,
    steps,
    findings,
    agreement: agreementOf(steps),
    systemd: here && hasSystemd(),
    operators,
    notes,
  }
}

export function agreementOf(steps: readonly InstallStep[]): string {
  const agreed = steps.filter(({ consent, change }) => consent && change !== 'keep')
  return createHash('sha256').update(JSON.stringify(agreed)).digest('hex')
}

/** Null: another root without a board file. */
function boardOf(tree: Tree, { board }: InstallOptions, facts: Facts | null): ChosenBoard | null {
  if (board !== undefined) return givenBoard(board, facts?.model ?? null)
  const there = tree.text(BOARD)
  if (there !== null) return readBoard(there, BOARD)
  return facts === null ? null : firstBoard(facts)
}

const withBoard = (facts: Facts, chosen: ChosenBoard | null): Facts =>
  chosen === null ? facts : { ...facts, board: { file: BOARD, text: chosen.text, error: '' } }

/** In another root: the parts that are in it, else where a package of npm and Debian have them. */
function placesOf(tree: Tree): Places {
  const inside = (path: string, usual: string): string => {
    if (tree.root === '/') return path
    if (path.startsWith(`${tree.root}/`)) return path.slice(tree.root.length)
    return tree.has(usual) ? usual : path
  }
  return {
    node: inside(process.execPath, '/usr/bin/node'),
    main: inside(runtimePath('main.js'), '/usr/local/lib/node_modules/medulla/dist/runtime/main.js'),
  }
}

/** Throws Refusal `unfit-machine`, with the doctor's first step. */
function checkMachine(findings: readonly Finding[], { node, main }: Places): void {
  const problem = findings.find(({ about, severity }) => severity === 'problem' && BLOCKING.includes(about))
  if (problem !== undefined) {
    const [fix] = problem.fix
    const first =
      fix === undefined ? 'medulla doctor' : 'run' in fix ? fix.run : 'do' in fix ? fix.do : 'medulla doctor'
    throw new Refusal('unfit-machine', `${problem.about}: ${problem.found}; nothing was installed`, first)
  }
  const hidden = [node, main].find(isHidden)
  if (hidden === undefined) return
  const hint =
    hidden === node ? 'sudo apt install nodejs, and install medulla with that' : 'sudo npm install -g medulla'
  const message = `the service does not see ${hidden}: home and temporary folders are hidden from it; nothing was installed`
  throw new Refusal('unfit-machine', message, hint)
}

function homeSteps(tree: Tree, chosen: ChosenBoard | null, { board }: InstallOptions): InstallStep[] {
  const there = tree.isFolder(HOME)
  const folder: InstallStep = {
    ...{ about: ['home'], path: HOME, kind: 'folder', change: there ? 'keep' : 'make', before: null, after: null },
    ...{ mode: 0o700, consent: false, what: 'identity, operators, programs and receipts of the robot' },
  }
  if (chosen === null) return [folder]
  const what = board === undefined ? 'the board file' : `the board file, from ${board}`
  return [folder, file(tree, ['board'], BOARD, chosen.text, what, { mode: 0o644 })]
}

async function operatorSteps(tree: Tree, { operator, operatorName }: InstallOptions): Promise<InstallStep[]> {
  if (operator === undefined) return []
  const id = fingerprintOf(await readOperator(operator))
  const known = (await operatorsOf(tree)).byFingerprint(id)
  const keep = known?.role === 'owner' && (operatorName === undefined || known.name === operatorName)
  return [
    {
      ...{ about: ['operator'], path: `${HOME}/operators`, kind: 'operator', change: keep ? 'keep' : 'make' },
      ...{ before: null, after: id, mode: 0o700, consent: false, what: `${id} becomes an owner of this robot` },
    },
  ]
}

const operatorsOf = (tree: Tree) => loadOperators({ dir: tree.at(HOME) })

/** 0 as well when the list cannot be read: then the runtime says so. */
async function operatorCount(tree: Tree): Promise<number> {
  return operatorsOf(tree).then(
    (list) => list.all().length,
    () => 0,
  )
}

function deviceSteps(tree: Tree, board: Board | null): InstallStep[] {
  const i2c = Object.values(board?.handles ?? {}).some(({ kind }) => kind === 'i2c' || kind === 'analog')
  return [
    file(tree, ['user'], GROUPS_FILE, GROUPS, 'the groups gpio, i2c, spi and pwm'),
    file(tree, ['user'], RULES_FILE, RULES, 'the devices belong to these groups'),
    ...(i2c && board?.model !== 'sim'
      ? [file(tree, ['i2c'], MODULES_FILE, MODULES, 'the driver behind /dev/i2c-*')]
      : []),
  ]
}

function bootSteps(
  tree: Tree,
  board: Board | null,
  facts: Facts | null,
  { fromPackage, only }: InstallOptions,
): InstallStep[] {
  const folder = ['/boot/firmware', '/boot'].find((path) => tree.has(`${path}/config.txt`))
  if (fromPackage || folder === undefined || (facts !== null && !isPi(facts.model))) return []
  const [config, cmdline] = [`${folder}/config.txt`, `${folder}/cmdline.txt`]
  const lines = linesFor(board).filter(({ about }) => (only?.includes(about) ?? true) && !isThere(about, facts))
  const text = tree.text(config) ?? ''
  const steps = [
    edited(config, lines.map(({ about }) => about), text, withLines(text, lines.map(({ line }) => line)), 'what the handles of the board file need'), // biome-ignore format: one list
    file(tree, ['watchdog'], WATCHDOG_FILE, WATCHDOG, 'the hardware watchdog', { consent: true }),
  ]
  const words = tree.text(cmdline)
  const after = words === null || isThere('cgroup', facts) ? words : withWords(words, [CGROUP_WORD])
  if (words === null || after === null || words === after) return steps
  return [
    file(tree, ['cgroup'], RECORD, recordOf([CGROUP_WORD]), 'what uninstall takes back', { consent: true }),
    edited(cmdline, ['cgroup'], words, after, 'limits of memory for programs'),
    ...steps,
  ]
}

export const recordOf = (words: readonly string[]): string => `${JSON.stringify({ cmdline: words })}\n`

/** Whether this computer has the device or the limit already, however its firmware was told. */
function isThere(about: string, facts: Facts | null): boolean {
  if (facts === null) return false
  const { i2c, spi, pwm, w1, groups } = facts
  if (about === 'i2c') return i2c.some(({ path }) => path === '/dev/i2c-1')
  if (about === 'spi') return spi.length > 0
  if (about === 'pwm') return pwm.length > 0
  if (about === 'temperature') return w1 !== null
  return groups.controllers.includes('memory')
}

function serviceSteps(tree: Tree, board: Board | null, places: Places): InstallStep[] {
  const template = (name: string) => readFileSync(join(runtimePath('..'), '..', 'runtime', name), 'utf8')
  const handles = Object.values(board?.handles ?? {})
  const network = (board?.network.length ?? 0) > 0 || handles.some((entry) => entry.kind === 'listen')
  const unit = serviceUnit(template('medulla.service'), places, network)
  const about = ['service']
  return [
    file(tree, about, SERVICE, unit, network ? 'the service, with a network for the board file' : 'the service'),
    file(tree, about, SOCKET, template('medulla.socket'), "the robot's address"),
    file(tree, about, DISCOVERY, template('medulla-discovery.socket'), 'where laptops find the robot'),
    ...WANTS.map(({ path, target }): InstallStep => {
      const before = tree.link(path)
      const change = before === target ? 'keep' : before === null ? 'make' : 'change'
      const what = 'started when the computer starts'
      return { about, path, kind: 'link', change, before, after: target, mode: 0o777, consent: false, what }
    }),
  ]
}

function file(
  tree: Tree,
  about: readonly string[],
  path: string,
  after: string,
  what: string,
  { mode = 0o644, consent = false } = {},
): InstallStep {
  const before = tree.text(path)
  const change = before === after ? 'keep' : before === null ? 'make' : 'change'
  return { about, path, kind: 'file', change, before, after, mode, consent, what }
}

/** A file of the firmware. */
function edited(path: string, about: readonly string[], before: string, after: string, what: string): InstallStep {
  const change = before === after ? 'keep' : 'change'
  return { about: about.length > 0 ? about : ['boot'], path, kind: 'file', change, before, after, mode: null, consent: true, what } // biome-ignore format: one object
}
