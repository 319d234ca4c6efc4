import type { Command } from 'commander'
import type { SlotStatus, StatusReport } from '../../api.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { withRobot } from '../robot.ts'
import { formatMs } from '../term.ts'

export function define(command: Command, app: App, run: Runner): void {
  command
    .description('What the robot runs, in each slot, and which handles it has.')
    .addHelpText('after', example('medulla status', 'medulla status -d arm --json'))
    .action((_: unknown, own: Command) => run(() => status(app, own.optsWithGlobals<Globals>())))
}

async function status(app: App, globals: Globals): Promise<number> {
  const report = await withRobot(app, globals, (client) => client.status())
  app.term.event({ event: 'status', ...report })
  show(app, report)
  return 0
}

function show({ term }: App, report: StatusReport): void {
  const kind = report.simulated ? 'simulated' : 'real'
  term.line(`${term.paint('bold', report.name)}  ${report.id}`)
  term.line(`medulla ${report.version}, board ${report.board} (${kind}), up ${uptime(report.uptimeMs)}`)
  const fence = report.fence === 'weak' ? 'weak fence' : 'fenced by cgroup'
  const limits = report.limits === 'weak' ? 'memory limited by process' : 'memory limited'
  const held = report.confined ? `confined, ${limits}` : 'not confined'
  term.line(`${fence}, programs ${held}, ${report.head.seq} receipts`)
  if (report.estop !== null) {
    term.line(term.paint('red', `EMERGENCY STOP since ${report.estop.since}, by ${report.estop.reason}`))
  }
  if (report.slots.length === 0) term.line('nothing runs')
  for (const slot of report.slots) showSlot(term, slot)
}

function showSlot(term: App['term'], slot: SlotStatus): void {
  const program = slot.program === undefined ? '' : ` ${slot.program} ${slot.version ?? ''}`
  term.line()
  term.line(`${term.paint('bold', slot.slot)}: ${slot.state}${program}`)
  const facts = [
    slot.pid !== undefined && `pid ${slot.pid}`,
    slot.uptimeMs !== undefined && `up ${uptime(slot.uptimeMs)}`,
    slot.rateHz !== undefined && `${slot.rateHz.toFixed(1)} Hz`,
    slot.restarts > 0 && `${slot.restarts} restarts`,
    slot.lastGapMs !== undefined && slot.lastGapMs !== null && `last gap ${formatMs(slot.lastGapMs)}`,
    slot.log.dropped > 0 && `${slot.log.dropped} log lines dropped`,
  ].filter((fact) => fact !== false)
  if (facts.length > 0) term.line(`  ${facts.join(', ')}`)
  if (slot.lastError !== undefined) term.line(`  last error: ${slot.lastError}`)
  if (slot.previous !== undefined) term.line(`  before it: ${slot.previous}`)
  if (slot.handles.length === 0) return
  const rows = slot.handles.map(({ name, kind, via, value }) => [
    `  ${name}`,
    kind,
    via,
    value === undefined ? '' : String(value),
  ])
  term.table(['  handle', 'kind', 'via', 'value'], rows)
}

export function uptime(ms: number): string {
  const seconds = Math.floor(ms / 1000)
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`
  return `${Math.floor(seconds / 86_400)} days`
}
