import type { Command } from 'commander'
import type { Receipt, SignedReceipt } from '../../api.ts'
import { Refusal } from '../../errors.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { readRobots, writeRobots } from '../config.ts'
import { EXIT } from '../exit.ts'
import { printable } from '../loglines.ts'
import { withRobot } from '../robot.ts'
import { formatMs } from '../term.ts'
import { wholeNumber } from './logs.ts'

const MAX = 10_000

interface Options {
  limit: string
  verify?: true
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'What was done to the robot: every push, refusal and crash, one line each, signed by the robot and chained.\n' +
        '--verify checks signatures and chain here, and that nothing seen by an earlier --verify was taken away.',
    )
    .option('--limit <count>', 'how many of the newest', '20')
    .option('--verify', `check them (reads the newest ${MAX})`)
    .addHelpText('after', example('medulla receipts', 'medulla receipts --verify'))
    .action((_: unknown, own: Command) => {
      const options = own.opts<Options>()
      return run(() => receipts(app, options, own.optsWithGlobals<Globals>()))
    })
}

async function receipts(app: App, options: Options, globals: Globals): Promise<number> {
  const limit = Math.max(1, wholeNumber('--limit', options.limit, MAX))
  return withRobot(app, globals, async (client, robot) => {
    const signed: SignedReceipt[] = []
    for await (const entry of client.receipts(options.verify === true ? MAX : limit)) signed.push(entry)
    show(app, signed.slice(-limit))
    if (options.verify !== true) return EXIT.ok
    await verify(app, robot.name, robot.card.key, signed)
    return EXIT.ok
  })
}

async function verify(app: App, name: string, key: string, signed: readonly SignedReceipt[]): Promise<void> {
  const { verifyLog } = await import('../../receiptlog.ts')
  const known = readRobots(app.dir)
  const robot = known.robots[name]
  const first = signed[0] === undefined ? 1 : (JSON.parse(signed[0].receipt) as Receipt).seq
  const verdict = verifyLog(
    signed.map((entry) => JSON.stringify(entry)),
    key,
    { partial: first !== 1, ...(robot?.seen === undefined ? {} : { seen: robot.seen }) },
  )
  if (!verdict.ok) {
    app.term.event({ event: 'verified', ok: false, entries: verdict.entries, ...verdict.problem })
    const { line, message } = verdict.problem
    throw new Refusal('bad-signature', `receipt ${first + line - 1} ${message}`, 'do not trust this log')
  }
  app.term.event({ event: 'verified', ok: true, entries: verdict.entries, head: verdict.head })
  app.term.line(`${verdict.entries} receipts, signed by the robot and unbroken; head ${verdict.head.digest}`)
  if (robot === undefined) return
  robot.seen = verdict.head
  await writeRobots(app.dir, known)
}

function show({ term }: App, signed: readonly SignedReceipt[]): void {
  const rows: string[][] = []
  for (const entry of signed) {
    const receipt = JSON.parse(entry.receipt) as Receipt
    term.event({ event: 'receipt', ...receipt })
    rows.push([
      String(receipt.seq),
      receipt.time.replace('T', ' ').replace(/\.\d+Z$/, ''),
      receipt.slot,
      receipt.outcome,
      receipt.program ?? '',
      receipt.version ?? '',
      receipt.gapMs === null ? '' : formatMs(receipt.gapMs),
      printable([receipt.code, receipt.reason].filter((part) => part !== undefined).join(': ')),
    ])
  }
  if (rows.length === 0) term.line('no receipts yet')
  else term.table(['seq', 'time (UTC)', 'slot', 'outcome', 'program', 'version', 'gap', 'reason'], rows)
}
