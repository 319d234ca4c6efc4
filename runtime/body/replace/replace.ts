/**
 * Replaces the runtime while its programs run, by execve(2). Invariant: no program ends, and no device is opened or written
 * (HANDOVER 18; test/e2e/replace.test.ts, test/kernel/replace.rig.ts).
 *
 * The process stays, and with it the pid that systemd knows, the children, and every descriptor that is kept open. A second
 * process would have to take over the programs of the first one, and the kernel ends those with their parent (HANDOVER 3.6).
 */
import { execFile } from 'node:child_process'
import { closeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual, promisify } from 'node:util'
import { Refusal } from '../../../deploy/shared/errors.ts'
import { timeScale } from '../../../deploy/shared/timescale.ts'
import { loadSystem } from '../../../drivers/owner/linux/system.ts'
import { runtimePath } from '../../places.ts'
import { clockNs } from '../../sdk/ticker.ts'
import type { Body } from '../body.ts'
import type { EndpointLink } from '../endpoint/endpointlink.ts'
import { loadBoard } from '../hardware/boardfile.ts'
import type { SavedService } from '../service/environment.ts'
import { ABLE, descriptorsOf, SAVED_FORMAT, type SavedBody, writeSaved } from './saved.ts'

/** The new runtime must say within this time what it can go on with. ms, before MEDULLA_TIME_SCALE */
const ASK_MS = 20_000
/** The guard waits this long for the new runtime's first pulse. ms, before MEDULLA_TIME_SCALE */
const SILENT_MS = 10_000
/** For this long, in ms, the old runtime waits for an instant at which everything is written. */
const WRITTEN_MS = 2000
const RETRY_MS = 2

const run = promisify(execFile)

/** The new runtime's main file, and the operator who ordered it. */
export interface Replacement {
  readonly main: string
  /** Default: those of this process. */
  readonly args?: readonly string[]
  readonly by: string | null
  readonly service: SavedService
  /** True: the runtime was told to end meanwhile, so that nothing may replace it. */
  isEnding(): boolean
  /** Called last, when the handles are saved; not awaited. */
  lastly?(): void
}

/**
 * Returns only by throwing Refusal: `in-progress` (a program is being started, replaced or stopped), `wrong-wire` (the new
 * runtime cannot go on with what this one leaves), `unsupported` (no execve here, or a driver that ends with the process),
 * `bad-board` (the board file was changed), `interrupted` (the runtime is being ended). Then everything goes on as before.
 */
export async function replaceBody(
  body: Body,
  endpoint: EndpointLink,
  { main, args, by, service, isEnding, lastly }: Replacement,
): Promise<never> {
  const system = loadedSystem()
  const lost = body.lostHandles
  if (lost.length > 0) {
    const message = `${lost.join(', ')}: this driver ends with the runtime's process`
    throw new Refusal('unsupported', message, 'install the new runtime, and restart the robot')
  }
  // Asked at once, and again when the new runtime has answered.
  for (const slot of body.all) slot.save()
  await checkBoard(body)
  await ask(main)
  const until = performance.now() + WRITTEN_MS
  for (;;) {
    await body.settle()
    if (isEnding()) throw new Refusal('interrupted', 'the runtime is being ended')
    if (body.emergency.isHalting) throw new Refusal('in-progress', 'an emergency stop is being carried out')
    const saved = save(body, endpoint, { by, service })
    if (saved !== null) {
      const fd = writeSaved(body.folder, saved)
      for (const each of [...descriptorsOf(saved), fd]) system.keepOnExec(each)
      // From here on nothing is awaited: nobody may read what the next runtime is to read.
      body.pause(SILENT_MS)
      endpoint.kill()
      lastly?.()
      try {
        start(system, main, fd, args)
      } catch (error) {
        closeOnExec(saved)
        closeSync(fd)
        body.watch()
        throw error
      }
    }
    if (performance.now() > until)
      throw new Refusal('in-progress', `a program has not read what was sent to it for ${WRITTEN_MS} ms`, 'try again')
    await sleep(RETRY_MS)
  }
}

