import type { Command } from 'commander'
import type { ReleaseInfo, ReleaseRun } from '../../../shared/api.ts'
import { Refusal } from '../../../shared/errors.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { printable, shortDigest } from '../loglines.ts'
import { checkSlot } from '../pushing.ts'
import { withRobot } from '../robot.ts'
import { uptime } from '../statusview.ts'
import { followSwap, pastRestart, showResult } from '../swap.ts'
import { formatMs } from '../term.ts'

interface Options {
  slot?: string
  list?: true
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Goes back to the last release that ran well (for a minute, or until it was stopped or replaced, without a crash), or ' +
        'to the release that you name. The state is migrated down. A rollback is an order that you sign: it names the robot, ' +
        'the release and what runs now, and the robot carries it out once.',
    )
    .argument('[digest]', 'which release: its digest, or enough first digits to tell it from the others')
    .option('--list', 'only list the releases that the slot can go back to, and how each ran')
    .option('--slot <slot>', 'which slot (default: main)')
    .addHelpText('after', example('medulla rollback', 'medulla rollback --list', 'medulla rollback 3f2a91 --slot arm'))
    .action((digest: string | undefined, options: Options, own: Command) =>
      run(() => rollback(app, digest, options, own.optsWithGlobals<Globals>())),
    )
}

async function rollback(app: App, digest: string | undefined, options: Options, globals: Globals): Promise<number> {
  const slot = checkSlot(options.slot)
  const prefix = digest?.replace(/^sha256:/, '')
  if (prefix !== undefined && !/^[0-9a-f]{1,64}$/.test(prefix)) {
    throw new Refusal('usage', `expected the first hex digits of a digest, got ${JSON.stringify(digest)}`)
  }
  const result = await withRobot(app, globals, async (client) => {
    const releases = await client.releases(slot)
    if (options.list) return show(app, releases)
    const target = choose(slot, releases, prefix)
    const from = releases.find(({ current }) => current)?.digest ?? null
    const to = { program: target.program, target: target.digest, from }
    return pastRestart(app, slot, () => followSwap(app, client.rollback(slot, to)))
  })
  return result === undefined ? 0 : showResult(app, result)
}

function choose(slot: string, releases: readonly ReleaseInfo[], prefix: string | undefined): ReleaseInfo {
  const earlier = releases.filter(({ current, undone }) => !current && !undone)
  const list = earlier.map(({ digest, program, version }) => `${shortDigest(digest)} ${program} ${version}`).join(', ')
  if (prefix === undefined) return lastGood(slot, earlier, list)
  const hint = 'medulla rollback --list'
  const found = releases.filter(({ digest }) => digest.startsWith(`sha256:${prefix}`))
  const [only] = found
  if (only === undefined) {
    throw new Refusal('not-found', `slot ${slot} keeps no release ${prefix}; it keeps: ${list || 'none'}`, hint)
  }
  if (found.length > 1)
    throw new Refusal('usage', `${found.length} releases have digests that begin with ${prefix}: ${list}`, hint)
  if (only.undone) {
    const what = `${only.program} ${only.version} was never committed, so the robot did not keep it`
    throw new Refusal('not-found', what, 'medulla push --retry pushes it again')
  }
  if (only.current) {
    throw new Refusal('already-installed', `${only.program} ${only.version} is what slot ${slot} runs`)
  }
  return only
}

/** The newest release that ran well; if none did, the newest that never crashed or whose runs are not known (HANDOVER 7.11). */
function lastGood(slot: string, earlier: readonly ReleaseInfo[], list: string): ReleaseInfo {
  const good = earlier.find(({ run }) => run?.well) ?? earlier.find(({ run }) => run === undefined || run.crashes === 0)
  if (good !== undefined) return good
  const none = earlier.length === 0
  throw new Refusal(
    'nothing-to-roll-back',
    none ? `slot ${slot} has no release to go back to` : `no earlier release of slot ${slot} ran well: ${list}`,
    none ? 'medulla status' : 'name one of them: medulla rollback DIGEST',
  )
}

function show({ term }: App, releases: readonly ReleaseInfo[]): undefined {
  for (const release of releases) term.event({ event: 'release', ...release })
  if (releases.length === 0) term.line('no release was ever committed in this slot')
  const rows = releases.map((release) => {
    const { digest, program, version, time, pusher } = release
    return [
      shortDigest(digest),
      `${program} ${version}`,
      time.slice(5, 19).replace('T', ' '),
      printable(pusher),
      howItRan(release),
    ]
  })
  if (rows.length > 0) term.table(['digest', 'program', 'installed (UTC)', 'by', 'how it ran'], rows)
  const back = releases.find(({ current, undone }) => !current && !undone)
  if (back !== undefined) term.next(`medulla rollback ${shortDigest(back.digest)}`)
}

/** `runs for 3 h, crashed after 9 s ×5` */
function howItRan({ current, run, runsMs, undone }: ReleaseInfo): string {
  if (undone) return 'never committed'
  const crashes = run === undefined || run.crashes === 0 ? [] : [crashed(run)]
  if (runsMs !== undefined) return [`runs for ${uptime(runsMs)}`, ...crashes].join(', ')
  const ran = run !== undefined && (run.well || run.crashes === 0) ? [`ran ${uptime(run.ranMs)}`] : []
  const what = [...(current ? ['current, does not run now'] : []), ...ran, ...crashes]
  return what.join(', ') || 'not known'
}

function crashed({ crashes, crashMs }: ReleaseRun): string {
  const times = crashes === 1 ? '' : ` ×${crashes}`
  const after = (crashMs ?? 0) < 10_000 ? formatMs(crashMs ?? 0) : uptime(crashMs ?? 0)
  return `crashed after ${after}${times}`
}
