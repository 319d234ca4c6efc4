import type { ChildProcess } from 'node:child_process'
import { openSync } from 'node:fs'
import { access, copyFile, mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { DEFAULT_PORT } from '../../../shared/api.ts'
import { type SignedCertificate, verifyCertificate } from '../../../shared/cert.ts'
import { Refusal } from '../../../shared/errors.ts'
import { NAME_PATTERN } from '../../../shared/names.ts'
import { keyPath, operator, readJsonFile, readRobots, writeJson } from '../../config.ts'
import { type App, example, type Runner } from '../app.ts'
import { EXIT } from '../exit.ts'
import { whenUnread } from '../interrupt.ts'
import { ROBOTS } from '../paths.ts'
import { checkPin, type PinOptions, pinRobot } from '../pins.ts'
import { formatAddress, parseAddress } from '../robot.ts'
import { askRuntime, type Listening, spawnRuntime, untilListening } from '../runtimebin.ts'
import { ensureKey, isFree, sentences, suggestions } from '../simstart.ts'

const DEFAULT_BOARD = join(ROBOTS, 'template/board.json')

interface Options {
  name?: string
  kernel?: true
  port?: string
  board?: string
  trace?: string
  keep?: true
  replace?: true
  scenario?: string
  scenarioSchema?: true
  timeout?: string
  expect?: string
  fail?: string
  vcd?: string
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Starts a simulated robot on this computer: the same runtime as on a Pi, over simulated pins. The robot and this ' +
        'laptop trust each other from the start; the command makes a key if you have none. The robot runs until Ctrl-C. ' +
        'The next start continues with the same program and board file.\n' +
        'With --scenario or --expect the command only simulates one program, in simulated time. Its exit code is the result: ' +
        `${EXIT.ok} passed, ${EXIT.failed} failed, ${EXIT.timeout} not passed before the time was over, ` +
        `${EXIT.usage} the scenario file is wrong, ${EXIT.build} the program does not build.`,
    )
    .argument('[program]', 'with --scenario or --expect: a folder or a source file')
    .option('--name <name>', 'name of the robot (default: sim, or with --kernel: kernel)')
    .option(
      '--port <port>',
      `TCP port on this computer (default: the last port, at first ${DEFAULT_PORT}, or any free port; 0: any)`,
    )
    .option('--board <file>', 'board file (default: the last board file; at first one with leds, a button and more)')
    .option('--trace <file>', 'write every change of a pin to this file')
    .option(
      '--kernel',
      "over the pins of a real Linux kernel, in user-mode Linux or QEMU: lines of gpio-sim under a Pi 4's label, I2C and PWM chips",
    )
    .option('--scenario <file>', 'simulate one program by this file: pulls, pokes, swaps, expectations')
    .option('--scenario-schema', 'print the JSON schema of scenario files')
    .option('--timeout <time>', 'limit of simulated time for all expectations, as 90s or 1h (default: 60s)')
    .option('--expect <text>', 'pass when a line of the log contains this text')
    .option('--fail <text>', 'fail when a line of the log contains this text')
    .option('--vcd <file>', 'write the levels of every pin to this file, for GTKWave and others')
    .option('--replace', 'forget the robot with other keys that had this name')
    .option('--keep', 'run the robot in the background; prints how to stop it')
    .addHelpText(
      'after',
      example(
        'medulla sim',
        'medulla sim --name arm --port 7272 --board board.json',
        'medulla sim --kernel',
        'medulla sim --scenario scenario.json --vcd pins.vcd',
        "medulla sim blinky --expect 'goes on' --fail error --timeout 5m",
      ),
    )
    .action((program: string | undefined, _: unknown, own: Command) => {
      const options = own.opts<Options>()
      if (options.scenarioSchema === true) return run(async () => (await import('../scenario.ts')).printSchema(app))
      if (options.scenario !== undefined || options.expect !== undefined) {
        return run(async () => (await import('../scenario.ts')).runScenario(app, program, options))
      }
      refuseScenarioOptions(program, options)
      const { key } = own.optsWithGlobals<{ key?: string }>()
      return run(() => (options.kernel === true ? simKernel : sim)(app, options, key))
    })
}

/** Refuses the options that only a simulation of one program has. */
function refuseScenarioOptions(program: string | undefined, options: Options): void {
  const given = program ?? (['timeout', 'fail', 'vcd'] as const).find((name) => options[name] !== undefined)
  if (given === undefined) return
  const what = given === program ? `a program (${program})` : `--${given}`
  throw new Refusal('usage', `${what} needs --scenario or --expect`, 'medulla sim --help')
}

async function sim(app: App, options: Options, key: string | undefined): Promise<number> {
  const name = checkedName(options.name ?? 'sim')
  const home = join(app.dir, 'sim', name)
  await ensureKey(app, key)
  const { cardFile } = await operator(app.dir, keyPath(app.dir, key, app.env))
  app.term.progress(`preparing ${home}`)
  const card = (await askRuntime(['card', '--home', home, '--name', name])) as SignedCertificate
  verifyCertificate(card)
  const pin = pinOptions(name, options)
  checkPin(app.dir, name, { card }, pin)
  await askRuntime(['trust', '--home', home, '--card', cardFile, '--role', 'owner'])
  const keep = options.keep === true
  const board = await boardOf(app, home, options.board)
  const port = options.port ?? (await freePort(app, name))
  const args = ['--home', home, '--sim', '--json', '--host', '127.0.0.1', '--port', port, '--name', name]
  if (board !== null) args.push('--board', board)
  if (options.trace !== undefined) args.push('--trace', options.trace)
  if (!keep) args.push('--until-stdin-ends')
  const readable = app.term.isRead && !keep
  const log = keep ? openSync(join(home, 'runtime.log'), 'a', 0o600) : readable ? 'pipe' : 'inherit'
  const child = spawnRuntime(args, { stdio: [keep ? 'ignore' : 'pipe', 'pipe', log], detached: keep })
  if (readable) sentences(app.term, child)
  return follow(app, name, child, { keep, pin }, async (up) => {
    // remembered only now: the runtime has started, so the board file has no mistake
    if (options.board !== undefined) await writeJson(lastBoard(home), { board })
    return { ...up, card }
  })
}