/** No program and no endpoint that is started from now on may inherit what was left (HANDOVER 3.3). */
export function closeOnExec(saved: SavedBody): void {
  const system = loadedSystem()
  for (const fd of descriptorsOf(saved)) if (fd > 2) system.closeOnExec(fd)
}

/** The old runtime goes on, since the new one could not read or use what it left. */
export function goBack(saved: SavedBody, why: string): never {
  const system = loadedSystem()
  const fd = writeSaved(saved.dirs.base, { ...saved, failed: why })
  for (const each of [...descriptorsOf(saved), fd]) system.keepOnExec(each)
  start(system, saved.from.main, fd)
}

function start(
  system: ReturnType<typeof loadSystem>,
  main: string,
  fd: number,
  given: readonly string[] = process.argv.slice(2),
): never {
  const args = [...given]
  const at = args.indexOf('--resume')
  if (at >= 0) args.splice(at, 2)
  const env = Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  )
  return system.execve(
    process.execPath,
    [process.execPath, ...process.execArgv, main, ...args, '--resume', String(fd)],
    env,
  )
}

function save(body: Body, endpoint: EndpointLink, about: Pick<Replacement, 'by' | 'service'>): SavedBody | null {
  const hardware = body.saveHardware()
  const slots = body.all.map((slot) => slot.save())
  if (hardware === null || slots.some((slot) => slot === null)) return null
  return {
    format: SAVED_FORMAT,
    from: { version: body.options.version, main: runtimePath('main.js') },
    by: about.by,
    service: about.service,
    atNs: clockNs(),
    dirs: body.saveDirs(),
    hardware,
    slots: slots.filter((slot) => slot !== null),
    endpoint: endpoint.save(),
  }
}

/** Every descriptor belongs to a handle of the board as it was opened. */
async function checkBoard(body: Body): Promise<void> {
  const now = await loadBoard(body.options, body.home.dir)
  if (isDeepStrictEqual(JSON.parse(JSON.stringify(now)), JSON.parse(JSON.stringify(body.board)))) return
  const message = 'the board file was changed since the runtime was started'
  throw new Refusal('bad-board', message, 'restart the runtime first: systemctl restart medulla')
}

/** Starts the new runtime once to ask what it can go on with: that also loads all of its code. */
async function ask(main: string): Promise<void> {
  const hint = 'the runtime that runs goes on'
  let answer: Partial<typeof ABLE>
  try {
    const { stdout } = await run(process.execPath, [main, 'able'], { timeout: ASK_MS * timeScale() })
    answer = JSON.parse(stdout) as Partial<typeof ABLE>
  } catch (cause) {
    const { stderr = '', message } = cause as Error & { stderr?: string }
    const lines = stderr.split('\n')
    const why = lines.find((line) => /^\w*Error\b/.test(line)) ?? lines.findLast((line) => line !== '') ?? message
    throw new Refusal('died-at-start', `the new runtime does not start: ${why}`, hint, { cause })
  }
  if (answer.format === ABLE.format && answer.wire === ABLE.wire) return
  const [expected, got] = [`${ABLE.format}, wire ${ABLE.wire}`, `${answer.format}, wire ${answer.wire}`]
  const restart = 'install it as a package, and restart the robot: its programs are started anew then'
  throw new Refusal(
    'wrong-wire',
    `the new runtime cannot go on with running programs: ${expected} is needed, it has ${got}`,
    restart,
  )
}

function loadedSystem(): ReturnType<typeof loadSystem> {
  try {
    return loadSystem()
  } catch (cause) {
    const message = 'the runtime cannot be replaced while it runs: that needs Linux and the package koffi'
    throw new Refusal('unsupported', message, 'install the new runtime, and restart the robot', { cause })
  }
}
