import type { Command } from 'commander'
import type { EndpointReport, SlotStatus, StatusReport } from '../../../shared/api.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { Feed } from '../feed.ts'
import { untilInterrupt } from '../interrupt.ts'
import { printable, shortDigest } from '../loglines.ts'
import { withRobot } from '../robot.ts'
import { fullScreen, type Size } from '../screen.ts'
import {
  alarmTexts,
  latenessText,
  pairingText,
  type StatusScene,
  standing,
  statusScreen,
  stoppedText,
  uptime,
  valueText,
} from '../statusview.ts'
import { formatMs, type Paint } from '../term.ts'

/** A report comes every half second: a little less than 1 s prints each second one. */
const EVERY_MS = 900

export function define(command: Command, app: App, run: Runner): void {
  command
    .description('What the robot runs, in each slot, and which handles it has.')
    .option(
      '--watch',
      'a live screen with slots, pins and the last swaps, until q or Ctrl-C; without a terminal: a report each second',
    )
    .addHelpText('after', example('medulla status', 'medulla status -d arm --json', 'medulla status --watch'))
    .action((_: unknown, own: Command) => {
      const globals = own.optsWithGlobals<Globals>()
      return run(() => (own.opts<{ watch?: true }>().watch === true ? watch(app, globals) : status(app, globals)))
    })
}

async function status(app: App, globals: Globals): Promise<number> {
  const report = await withRobot(app, globals, (client) => client.status())
  app.term.event({ event: 'status', ...report })
  show(app, report)
  return 0
}

async function watch(app: App, globals: Globals): Promise<number> {
  const { term } = app
  if (!term.hasScreen) return everySecond(app, globals)
  const feed = await Feed.open(app, globals)
  const paint: Paint = (style, text) => term.paint(style, text)
  const draw = (size: Size): string[] => statusScreen({ ...scene(feed), now: Date.now() }, size, paint)
  await fullScreen(term, draw, (signal) => feed.run(signal))
  return 0
}

function scene({ report, board, receipts, pins, lost }: Feed): Omit<StatusScene, 'now'> {
  return { report, board, receipts, pins, lost }
}

/** Without a terminal: a report each second, and a line when the robot stops answering and when it answers again. */
async function everySecond(app: App, globals: Globals): Promise<number> {
  const { term } = app
  let next = 0
  const feed = await Feed.open(app, globals, {
    status(report) {
      if (performance.now() < next) return
      next = performance.now() + EVERY_MS
      term.event({ event: 'status', ...report })
      show(app, report)
      term.line()
    },
    lost({ message }) {
      term.event({ event: 'lost', message })
      term.note(`${globals.device ?? 'the robot'} does not answer: ${message}`)
    },
    back() {
      term.event({ event: 'back' })
      term.note('the robot answers again')
    },
  })
  await untilInterrupt((signal) => feed.run(signal))
  return 0
}

function show({ term }: App, report: StatusReport): void {
  const kind = report.simulated ? 'simulated' : 'real'
  term.line(`${term.paint('bold', report.name)}  ${report.id}`)
  term.line(`medulla ${report.version}, board ${report.board} (${kind}), up ${uptime(report.uptimeMs)}`)
  term.line(standing(report))
  if (report.endpoint !== undefined) term.line(`endpoint: ${endpointText(report.endpoint)}`)
  if (report.runtime?.minimal !== undefined) {
    const { why, hint } = report.runtime.minimal
    term.line(term.paint('red', `MINIMAL MODE: no program is started, because ${printable(why)}`))
    term.line(term.aimed(printable(hint)))
  }
  if (report.estop !== null) {
    term.line(term.paint('red', `EMERGENCY STOP since ${report.estop.since}, by ${report.estop.reason}`))
    term.line(term.aimed('release it with: medulla estop --release, then medulla start'))
  }
  if (report.pairing !== undefined) term.line(term.paint('yellow', pairingText(report.pairing)))
  const alarms = alarmTexts(report)
  for (const alarm of alarms) term.line(term.paint('red', alarm))
  if (alarms.length > 0)
    term.line(term.aimed('find out who can write to the disk of the robot, then push again: medulla push'))
  if (report.slots.length === 0) term.line('nothing runs')
  for (const slot of report.slots) showSlot(term, slot, report)
}

/** `user 2103705601, no capabilities, seccomp` */
function endpointText({ user, sandbox, seccomp }: EndpointReport): string {
  const who = user === null ? "the runtime's own user" : `user ${user}, no capabilities, ${sandbox}`
  return seccomp ? `${who}, seccomp` : who
}

function showSlot(term: App['term'], slot: SlotStatus, report: StatusReport): void {
  const program = slot.program === undefined ? '' : ` ${slot.program} ${slot.version ?? ''}`
  term.line()
  term.line(`${term.paint('bold', slot.slot)}: ${slot.state}${program}`)
  const facts = [
    slot.pid !== undefined && `pid ${slot.pid}`,
    slot.uptimeMs !== undefined && `up ${uptime(slot.uptimeMs)}`,
    slot.rateHz !== undefined && `${slot.rateHz.toFixed(1)} Hz`,
    slot.restarts > 0 && `${slot.restarts} restarts`,
    slot.checkMs !== undefined && `its files checked in ${formatMs(slot.checkMs)}`,
    slot.lastGapMs !== undefined && slot.lastGapMs !== null && `last gap ${formatMs(slot.lastGapMs)}`,
    slot.log.dropped > 0 && `${slot.log.dropped} log lines dropped`,
  ].filter((fact) => fact !== false)
  if (facts.length > 0) term.line(`  ${facts.join(', ')}`)
  if (slot.waits !== undefined) term.line(term.paint('yellow', `  waiting: ${printable(slot.waits)}`))
  const stopped = stoppedText(slot, report)
  if (stopped !== null) term.line(term.paint('yellow', `  ${term.aimed(stopped, slot.slot)}`))
  if (slot.lastError !== undefined) term.line(`  last error: ${printable(slot.lastError)}`)
  if (slot.hint !== undefined) term.line(term.aimed(`  hint: ${printable(slot.hint)}`, slot.slot))
  if (slot.previous !== undefined) term.line(`  before it: ${shortDigest(slot.previous)}`)
  if (slot.handles.length === 0) return
  const rows = slot.handles.map(({ name, kind, place, via, value }) => [
    `  ${name}`,
    kind,
    place,
    via,
    valueText(value),
  ])
  term.table(['  handle', 'kind', 'place', 'via', 'value'], rows)
  const lateness = latenessText(slot.handles)
  if (lateness !== null) term.line(`  ${lateness}`)
}
