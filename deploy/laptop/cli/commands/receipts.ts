import type { Command } from 'commander'
import type { Receipt, SignedReceipt } from '../../../shared/api.ts'
import { Refusal } from '../../../shared/errors.ts'
import type { Head, LogVerdict } from '../../../shared/receiptlog.ts'
import { type KnownRobot, keyPath, readRobots, signer as signerOf, writeRobots } from '../../config.ts'
import { findRobot } from '../../target.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { shellWord } from '../clean.ts'
import { EXIT } from '../exit.ts'
import { reasonOf } from '../loglines.ts'
import { readCard, readReceipts, readSignedHead, saveReceipts, signHead } from '../receiptfiles.ts'
import { withRobot } from '../robot.ts'
import { formatMs } from '../term.ts'
import { wholeNumber } from './logs.ts'

const MAX = 10_000

interface Options {
  limit: string
  verify?: true
  accept?: true
  save?: string
  from?: string
  card?: string
  witness?: string
  contains?: string
  signer?: string
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'What was done to the robot: one line for each push, refusal and crash. The robot signs and chains the entries.\n' +
        'Many refusals in a short time share one entry, which has their number.\n' +
        '--verify checks signatures and chain on this laptop, that the log reaches the head which the robot reports, and\n' +
        'that the log contains the head seen by the last --verify: then no entry was removed since.\n' +
        '--save and --from do so without the robot. --witness signs the head of a verified log with your key, into FILE and\n' +
        'FILE.sig; whoever has these files can show later, with --contains, that the log still contains what you saw.',
    )
    .option('--limit <count>', 'number of receipts, the newest', '20')
    .option('--verify', `check the receipts (reads the newest ${MAX})`)
    .option('--accept', 'with --verify: remember the head even if the log does not continue the head seen before')
    .option('--save <file>', `write the newest ${MAX} entries into a new file`)
    .option('--from <file>', 'read entries that --save wrote, instead of asking the robot')
    .option('--card <file>', "with --from: the robot's card (default: that of -d)")
    .option('--witness <file>', 'verify, then sign the head: write FILE and FILE.sig')
    .option('--contains <file>', 'verify also that the log contains the head in FILE, which FILE.sig signs')
    .option('--signer <key>', 'with --contains: the public key file that must have signed')
    .addHelpText(
      'after',
      example(
        'medulla receipts --verify',
        'medulla receipts --save arm.log',
        'medulla receipts --verify --from arm.log --card robot.json',
        'medulla receipts --witness head.txt',
        'medulla receipts --contains head.txt --signer ada.pub',
      ),
    )
    .action((_: unknown, own: Command) => {
      const options = own.opts<Options>()
      return run(() => receipts(app, options, own.optsWithGlobals<Globals>()))
    })
}

async function receipts(app: App, options: Options, globals: Globals): Promise<number> {
  const limit = Math.max(1, wholeNumber('--limit', options.limit, MAX))
  const verifies = options.verify === true || options.witness !== undefined || options.contains !== undefined
  refuseUnused(options)
  const { from } = options
  if (from !== undefined) {
    const { key, id } = await cardOf(app, options, globals)
    const signed = readReceipts(from)
    show(app, signed.slice(-limit))
    if (verifies) {
      await verify(app, { name: null, key, id, reported: undefined, options }, signed, globals)
      if (options.contains === undefined)
        app.term.note('a file cannot show that its end is missing: --contains compares it with what a witness saw')
    }
    return EXIT.ok
  }
  return withRobot(app, globals, async (client, robot) => {
    const signed: SignedReceipt[] = []
    // ask for the head before the log: the log may then have newer entries, but must have the head
    const reported = verifies ? (await client.status()).head : undefined
    const whole = verifies || options.save !== undefined
    for await (const entry of client.receipts(whole ? MAX : limit)) signed.push(entry)
    show(app, signed.slice(-limit))
    if (options.save !== undefined) {
      saveReceipts(options.save, signed)
      app.term.line(`${signed.length} receipts in ${options.save}`)
      app.term.next(`medulla receipts --verify --from ${shellWord(options.save)}`)
    }
    if (!whole && signed.length > 0) app.term.next('medulla receipts --verify')
    if (verifies) {
      const about = { name: robot.name, key: robot.card.key, id: robot.card.id, reported, options }
      await verify(app, about, signed, globals)
    }
    return EXIT.ok
  })
}

