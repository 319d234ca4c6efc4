/**
 * Starts the runtime that was chosen by a push in the place of the base install, which systemd starts. Invariant: what decides
 * about a pushed runtime, and undoes it, is the code of the base install or of the runtime before it (HANDOVER 17.5;
 * test/e2e/runtimes.test.ts).
 */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import {
  parseRuntimePackage,
  RUNTIME_MAIN,
  RUNTIME_PACKAGE,
  type RuntimePackage,
} from '../deploy/shared/bundle/runtimepackage.ts'
import { Refusal } from '../deploy/shared/errors.ts'
import { timeScale } from '../deploy/shared/timescale.ts'
import { type LinuxSystem, loadSystem } from '../drivers/owner/linux/system.ts'
import { runtimePath } from './places.ts'
import { bootId, takeLock } from './store/lock.ts'
import { hasRuntimes, type RuntimeState, Runtimes, runtimesFolder } from './store/runtimes.ts'

/** The option by which a runtime that replaced another one learns where the base install is. */
const BASE_OPTION = '--base'
/** Starts in a row that were not confirmed, after which a runtime is undone that was healthy before. */
const MAX_STARTS = 3
/** The same of the base install, after which no program is started. */
const MAX_BASE_STARTS = 5
/** A pushed runtime that is not healthy after this time is ended by the kernel. Before MEDULLA_TIME_SCALE. */
const HEALTHY_S = 90
/** The first descriptor that systemd passes on (sd_listen_fds(3)). */
const FIRST_LISTEN_FD = 3

export type Note = (level: 'info' | 'warn' | 'error', text: string) => void

/** The package from which systemd, or `medulla sim`, starts the runtime. */
export interface BaseInstall {
  readonly dir: string
  readonly about: RuntimePackage
}

/** `dir`: the base install, where a pushed runtime runs; absent: it is this installation. */
export function baseInstall(dir = join(runtimePath('.'), '../..')): BaseInstall {
  return { dir, about: parseRuntimePackage(readFileSync(join(dir, RUNTIME_PACKAGE))) }
}

/** The digest of the pushed runtime whose code this is; null: it is the base install, or a copy of it. */
export function ownDigest(): string | null {
  const hex = /\/runtimes\/([0-9a-f]{64})\/tree\//.exec(runtimePath('main.js'))?.[1]
  return hex === undefined ? null : `sha256:${hex}`
}

/** Why no runtime can be pushed to this computer; null: one can. */
export function unsupported(): Refusal | null {
  try {
    loadSystem()
    return null
  } catch (cause) {
    const message = `the runtime cannot be replaced while it runs: ${(cause as Error).message}`
    return new Refusal('unsupported', message, 'install the new package on the robot instead', { cause })
  }
}

export interface StartOptions {
  readonly home: string
  /** Arguments of this process, without those of Node. */
  readonly args: readonly string[]
  readonly note: Note
}

/**
 * Called by the base install before it opens anything. Starts the chosen runtime and does not return, or returns when the base
 * install is to run: then the result says why it must start no program, or null.
 */
export async function startChosen({ home, args, note }: StartOptions): Promise<string | null> {
  // systemd starts the runtime again when it ends; a person at a terminal sees it end.
  const supervised = process.env.INVOCATION_ID !== undefined
  if (!hasRuntimes(home) && !supervised) return null
  // Whoever can write there could choose what is executed here; the body refuses such a home.
  if (!isOwn(home) || (hasRuntimes(home) && !isOwn(runtimesFolder(home)))) return null
  const lock = await takeLock(join(home, 'lock'), `the robot home ${home}`).catch((error: unknown) => {
    // Another runtime uses the home: the body refuses, and says which.
    note('warn', (error as Error).message)
    return null
  })
  if (lock === null) return null
  try {
    const runtimes = await Runtimes.open(home)
    for (const problem of runtimes.problems) note('error', `${problem}; the installed runtime is started`)
    const base = baseInstall()
    const digest = await choice(runtimes, base, note)
    if (digest !== null) {
      const start = await prepare(runtimes, { digest, base, args })
      await lock.release()
      execute(start)
    }
    const { current, starts, boot } = runtimes.state
    if (!supervised || current !== null) return null
    const minimal = starts >= MAX_BASE_STARTS && boot === bootId()
    await runtimes.started(bootId())
    return minimal ? `the runtime failed ${starts} times in a row` : null
  } catch (error) {
    note('error', `the installed runtime is started, because no other one could be: ${(error as Error).message}`)
    return null
  } finally {
    await lock.release()
  }
}

function isOwn(folder: string): boolean {
  const stat = statSync(folder, { throwIfNoEntry: false })
  return stat !== undefined && stat.uid === process.getuid?.() && (stat.mode & 0o022) === 0
}

