import type { Command } from 'commander'
import type { Receipt, SignedReceipt } from '../../../shared/api.ts'
import { Refusal } from '../../../shared/errors.ts'
import type { Head, LogVerdict } from '../../../shared/receiptlog.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { type KnownRobot, readRobots, writeRobots } from '../config.ts'
import { EXIT } from '../exit.ts'
import { reasonOf } from '../loglines.ts'
import { withRobot } from '../robot.ts'
import { formatMs } from '../term.ts'
import { wholeNumber } from './logs.ts'

const MAX = 10_000

interface Options {
  limit: string
  verify?: true
  accept?: true
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'What was done to the robot: one line for each push, refusal and crash. The robot signs and chains the entries.\n' +
        'Many refusals in a short time share one entry, which has their number.\n' +
        '--verify checks signatures and chain on this laptop, that the log reaches the head which the robot reports, and\n' +
        'that the log contains the head seen by the last --verify: then no entry was removed since.',
    )
    .option('--limit <count>', 'number of receipts, the newest', '20')
    .option('--verify', `check the receipts (reads the newest ${MAX})`)
    .option('--accept', 'with --verify: remember the head even if the log does not continue the head seen before')
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
    // ask for the head before the log: the log may then have newer entries, but must have the head
    const reported = options.verify === true ? (await client.status()).head : undefined
    for await (const entry of client.receipts(options.verify === true ? MAX : limit)) signed.push(entry)
    show(app, signed.slice(-limit))
    if (reported === undefined && signed.length > 0) app.term.next('medulla receipts --verify')
    if (reported !== undefined) {
      await verify(app, { name: robot.name, key: robot.card.key, reported, accept: options.accept === true }, signed)
    }
    return EXIT.ok
  })
}

interface About {
  name: string
  /** of the robot's card */
  key: string
  reported: Head
  accept: boolean
}

async function verify(app: App, { name, key, reported, accept }: About, signed: readonly SignedReceipt[]) {
  const { verifyLog } = await import('../../../shared/receiptlog.ts')
  const known = readRobots(app.dir)
  const robot = known.robots[name]
  const seen = robot?.seen
  const lines = signed.map((entry) => JSON.stringify(entry))
  // fewer entries than asked for: this is the whole log
  const given = { partial: signed.length >= MAX, reported }
  const alone = verifyLog(lines, key, given)
  const verdict = alone.ok && seen !== undefined ? verifyLog(lines, key, { ...given, seen }) : alone
  if (!alone.ok || (!verdict.ok && !accept)) throw problemOf(app, verdict, seen)
  const { entries, first, head } = verdict
  app.term.event({ event: 'verified', ok: true, entries, first, head, ...(seen === undefined ? {} : { seen, continues: verdict.ok }) }) // biome-ignore format: one event
  const which = entries === 0 ? 'no receipts' : `${entries} receipts, number ${first} to ${head.seq}`
  app.term.line(
    `${which}, signed by the robot's key and unbroken, up to the head that it reports; ${since(seen, verdict.ok)}`,
  )
  if (robot === undefined) return
  robot.seen = { ...head, at: new Date().toISOString() }
  await writeRobots(app.dir, known)
}

/** Whether the log continues the head that an earlier --verify saw. */
function since(seen: KnownRobot['seen'], continues: boolean): string {
  if (seen === undefined) return 'this head is remembered, and the next --verify looks for it'
  const before = `the head seen ${dateOf(seen)} (number ${seen.seq})`
  return continues ? `contains ${before}` : `does not continue ${before}, which is forgotten`
}

const dateOf = ({ at }: { at?: string }) =>
  at === undefined ? 'earlier' : `on ${at.slice(0, 16).replace('T', ' ')} UTC`

function problemOf(app: App, verdict: LogVerdict, seen: KnownRobot['seen']): Refusal {
  if (verdict.ok) throw new Error('a log without a problem')
  const { entries, first, problem } = verdict
  app.term.event({ event: 'verified', ok: false, entries, ...problem })
  const { line, message, unproven } = problem
  const accept = 'if you know why, medulla receipts --verify --accept remembers this log instead'
  if (unproven === true) {
    const message = `the newest ${entries} receipts begin after the head seen ${dateOf(seen ?? {})}`
    return new Refusal('too-large', `${message}: they cannot show whether the log continues it`, accept)
  }
  const hint = message.includes('seen earlier') ? `do not trust this log; ${accept}` : 'do not trust this log'
  return new Refusal('bad-signature', `receipt ${first + line - 1} ${message}`, hint)
}

function show({ term }: App, signed: readonly SignedReceipt[]): void {
  const rows: string[][] = []
  for (const entry of signed) {
    const receipt = parsed(entry)
    if (receipt === null) {
      rows.push(['?', '', '', 'damaged', '', '', 'this entry is not JSON; --verify names its number'])
      continue
    }
    term.event({ event: 'receipt', ...receipt })
    rows.push([
      String(receipt.seq),
      receipt.time.slice(5, 19).replace('T', ' '),
      receipt.slot,
      receipt.outcome,
      [receipt.program, receipt.version].filter(Boolean).join(' '),
      receipt.gapMs === null ? '' : formatMs(receipt.gapMs),
      reasonOf(receipt),
    ])
  }
  if (rows.length === 0) term.line('no receipts yet')
  else term.table(['seq', 'time (UTC)', 'slot', 'outcome', 'program', 'gap', 'reason'], rows)
}

/** Null for a line that was damaged on the robot's disk: the robot serves such a line unchanged. */
function parsed({ receipt }: SignedReceipt): Receipt | null {
  try {
    return JSON.parse(receipt) as Receipt
  } catch {
    return null
  }
}