/** An option that has no effect without another one is a mistake of the person. */
function refuseUnused(options: Options): void {
  const needs: [keyof Options, keyof Options][] = [
    ['accept', 'verify'],
    ['card', 'from'],
    ['signer', 'contains'],
  ]
  for (const [option, other] of needs) {
    if (options[option] === undefined || options[other] !== undefined) continue
    throw new Refusal('usage', `--${option} needs --${other}`, 'medulla receipts --help')
  }
  if (options.from !== undefined && options.save !== undefined)
    throw new Refusal('usage', `${options.from} is a saved log already: leave --save away`, 'medulla receipts --help')
}

/** Of the card in a file, or of a robot that this laptop knows. */
async function cardOf(app: App, { card }: Options, { device }: Globals): Promise<{ key: string; id: string }> {
  if (card !== undefined) return readCard(card)
  try {
    const { key, id } = (await findRobot(app.dir, device)).card
    return { key, id }
  } catch (cause) {
    const message =
      'expected --card FILE, the card of the robot whose log it is, or -d with a robot that this laptop knows'
    throw new Refusal('usage', message, 'medulla receipts --help', { cause })
  }
}

/** The log does not contain what a witness saw. */
function contradiction(app: App, verdict: LogVerdict, note: Head & { signer: string }, file: string): Refusal {
  if (verdict.ok) throw new Error('a log without a problem')
  const { line, message, unproven } = verdict.problem
  app.term.event({ event: 'contains', ok: false, seq: note.seq, digest: note.digest, signer: note.signer, message })
  const saw = message.replaceAll('was seen earlier', `is in ${file}, signed by ${note.signer}`)
  const hint = unproven === true ? 'ask for a log that begins earlier' : 'do not trust this log, or not this witness'
  return new Refusal('bad-signature', `receipt ${verdict.first + line - 1} ${saw}`, hint)
}

interface About {
  /** null: the log is in a file, and no head is remembered */
  name: string | null
  /** of the robot's card */
  key: string
  id: string
  reported: Head | undefined
  options: Options
}

async function verify(
  app: App,
  { name, key, id, reported, options }: About,
  signed: readonly SignedReceipt[],
  { key: own }: Globals,
) {
  const { verifyLog } = await import('../../../shared/receiptlog.ts')
  const known = readRobots(app.dir)
  const robot = name === null ? undefined : known.robots[name]
  const seen = robot?.seen
  const lines = signed.map((entry) => JSON.stringify(entry))
  // fewer entries than asked for: this is the whole log
  const given = { partial: name === null || signed.length >= MAX, ...(reported && { reported }) }
  const alone = verifyLog(lines, key, given)
  const verdict = alone.ok && seen !== undefined ? verifyLog(lines, key, { ...given, seen }) : alone
  if (!alone.ok || (!verdict.ok && options.accept !== true)) throw problemOf(app, verdict, seen)
  const { entries, first, head } = verdict
  app.term.event({ event: 'verified', ok: true, entries, first, head, ...(seen === undefined ? {} : { seen, continues: verdict.ok }) }) // biome-ignore format: one event
  const which = entries === 0 ? 'no receipts' : `${entries} receipts, number ${first} to ${head.seq}`
  const until = reported === undefined ? '' : ', up to the head that it reports'
  const past = name === null ? '' : `; ${since(seen, verdict.ok)}`
  app.term.line(`${which}, signed by the robot's key and unbroken${until}${past}`)
  if (options.contains !== undefined) {
    const note = readSignedHead(options.contains, id, options.signer)
    const found = verifyLog(lines, key, { ...given, seen: note })
    if (!found.ok) throw contradiction(app, found, note, options.contains)
    app.term.event({ event: 'contains', seq: note.seq, digest: note.digest, signer: note.signer })
    app.term.line(`contains number ${note.seq}, which ${note.signer} signed`)
  }
  if (options.witness !== undefined) {
    const signer = await signerOf(keyPath(app.dir, own, app.env))
    await signHead(options.witness, { robot: id, ...head }, signer)
    app.term.event({ event: 'witnessed', seq: head.seq, digest: head.digest, signer: signer.fingerprint })
    app.term.line(`${options.witness}: you saw this log up to number ${head.seq}; signed by ${signer.fingerprint}`)
  }
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
