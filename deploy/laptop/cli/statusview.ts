/** Draws the screen of `status --watch` as text lines. A pure function of the robot's reports, the size and the time. */
import type { Receipt, SlotStatus, StatusReport } from '../../shared/api.ts'
import type { BoardReport } from '../../shared/board.ts'
import { crop, tableLines } from './layout.ts'
import { printable, reasonOf } from './loglines.ts'
import { type PinWatch, pinStrip, type Scale } from './pinwatch.ts'
import type { Size } from './screen.ts'
import { formatMs, type Paint } from './term.ts'

/** Time of one cell of a strip: at ten frames a second, the strip moves by one cell each frame. */
const CELL_MS = 100
const LEAST_STRIP = 10
const LEAST_RECEIPTS = 3
/** On a narrower terminal, long names are cut to leave room for the strip. */
const WIDE = 120
const SHORT_NAME = 16
const LEVELS: readonly string[] = ['output', 'input']

export interface StatusScene {
  report: StatusReport
  board: BoardReport
  /** newest last */
  receipts: readonly Receipt[]
  pins: Pick<PinWatch, 'changes' | 'value' | 'window'>
  lost: { since: number; message: string } | null
  /** Date.now() */
  now: number
}

export function statusScreen(scene: StatusScene, { columns, rows }: Size, paint: Paint): string[] {
  const top = [...headLines(scene, paint), '', ...slotLines(scene.report, paint)]
  const foot = paint('dim', 'q quits')
  const room = Math.max(0, rows - top.length - 1)
  const receipts = receiptLines(scene.receipts, paint)
  const pins = pinLines(scene, columns, paint)
  // both blocks include an empty line and a head; pins get the lines that receipts do not need, and the other way round
  const forReceipts = Math.min(receipts.length, Math.max(LEAST_RECEIPTS + 2, room - pins.length))
  const forPins = Math.max(0, room - forReceipts)
  const shownPins = capped(pins, forPins, paint)
  const lines = [...top, ...shownPins, ...receipts.slice(0, Math.max(0, room - shownPins.length))]
  while (lines.length < rows - 1) lines.push('')
  return [...lines.slice(0, rows - 1), foot]
}

function headLines({ report, lost, now }: StatusScene, paint: Paint): string[] {
  const kind = report.simulated ? 'simulated' : 'real'
  const lines = [
    `${paint('bold', report.name)}  medulla ${report.version}, board ${report.board} (${kind}), up ${uptime(report.uptimeMs)}`,
    `${standing(report)}, ${report.id}`,
  ]
  if (report.estop !== null) {
    lines.push(paint('red', `EMERGENCY STOP since ${clock(report.estop.since)}, by ${report.estop.reason}`))
  }
  if (report.pairing !== undefined) lines.push(paint('yellow', pairingText(report.pairing)))
  for (const alarm of alarmTexts(report)) lines.push(paint('red', alarm))
  if (lost !== null) {
    const seconds = Math.max(0, Math.round((now - lost.since) / 1000))
    lines.push(paint('red', `no answer for ${seconds} s, this is the last report: ${printable(lost.message)}`))
  }
  return lines
}

/** `pairing window open until …` */
export function pairingText({ until, tries }: NonNullable<StatusReport['pairing']>): string {
  return `pairing window open until ${printable(until)}, for ${tries} tries: whoever types its code becomes an operator`
}

/**
 * What the robot found changed on its disk, and did not start: records, the runtime that was pushed last, releases of slots
 * (HANDOVER 9.13).
 */
export function alarmTexts({ alarms = [], runtime, slots }: StatusReport): string[] {
  const [undone] = runtime?.failed ?? []
  return [
    ...alarms,
    // It was undone when the present one was chosen: since then, no other runtime was pushed.
    ...(undone !== undefined && undone.time === runtime?.since ? [`runtime ${undone.version}: ${undone.reason}`] : []),
    ...slots.flatMap(({ slot, alarm }) => (alarm === undefined ? [] : [`slot ${slot}: ${alarm}`])),
  ].map(alarmText)
}

/** With the first digits of each hash: the receipt of the start has all of them. */
export function alarmText(text: string): string {
  return `ALARM: ${printable(text.replace(/\b([0-9a-f]{12})[0-9a-f]{52}\b/g, '$1…'))}`
}

/** How programs are fenced, limited and confined, in one line. */
export function standing(report: StatusReport): string {
  const fence = report.fence === 'weak' ? 'weak fence' : 'fenced by cgroup'
  const limits = report.limits === 'weak' ? 'memory limited by process' : 'memory limited'
  const held = report.confined ? `confined, ${limits}` : 'not confined'
  const clock = report.clockSynced ? '' : ', clock: not synchronised'
  return `${fence}, programs ${held}, ${report.head.seq} receipts${clock}`
}

/** Null without software PWM. One thread makes the edges of all handles, so every handle reports the same figures. */
export function latenessText(handles: SlotStatus['handles']): string | null {
  const lateness = handles.find(({ lateness }) => lateness !== undefined)?.lateness
  if (lateness === undefined || lateness.edges === 0) return null
  const { edges, p50Us, p99Us, maxUs, missed } = lateness
  const left = missed === 0 ? '' : `; ${missed} pulses left out`
  return `software PWM: ${edges} edges, late by ${p50Us} us p50, ${p99Us} p99, ${maxUs} max${left}`
}

/** Null also while an emergency stop is latched: nothing starts then, and the head of the report says what to type. */
export function stoppedText({ stopped }: SlotStatus, { estop }: Pick<StatusReport, 'estop'>): string | null {
  return stopped === true && estop === null ? 'stopped: medulla start starts its program' : null
}