/** The digest of the runtime to start, after those that failed were undone; null: the base install. */
export async function choice(runtimes: Runtimes, base: BaseInstall, note: Note): Promise<string | null> {
  for (;;) {
    const { current } = runtimes.state
    if (current === null) return null
    const now = new Date().toISOString()
    if (current.base !== base.about.version) {
      note(
        'warn',
        `medulla ${base.about.version} was installed after runtime ${current.version} was pushed, and is started`,
      )
      await runtimes.leaveToBase(now)
      continue
    }
    const why = failure(runtimes.state) ?? (await damage(runtimes, current.digest))
    if (why === null) {
      const refusal = unsupported()
      if (refusal === null) return current.digest
      note('error', `runtime ${current.version} is not started: ${refusal.message}`)
      return null
    }
    await runtimes.undo(why, now)
    const { current: next } = runtimes.state
    const instead = next === null ? `the installed runtime ${base.about.version}` : `runtime ${next.version}`
    note('error', `runtime ${current.version} was undone, and ${instead} is started: ${why}`)
  }
}

/** Why the current runtime must not be started again; null: it may be (HANDOVER 17.6). */
export function failure({ starts, confirmed }: Pick<RuntimeState, 'starts' | 'confirmed'>): string | null {
  if (!confirmed && starts > 0) return 'it ended, or was ended, before it was healthy'
  return starts >= MAX_STARTS ? `it failed ${starts} times in a row` : null
}

async function damage(runtimes: Runtimes, digest: string): Promise<string | null> {
  try {
    await runtimes.check(digest)
    return null
  } catch (error) {
    return (error as Error).message
  }
}

/** What replaces this process. */
export interface Start {
  readonly main: string
  readonly args: readonly string[]
  /** It is a pushed runtime, which has to become healthy. */
  readonly isPushed: boolean
}

export interface Choice {
  /** Null: the base install. */
  readonly digest: string | null
  readonly base: BaseInstall
  readonly args: readonly string[]
}

/** Gives a pushed runtime its packages, and counts its start (HANDOVER 17.6). */
export async function prepare(runtimes: Runtimes, { digest, base, args }: Choice): Promise<Start> {
  const about = { args: [...plain(args), BASE_OPTION, base.dir], isPushed: digest !== null }
  if (digest === null) return { main: join(base.dir, RUNTIME_MAIN), ...about }
  await runtimes.link(digest, modulesOf(base))
  await runtimes.started(bootId())
  return { main: runtimes.mainOf(digest), ...about }
}

/** Replaces this process, whose programs have ended. Only a failed execve(2) lets it return, by throwing. */
export function execute({ main, args, isPushed }: Start): never {
  const system = loadSystem()
  if (isPushed) limitStart()
  keepListeners(system)
  const env = Object.fromEntries(Object.entries(process.env).map(([name, value]) => [name, value ?? '']))
  return system.execve(process.execPath, [process.execPath, ...process.execArgv, main, ...args], env)
}

/** SIGALRM ends this process, by the kernel, unless {@link startedWell} is called in time (alarm(2) outlives execve(2)). */
export function limitStart(): void {
  loadSystem().bind('alarm', 'int', ['uint'])(Math.ceil(HEALTHY_S * timeScale()))
}

/** Ends the limit of {@link limitStart}. */
export function startedWell(): void {
  if (unsupported() === null) loadSystem().bind('alarm', 'int', ['uint'])(0)
}

/** The sockets that systemd gave to this process (sd_listen_fds(3)). */
function keepListeners(system: LinuxSystem): void {
  const { LISTEN_PID, LISTEN_FDS } = process.env
  const count = Number(LISTEN_PID) === process.pid ? Number(LISTEN_FDS) || 0 : 0
  for (let fd = FIRST_LISTEN_FD; fd < FIRST_LISTEN_FD + count; fd++) system.keepOnExec(fd)
}

/** Without the options of a runtime that replaced another one. */
function plain(args: readonly string[]): string[] {
  return args.filter((word, at) => ![word, args[at - 1]].some((each) => each === BASE_OPTION || each === '--resume'))
}

/** The node_modules that holds the packages of the base install: npm puts them into it or beside it. Null: there are none. */
function modulesOf({ dir, about }: BaseInstall): string | null {
  for (let folder = dir; ; folder = dirname(folder)) {
    const modules = basename(folder) === 'node_modules' ? folder : join(folder, 'node_modules')
    if (Object.keys(about.packages).some((name) => existsSync(join(modules, name)))) return modules
    if (folder === dirname(folder)) return null
  }
}