/** A simulated robot in a virtual machine with its own kernel. The robot's home is in the folder that the guest can write. */
async function simKernel(app: App, options: Options, key: string | undefined): Promise<number> {
  const name = checkedName(options.name ?? 'kernel')
  if (options.trace !== undefined) throw new Refusal('usage', '--trace needs simulated pins: leave out --kernel')
  const { startGuest } = await import('../kernel.ts')
  await ensureKey(app, key)
  const folder = join(app.dir, 'sim', name)
  const { cardFile } = await operator(app.dir, keyPath(app.dir, key, app.env))
  const port = Number(options.port ?? knownPort(app, name) ?? DEFAULT_PORT)
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new Refusal('usage', `expected a port, got ${options.port}`)
  }
  const keep = options.keep === true
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const log = keep ? openSync(join(folder, 'runtime.log'), 'a', 0o600) : 'inherit'
  const guest = await startGuest({ name, port, board: options.board, folder, operator: cardFile }, log, keep)
  app.term.progress(guest.booting)
  return follow(app, name, guest.child, { keep, pin: pinOptions(name, options) }, async (up) => {
    const card = await guest.card()
    verifyCertificate(card)
    return { ...up, host: '127.0.0.1', port: guest.port, card }
  })
}

/** Without --replace, a simulated robot does not take the name of a known robot that has other keys. */
function pinOptions(name: string, { kernel, replace }: Options): PinOptions {
  const again = `medulla sim ${kernel === true ? '--kernel ' : ''}--name ${name} --replace; or choose another --name`
  return { replace, again, own: true }
}

type Started = Listening & { card: SignedCertificate }

/** Waits until the runtime listens, stores the robot, and prints how to reach it. Without `keep`, also waits for its end. */
async function follow(
  app: App,
  name: string,
  child: ChildProcess,
  { keep, pin }: { keep: boolean; pin: PinOptions },
  started: (listening: Listening) => Promise<Started>,
): Promise<number> {
  let stopping = false
  const stop = (): void => {
    stopping = true
    child.kill('SIGTERM')
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)
  process.on('SIGHUP', stop)
  if (!keep) whenUnread(stop)
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  const listening = await untilListening(child).catch((error: unknown) => {
    if (stopping) return undefined
    child.kill('SIGTERM')
    throw error
  })
  if (listening === undefined) return 0
  const { card, ...up } = await started(listening)
  await pinRobot(app.dir, name, { address: formatAddress(up.host, up.port), card }, pin).catch((error: unknown) => {
    child.kill('SIGTERM')
    throw error
  })
  await printStart(app, up, name, keep ? child.pid : undefined)
  if (keep) {
    child.unref()
    return 0
  }
  const status = await ended
  if (stopping) return 0
  throw new Refusal('internal', `the simulated robot ended by itself with ${status}`, 'read its last lines above')
}

async function printStart(app: App, up: Listening, name: string, pid: number | undefined): Promise<void> {
  const { term } = app
  term.event({ ...up, ...(pid === undefined ? {} : { pid }) })
  term.line(`${term.paint('green', name)} listens on ${formatAddress(up.host, up.port)}, home ${up.home}`)
  term.line(up.id)
  if (term.json) return
  const next = await suggestions(app, name)
  term.line(
    pid === undefined
      ? 'Ctrl-C ends it. In another terminal:'
      : `It runs in the background: kill ${pid} ends it. Next:`,
  )
  for (const command of next) term.line(`  ${command}`)
}

/** The file that remembers the board file of the last start. */
const lastBoard = (home: string): string => join(home, 'sim.json')

/** The board file of --board, or of the last start; null: the board file in the home. */
async function boardOf(app: App, home: string, given: string | undefined): Promise<string | null> {
  if (given !== undefined) return resolve(given)
  const before = (readJsonFile(lastBoard(home)) as { board?: unknown } | undefined)?.board
  if (typeof before === 'string') {
    const there = await access(before).then(
      () => true,
      () => false,
    )
    if (there) return before
    app.term.note(`${before}, the board file of the last start, is gone: using the board file of the home`)
  }
  await defaultBoard(home)
  return null
}

/** The robot's last port, since laptops know that address; any free port when another process has it. */
async function freePort(app: App, name: string): Promise<string> {
  const port = knownPort(app, name) ?? DEFAULT_PORT
  if (await isFree(port)) return String(port)
  app.term.note(`port ${port} is in use on this computer: using another port`)
  return '0'
}

async function defaultBoard(home: string): Promise<void> {
  const path = join(home, 'board.json')
  const there = await access(path).then(
    () => true,
    () => false,
  )
  if (!there) await copyFile(DEFAULT_BOARD, path)
}

function checkedName(name: string): string {
  if (NAME_PATTERN.test(name)) return name
  throw new Refusal('usage', `expected a name like arm-1, got ${JSON.stringify(name)}`)
}

function knownPort(app: App, name: string): number | undefined {
  const robot = readRobots(app.dir).robots[name]
  return robot === undefined ? undefined : parseAddress(robot.address).port
}
