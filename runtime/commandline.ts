/**
 * The command line of the runtime's bin, which main.ts loads.
 *
 * `main.js --home DIR [--sim] [--port N] [--host H] [--name NAME] [--board FILE] [--trace FILE] [--minimal]
 * [--pairing-file FILE]…` runs the runtime, and
 * prints `{"event":"listening",…}` on stdout when it accepts connections. These commands print one line of JSON and exit:
 * `main.js install|uninstall plan|apply [--root DIR]`, `main.js trust --home DIR --card FILE`, `main.js pair --home DIR [--role ROLE]`,
 * `main.js card --home DIR`,
 * `main.js doctor --home DIR [--board FILE]`, `main.js board check --board FILE` and `main.js board new|header --model MODEL`.
 * For `main.js scenario` see testkit/command.ts. `main.js able` says what the runtime can go on with (HANDOVER 18.2). A
 * refusal is `{"event":"error","error":{code,message,hint}}` on stdout and exit 3.
 */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { DEFAULT_PORT, ROLE_RANK, type Role } from '../deploy/shared/api.ts'
import { Refusal } from '../deploy/shared/errors.ts'
import type { SavedBody } from './body/replace/saved.ts'
import { serviceOf, takeEnvironment } from './body/service/environment.ts'
import { isJournal, prioritised } from './journal.ts'
import { createLog } from './log.ts'
import { minimalMode } from './minimal.ts'
import { SDK_VERSION } from './sdk/wire.ts'
import { startChosen } from './start.ts'
import type { Home } from './store/home.ts'
import type { ScenarioArguments } from './testkit/command.ts'

const log = createLog('body')
const say = (line: object, level = 30): void => {
  process.stdout.write(prioritised(1, level, `${JSON.stringify(line)}\n`))
}

function refuse(error: unknown): void {
  const refusal =
    error instanceof Refusal ? error : new Refusal('internal', String(error instanceof Error ? error.stack : error))
  const { code, message, hint } = refusal
  say({ event: 'error', error: { code, message, ...(hint === undefined ? {} : { hint }) } }, 50)
  process.exitCode = 3
}

const text = { type: 'string' } as const

/** Node's warnings have no priority of their own, and the journal would show them as errors. */
function logWarnings(): void {
  process.removeAllListeners('warning')
  process.on('warning', ({ name, message }) => log.warn(`${name}: ${message}`))
}

