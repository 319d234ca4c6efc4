import type { Command } from 'commander'
import type { ReleaseInfo } from '../../api.ts'
import { Refusal } from '../../errors.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { checkSlot } from '../pushing.ts'
import { withRobot } from '../robot.ts'
import { followSwap, showResult } from '../swap.ts'

interface Options {
  slot?: string
  list?: true
}

/** Enough to tell eight releases from each other, and to type. */
const SHORT = 12

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Goes back to the program that ran before, or to an earlier one that the robot still keeps, with the state migrated ' +
        'down. It is an order that you sign: it names the robot, the release and what runs now, and is good for once.',
    )
    .argument('[digest]', 'which release: its digest, or as much of it as tells it from the others')
    .option('--list', 'what the slot can go back to, and stop there')
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
    return followSwap(app, client.rollback(slot, { program: target.program, target: target.digest, from }))
  })
  return result === undefined ? 0 : showResult(app, result)
}

function choose(slot: string, releases: readonly ReleaseInfo[], prefix: string | undefined): ReleaseInfo {
  const earlier = releases.filter(({ current }) => !current)
  const list = earlier.map(({ digest, program, version }) => `${short(digest)} ${program} ${version}`).join(', ')
  if (prefix === undefined) {
    const [before] = earlier
    if (before !== undefined) return before
    throw new Refusal('nothing-to-roll-back', `slot ${slot} has no release to go back to`, 'medulla status')
  }
  const hint = 'medulla rollback --list'
  const found = releases.filter(({ digest }) => digest.startsWith(`sha256:${prefix}`))
  const [only] = found
  if (only === undefined) {
    throw new Refusal('not-found', `slot ${slot} keeps no release ${prefix}; it keeps: ${list || 'none'}`, hint)
  }
  if (found.length > 1) throw new Refusal('usage', `${prefix} begins ${found.length} releases: ${list}`, hint)
  if (only.current) {
    throw new Refusal('already-installed', `${only.program} ${only.version} is what slot ${slot} runs`)
  }
  return only
}

function show({ term }: App, releases: readonly ReleaseInfo[]): undefined {
  for (const release of releases) term.event({ event: 'release', ...release })
  if (releases.length === 0) term.line('nothing was ever committed here')
  const rows = releases.map(({ digest, program, version, time, current }) => {
    return [short(digest), program, version, time.slice(0, 19).replace('T', ' '), current ? 'runs' : '']
  })
  if (rows.length > 0) term.table(['digest', 'program', 'version', 'installed (UTC)', ''], rows)
}

const short = (digest: string): string => digest.replace('sha256:', '').slice(0, SHORT)
