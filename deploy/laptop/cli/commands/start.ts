import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import type { SlotStatus } from '../../../shared/api.ts'
import { Refusal } from '../../../shared/errors.ts'
import type { RobotClient } from '../../client.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { EXIT } from '../exit.ts'
import { checkSlot } from '../pushing.ts'
import { withRobot } from '../robot.ts'
import { alarmText } from '../statusview.ts'
import { followSwap, showResult } from '../swap.ts'

/** States of a slot before its program runs (HANDOVER 2.1). */
const STARTING: ReadonlySet<string> = new Set(['starting', 'restarting', 'proving', 'committing-alone'])
const EVERY_MS = 50
const LONGEST_MS = 10_000

export function define(command: Command, app: App, run: Runner): void {
  command
    .description('Starts the program of a stopped slot, from its last checkpoint.')
    .option('--slot <slot>', 'which slot (default: main)')
    .addHelpText('after', example('medulla start', 'medulla start --slot arm -d arm-1'))
    .action((options: { slot?: string }, own: Command) =>
      run(() => start(app, checkSlot(options.slot), own.optsWithGlobals<Globals>())),
    )
}

async function start(app: App, slot: string, globals: Globals): Promise<number> {
  const { result, after } = await withRobot(app, globals, async (client) => {
    const result = await followSwap(app, client.start(slot))
    return { result, after: result?.outcome === 'started' ? await outcome(client, slot) : undefined }
  })
  if (result === undefined) throw new Error('a start that is waited for has a result')
  if (after === undefined || after.state !== 'running') {
    if (after?.lastError === undefined || STARTING.has(after.state)) return showResult(app, result)
    const hint = after.hint ?? 'medulla logs shows what the program said'
    app.term.failure(new Refusal('died-at-start', `slot ${slot} was started: ${after.lastError}`, hint))
    return EXIT.undone
  }
  const exit = showResult(app, { ...result, message: `${after.program} ${after.version} runs` })
  // Another release than the one that was stopped may run now (HANDOVER 9.13).
  if (after.alarm !== undefined) app.term.note(alarmText(after.alarm))
  app.term.next('medulla logs -f')
  return exit
}

/** Waits until the program of the slot runs or has failed to start, for at most 10 s; returns the slot's status. */
async function outcome(client: RobotClient, slot: string): Promise<SlotStatus | undefined> {
  const until = performance.now() + LONGEST_MS
  for (;;) {
    const found = (await client.status()).slots.find((status) => status.slot === slot)
    if (found === undefined || !STARTING.has(found.state) || performance.now() > until) return found
    await sleep(EVERY_MS)
  }
}