async function main(): Promise<void> {
  if (isJournal(2)) logWarnings()
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      home: text,
      sim: { type: 'boolean', default: false },
      host: { ...text, default: '127.0.0.1' },
      port: { ...text, default: String(DEFAULT_PORT) },
      name: text,
      board: text,
      trace: text,
      sandbox: text,
      card: text,
      model: text,
      file: text,
      program: text,
      'default-board': text,
      timeout: text,
      // descriptor of what the runtime has left that this one replaces
      resume: text,
      expect: text,
      fail: text,
      vcd: text,
      role: text,
      // files for the code of a pairing window
      'pairing-file': { type: 'string', multiple: true },
      root: text,
      agreed: text,
      only: text,
      'from-package': { type: 'boolean', default: false },
      purge: { type: 'boolean', default: false },
      // makes a recovery key with the first owner, and prints its text once (HANDOVER 19.3)
      recovery: { type: 'boolean', default: false },
      // starts no program, and no runtime that was pushed
      minimal: { type: 'boolean', default: false },
      // set by start.ts for a runtime that was pushed: the folder of the base install
      base: text,
      // accepted and ignored: the output is always JSON
      json: { type: 'boolean', default: false },
      // set by `medulla sim`, so that the simulated robot ends with the CLI even when the CLI is killed
      'until-stdin-ends': { type: 'boolean', default: false },
    },
  })
  const [command, what] = positionals
  if (command === 'able') return able()
  if (command === 'board') return aboutBoard(what, values.board, values.model)
  if (command === 'scenario') return simulated(what, values)
  if (command === 'install' || command === 'uninstall') {
    const { installCommand } = await import('./install/command.ts')
    return say(await installCommand(command, what, values))
  }
  if (values.home === undefined) throw new Refusal('usage', 'expected --home DIR')
  if (command === 'card') return say(await withHome(values.home, values.name, async (home) => home.card))
  if (command === 'doctor') return doctor(values.home, values.board)
  if (command === 'trust') return trust(values.home, values)
  if (command === 'pair') return pair(values.home, values.role)
  if (command !== undefined)
    throw new Refusal(
      'usage',
      `expected trust, pair, card, doctor, board, install, uninstall or scenario, got ${command}`,
    )
  const port = Number(values.port)
  if (!Number.isInteger(port) || port < 0 || port > 65535)
    throw new Refusal('usage', `expected a port, got ${values.port}`)
  const { home, sim, host, name, board, trace, sandbox, base } = values
  const note = (level: 'info' | 'warn' | 'error', line: string): void => log[level](line)
  const isChosen = base !== undefined || values.resume !== undefined || values.minimal
  const failing = isChosen ? null : await startChosen({ home, args: process.argv.slice(2), note })
  const minimal = minimalMode(home, values.minimal ? 'it was started with --minimal' : failing)
  // Loaded only now: a runtime that was pushed may have taken this process over.
  const [{ runBody }, { isSandbox, SANDBOXES }, { readSaved }] = await Promise.all([
    import('./body/main.ts'),
    import('./body/sandbox/sandboxes.ts'),
    import('./body/replace/saved.ts'),
  ])
  if (sandbox !== undefined && !isSandbox(sandbox))
    throw new Refusal('usage', `expected --sandbox ${SANDBOXES.join(', ')}, got ${sandbox}`)
  if (values['until-stdin-ends']) endWithStdin()
  const saved = values.resume === undefined ? undefined : readSaved(Number(values.resume))
  const manager = saved === undefined ? takeEnvironment(process.env) : serviceOf(saved.service)
  const running = runBody(
    {
      home,
      sim,
      host,
      port,
      version: SDK_VERSION,
      ...(name === undefined ? {} : { name }),
      ...(board === undefined ? {} : { board }),
      ...(trace === undefined ? {} : { trace }),
      ...(sandbox === undefined ? {} : { sandbox }),
      ...(values['pairing-file'] === undefined
        ? {}
        : { pairingFiles: values['pairing-file'].map((file) => resolve(file)) }),
      ...(manager.listener === null ? {} : { listener: manager.listener }),
      ...(manager.discovery === null ? {} : { discovery: manager.discovery }),
      ...(base === undefined ? {} : { base }),
      ...(minimal === null ? {} : { minimal }),
    },
    manager,
    {
      listening: (at) => say({ event: 'listening', ...at }),
      failed: refuse,
      note,
    },
    saved,
  )
  await (saved === undefined ? running : running.catch((error: Error) => goBackAfter(error, saved)))
}

/** Says what this runtime can go on with, once all of the body's code is loaded. */
async function able(): Promise<void> {
  const [{ ABLE }] = await Promise.all([import('./body/replace/saved.ts'), import('./body/main.ts')])
  say(ABLE)
}

/** Ends the runtime, as SIGTERM does, when the other end of stdin is closed. */
function endWithStdin(): void {
  process.stdin.once('close', () => process.kill(process.pid, 'SIGTERM'))
  // unref: an open stdin must not keep the process alive after the body has ended
  process.stdin
    .on('error', () => {})
    .resume()
    .unref()
}

/**
 * The old runtime goes on when the new one fails before it has touched a handle. Otherwise the process ends, and with it the
 * programs, which no body would stop; the guard drives the safe levels (HANDOVER 18.7).
 */
async function goBackAfter(error: Error, saved: SavedBody): Promise<never> {
  const [{ NotTouched }, { goBack }] = await Promise.all([
    import('./body/openbody.ts'),
    import('./body/replace/replace.ts'),
  ])
  if (error instanceof NotTouched && saved.failed === undefined) return goBack(saved, error.message)
  log.error(`the runtime cannot go on with what the last one left: ${error.message}`)
  refuse(error)
  process.exit()
}

