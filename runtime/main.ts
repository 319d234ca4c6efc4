#!/usr/bin/env node
/**
 * The runtime's bin, started by systemd on a robot and by `medulla sim` on a laptop.
 *
 * `main.js --home DIR [--sim] [--port N] [--host H] [--name NAME] [--board FILE] [--trace FILE]` runs the runtime, and
 * prints `{"event":"listening",…}` on stdout when it accepts connections. These commands print one line of JSON and exit:
 * `main.js trust --home DIR --card FILE`, `main.js card --home DIR`, `main.js doctor --home DIR [--board FILE]`,
 * `main.js board check --board FILE` and `main.js board new|header --model MODEL`. For `main.js scenario` see
 * testkit/command.ts. A refusal is `{"event":"error","error":{code,message,hint}}` on stdout and exit 3.
 */
import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { DEFAULT_PORT, ROLE_RANK, type Role } from '../deploy/shared/api.ts'
import type { SignedCertificate } from '../deploy/shared/cert.ts'
import { Refusal } from '../deploy/shared/errors.ts'
import { runBody } from './body/main.ts'
import { isSandbox, SANDBOXES } from './body/sandbox/sandboxes.ts'
import { createLog } from './log.ts'
import { SDK_VERSION } from './sdk/wire.ts'
import { enterHome } from './store/enterhome.ts'
import { openHome } from './store/home.ts'
import { addOperator } from './store/operators.ts'
import type { ScenarioArguments } from './testkit/command.ts'

const log = createLog('body')
const say = (line: object): void => {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

function refuse(error: unknown): void {
  const refusal =
    error instanceof Refusal ? error : new Refusal('internal', String(error instanceof Error ? error.stack : error))
  const { code, message, hint } = refusal
  say({ event: 'error', error: { code, message, ...(hint === undefined ? {} : { hint }) } })
  process.exitCode = 3
}

const text = { type: 'string' } as const

async function main(): Promise<void> {
  // closing the terminal does not end the runtime; the body's own handler of SIGHUP reads the operators again
  process.on('SIGHUP', () => {})
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
      expect: text,
      fail: text,
      vcd: text,
      role: text,
      // accepted and ignored: the output is always JSON
      json: { type: 'boolean', default: false },
      // set by `medulla sim`, so that the simulated robot ends with the CLI even when the CLI is killed
      'until-stdin-ends': { type: 'boolean', default: false },
    },
  })
  const [command, what] = positionals
  if (command === 'board') return aboutBoard(what, values.board, values.model)
  if (command === 'scenario') return simulated(what, values)
  if (values.home === undefined) throw new Refusal('usage', 'expected --home DIR')
  if (command === 'card') return say(await withHome(values.home, values.name, async (home) => home.card))
  if (command === 'doctor') return doctor(values.home, values.board)
  if (command === 'trust') return trust(values.home, values.card, values.role, values.name)
  if (command !== undefined)
    throw new Refusal('usage', `expected trust, card, doctor, board or scenario, got ${command}`)
  const port = Number(values.port)
  if (!Number.isInteger(port) || port < 0 || port > 65535)
    throw new Refusal('usage', `expected a port, got ${values.port}`)
  const { home, sim, host, name, board, trace, sandbox } = values
  if (sandbox !== undefined && !isSandbox(sandbox))
    throw new Refusal('usage', `expected --sandbox ${SANDBOXES.join(', ')}, got ${sandbox}`)
  await runBody(
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
    },
    {
      listening: (at) => say({ event: 'listening', ...at }),
      failed: refuse,
      note: (level, line) => log[level](line),
    },
  )
  if (!values['until-stdin-ends']) return
  process.stdin.once('close', () => process.kill(process.pid, 'SIGTERM'))
  // unref: an open stdin must not keep the process alive after the body has ended
  process.stdin
    .on('error', () => {})
    .resume()
    .unref()
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

type OpenHome = Awaited<ReturnType<typeof openHome>>

async function withHome<T>(dir: string, name: string | undefined, use: (home: OpenHome) => Promise<T>): Promise<T> {
  const home = await openHome(dir, name === undefined ? {} : { name })
  try {
    return await use(home)
  } finally {
    await home.close()
  }
}

/** Safe while a body runs: the list of operators has its own lock, and the body watches the file. */
async function trust(dir: string, card?: string, role?: string, name?: string): Promise<void> {
  if (card === undefined) throw new Refusal('usage', 'expected --card FILE: an operator card, or an OpenSSH public key')
  if (role !== undefined && !(role in ROLE_RANK))
    throw new Refusal('usage', `expected owner, operator or observer, got ${role}`)
  const given = await readOperator(card)
  await enterHome(dir)
  const added = await addOperator({ dir: '.' }, given, role as Role | undefined, name)
  say({ event: 'trusted', fingerprint: added.fingerprint, name: added.name, role: added.role })
}

/** Reads an operator's certificate, or the line of an OpenSSH public key. */
async function readOperator(file: string): Promise<SignedCertificate | string> {
  const hint = 'on the laptop: medulla trust --export > me.json'
  try {
    const written = (await readFile(file, 'utf8')).trim()
    return written.startsWith('{') ? (JSON.parse(written) as SignedCertificate) : written
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code ?? 'it is not JSON'
    throw new Refusal('usage', `cannot read an operator's card from ${file}: ${why}`, hint, { cause })
  }
}

main().catch(refuse)