function slotLines(report: StatusReport, paint: Paint): string[] {
  const { slots } = report
  if (slots.length === 0) return ['nothing runs']
  const rows = slots.map((slot) => [
    slot.slot,
    slot.program ?? '',
    slot.version ?? '',
    stateOf(slot, paint),
    slot.uptimeMs === undefined ? '' : uptime(slot.uptimeMs),
    slot.rateHz === undefined ? '' : slot.rateHz.toFixed(1),
    String(slot.restarts),
    slot.lastGapMs === undefined || slot.lastGapMs === null ? '' : formatMs(slot.lastGapMs),
  ])
  const [head = '', ...lines] = tableLines(
    ['slot', 'program', 'version', 'state', 'up', 'Hz', 'restarts', 'last gap'],
    rows,
  )
  return [
    paint('dim', head),
    ...lines.flatMap((line, index) => {
      const slot = slots[index] as SlotStatus
      const { waits, lastError, hint } = slot
      const stopped = stoppedText(slot, report)
      const said = [
        stopped && paint('yellow', `  ${stopped}`),
        waits && paint('yellow', `  waiting: ${printable(waits)}`),
        lastError && paint('yellow', `  last error: ${printable(lastError)}`),
        hint && paint('dim', `  hint: ${printable(hint)}`),
      ]
      return [line, ...said.filter((each) => each != null)]
    }),
  ]
}

function stateOf({ state }: SlotStatus, paint: Paint): string {
  if (state === 'running') return paint('green', state)
  return paint(state === 'stopped' || state === 'idle' ? 'dim' : 'yellow', state)
}

function pinLines({ report, board, pins, lost }: StatusScene, columns: number, paint: Paint): string[] {
  if (board.handles.length === 0) return []
  const slotOf = new Map(report.slots.flatMap(({ slot, handles }) => handles.map(({ name }) => [name, slot] as const)))
  const longest = columns < WIDE ? SHORT_NAME : columns
  const facts = board.handles.map(({ name, kind, place }) => [
    crop(name, longest),
    kind,
    place,
    slotOf.get(name) ?? '',
    valueText(pins.value(name)),
  ])
  const head = ['handle', 'kind', 'place', 'slot', 'value']
  const [first = '', ...lines] = tableLines(
    [...head, ''],
    facts.map((row) => [...row, '|']),
  )
  // the column at which the strip begins in every line
  const at = (lines[0] ?? '').lastIndexOf('|')
  const room = columns - at
  if (room < LEAST_STRIP) return ['', paint('dim', first), ...lines.map((line) => line.slice(0, -1).trimEnd())]
  const { to } = pins.window(0)
  // aligned to whole cells, so that a moving strip does not flicker
  const end = Math.floor(to / CELL_MS) * CELL_MS
  const window = { from: end - room * CELL_MS, to: end }
  const strips = board.handles.map(({ name, kind }) =>
    lost === null ? pinStrip(pins.changes(name), window, CELL_MS, scaleOf(kind, pins.changes(name))) : '',
  )
  const title = `last ${Math.round((room * CELL_MS) / 1000)} s`
  return [
    '',
    paint('dim', `${first.padEnd(at)}${title}`),
    ...lines.map((line, index) => `${line.slice(0, at)}${paint('cyan', strips[index] ?? '')}`),
  ]
}

/** A duty cycle is drawn on the range 0 to 1, other values on the range of their recent values. */
function scaleOf(kind: string, changes: readonly { value: number }[]): Scale | null {
  if (LEVELS.includes(kind)) return null
  if (kind === 'pwm') return { low: 0, high: 1 }
  const values = changes.map(({ value }) => value)
  return { low: Math.min(...values), high: Math.max(...values) }
}

export function valueText(value: number | undefined): string {
  if (value === undefined) return ''
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)))
}

function receiptLines(receipts: readonly Receipt[], paint: Paint): string[] {
  if (receipts.length === 0) return []
  const newest = receipts.toReversed()
  const rows = newest.map((receipt) => [
    clock(receipt.time),
    receipt.slot,
    outcomeOf(receipt, paint),
    [receipt.program, receipt.version].filter(Boolean).join(' '),
    receipt.gapMs === null ? '' : formatMs(receipt.gapMs),
    reasonOf(receipt),
  ])
  const [head = '', ...lines] = tableLines(['time', 'slot', 'outcome', 'program', 'gap', 'why'], rows)
  return ['', paint('dim', head), ...lines]
}

const BAD: readonly string[] = ['rolled-back', 'called-off', 'refused', 'crashed', 'waiting']

function outcomeOf({ outcome }: Receipt, paint: Paint): string {
  if (outcome === 'committed') return paint('green', outcome)
  if (outcome === 'estopped') return paint('red', outcome)
  return BAD.includes(outcome) ? paint('yellow', outcome) : outcome
}

/** The time of day in the laptop's time zone. */
function clock(time: string): string {
  const date = new Date(time)
  if (Number.isNaN(date.getTime())) return time
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, '0')).join(':')
}

/** The first `room` lines; if there are more, the last line says how many are missing. */
export function capped(lines: readonly string[], room: number, paint: Paint): string[] {
  if (lines.length <= room) return [...lines]
  // too few lines for more than a head
  if (room < 4) return []
  return [...lines.slice(0, room - 1), paint('dim', `… ${lines.length - room + 1} more`)]
}

export function uptime(ms: number): string {
  const seconds = Math.floor(ms / 1000)
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`
  return `${Math.floor(seconds / 86_400)} days`
}