/** Does not open the home: it may belong to another user, or not exist yet. */
async function doctor(home: string, board?: string): Promise<void> {
  const [{ gather }, { judge }] = await Promise.all([import('./doctor/gather.ts'), import('./doctor/judge.ts')])
  say(judge(await gather({ home, ...(board === undefined ? {} : { board }) })))
}

async function aboutBoard(
  what: string | undefined,
  file: string | undefined,
  model: string | undefined,
): Promise<void> {
  const { bareBoard, boardFor, checkBoard } = await import('./board.ts')
  if (what === 'new') return say(boardFor(model))
  if (what === 'header') return say(bareBoard(model ?? 'sim'))
  if (what !== 'check' || file === undefined)
    throw new Refusal('usage', 'expected board check --board FILE, board new or board header')
  const unreadable = (error: NodeJS.ErrnoException) => {
    throw new Refusal('bad-board', `cannot read ${file}: ${error.code ?? error.message}`, 'medulla board new')
  }
  say(checkBoard(await readFile(file, 'utf8').catch(unreadable), file))
}

async function simulated(what: string | undefined, values: ScenarioArguments): Promise<void> {
  if (what === 'schema') return say((await import('./testkit/scenario.ts')).scenarioJsonSchema())
  const { scenarioCommand } = await import('./testkit/command.ts')
  const write = process.stdout.write.bind(process.stdout)
  await scenarioCommand(values, (line) => void write(`${JSON.stringify(line)}\n`))
  // timers and sockets that the program left open would keep this process alive
  process.exit(0)
}

async function withHome<T>(dir: string, name: string | undefined, use: (home: Home) => Promise<T>): Promise<T> {
  const { openHome } = await import('./store/home.ts')
  const home = await openHome(dir, name === undefined ? {} : { name })
  try {
    return await use(home)
  } finally {
    await home.close()
  }
}

interface TrustArguments {
  card?: string | undefined
  role?: string | undefined
  name?: string | undefined
  recovery: boolean
}

/** Safe while a body runs: the list of operators has its own lock, and the body watches the file. */
async function trust(dir: string, { card, role, name, recovery }: TrustArguments): Promise<void> {
  if (card === undefined) throw new Refusal('usage', 'expected --card FILE: an operator card, or an OpenSSH public key')
  if (role !== undefined && !(role in ROLE_RANK))
    throw new Refusal('usage', `expected owner, operator or observer, got ${role}`)
  const [{ enterHome }, { addOperator, loadOperators }, { makeFirstRecovery }, { readOperator }] = await Promise.all([
    import('./store/enterhome.ts'),
    import('./store/operators.ts'),
    import('./store/operatorkeys.ts'),
    import('./store/operatorfile.ts'),
  ])
  const given = await readOperator(card)
  await enterHome(dir)
  const home = { dir: '.' }
  const isFirst = (await loadOperators(home)).all().length === 0
  const added = await addOperator(home, given, role as Role | undefined, name)
  const text = recovery && isFirst ? await makeFirstRecovery(home) : null
  const { fingerprint } = added
  const shown = text === null ? {} : { recovery: text }
  say({ event: 'trusted', fingerprint, name: added.name, role: added.role, ...shown })
}

/** Asks the runtime that uses this home to open a pairing window, and prints its code (CHANNEL 9.2). */
async function pair(dir: string, role?: string): Promise<void> {
  if (role !== undefined && !Object.hasOwn(ROLE_RANK, role))
    throw new Refusal('usage', `expected owner, operator or observer, got ${role}`)
  const [{ enterHome }, { requestWindow }] = await Promise.all([
    import('./store/enterhome.ts'),
    import('./store/pairingfiles.ts'),
  ])
  await enterHome(dir, 'medulla pair --allow --home')
  const { code, until, tries } = await requestWindow('.', (role as Role | undefined) ?? null)
  say({ event: 'pairing', code, until, tries })
}

main().catch(refuse)
