/** The picture of the front page: pins of a robot while one program replaces another, the phases of the push, and the switch enlarged. */
import type { PhaseTime } from '../../deploy/shared/api.ts'
import { NEW, OLD } from './programs.ts'
import type { Recording, Write } from './record.ts'
import { box, element, line, path, picture, text } from './svg.ts'

const SIZE = { width: 800, height: 604 }
const COLOUR = { old: '#1f5fb4', new: '#c4500a', switch: '#1f2328', ink: '#1f2328', grey: '#59636e', rule: '#d1d9e0' }
const TINT = { old: '#edf4fc', new: '#fdf1e6' }
const STYLE = `text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:${COLOUR.ink}}
.small{font-size:12px;fill:${COLOUR.grey}}.bold{font-weight:600}.title{font-size:18px;font-weight:600}
.old{fill:${COLOUR.old}}.new{fill:${COLOUR.new}}.mid{text-anchor:middle}.end{text-anchor:end}
.curve{fill:none;stroke-width:2.2;stroke-linejoin:round}`

/** Milliseconds from the switch, and where they are. */
interface Axis {
  from: number
  to: number
  left: number
  right: number
}
const at = ({ from, to, left, right }: Axis, ms: number): number => left + ((ms - from) / (to - from)) * (right - left)

const MAIN: Axis = { from: -1100, to: 1200, left: 100, right: 780 }
const CLOSE: Axis = { from: -3, to: 3, left: 484, right: 780 }
const LED = { high: 116, low: 142 }
const SERVO = { high: 170, low: 264 }
const BAR = { top: 284, height: 16 }
const LOWER = 366
const ROW = 16.5

export function drawPush(recording: Recording): string {
  const { gapMs, realtime, pushes, medianMs } = recording
  const gap = `${gapMs.toFixed(2)} ms`
  const led = relative(recording.led, recording)
  const servo = relative(recording.servo, recording)
  const switchMs = recording.receipt.phases.find(({ phase }) => phase === 'transfer')?.startMs ?? 0
  const phases = [...recording.upload, ...recording.receipt.phases].map((each) => ({ ...each, startMs: each.startMs - switchMs })) // biome-ignore format: one record
  const desc =
    `Levels of a led and angles of a servo, as a simulated robot traced them, while program ${NEW.version} replaces ${OLD.version}. ` +
    `The led keeps its level and the servo goes on from its angle. For ${gap} no program could write. ` +
    `Recorded by npm run pictures${realtime ? ', under SCHED_FIFO' : ''} (median gap of ${pushes} pushes: ${medianMs.toFixed(2)} ms).`
  return picture(SIZE, { title: 'One program replaces another while the robot moves', desc, style: STYLE }, [
    box(0.5, 0.5, SIZE.width - 1, SIZE.height - 1, { rx: 8, fill: '#fff', stroke: COLOUR.rule }),
    text(20, 32, { class: 'title' }, 'One program replaces another while the robot moves'),
    ...lanes(led, servo, gap),
    ...pushBar(phases),
    ...phaseRows(phases),
    ...closeUp(led, servo, gapMs, gap),
  ])
}

/** Times from the revocation on. */
function relative(writes: readonly Write[], { revokedMs, receipt }: Recording): (Write & { isNew: boolean })[] {
  return writes.map(({ ms, value, fence }) => ({ ms: ms - revokedMs, value, fence, isNew: fence >= receipt.fence }))
}
type Point = ReturnType<typeof relative>[number]

function lanes(led: readonly Point[], servo: readonly Point[], gap: string): string[] {
  const { left, right } = MAIN
  const middle = at(MAIN, 0)
  const [top, bottom] = [80, BAR.top + BAR.height]
  return [
    box(left, top, middle - left, SERVO.low + 10 - top, { fill: TINT.old }),
    box(middle, top, right - middle, SERVO.low + 10 - top, { fill: TINT.new }),
    text(left + 8, top + 18, { class: 'old bold' }, `old program (${OLD.version}) runs the robot`),
    text(right - 8, top + 18, { class: 'new bold end' }, `new program (${NEW.version}) runs the robot`),
    text(20, (LED.high + LED.low) / 2 + 5, { class: 'bold' }, 'led'),
    text(left - 8, LED.high + 5, { class: 'small end' }, 'on'),
    text(left - 8, LED.low + 4, { class: 'small end' }, 'off'),
    text(20, (SERVO.high + SERVO.low) / 2 + 5, { class: 'bold' }, 'servo'),
    text(left - 8, SERVO.high + 5, { class: 'small end' }, '150°'),
    text(left - 8, SERVO.low + 4, { class: 'small end' }, '30°'),
    ...[false, true].flatMap((isNew) => {
      const curve = { class: 'curve', stroke: isNew ? COLOUR.new : COLOUR.old }
      return [path(ledSteps(led, isNew), curve), path(servoCurve(servo, isNew), curve)]
    }),
    line(middle, top - 8, middle, bottom, { stroke: COLOUR.switch, 'stroke-width': 2 }),
    text(middle, top - 14, { class: 'mid bold' }, `the switch: ${gap} in which no program could write`),
    text(20, BAR.top + 13, { class: 'bold' }, 'push'),
    line(left, bottom + 6, right, bottom + 6, { stroke: COLOUR.rule }),
    ...[-1000, -500, 0, 500, 1000].map((ms) =>
      text(
        at(MAIN, ms),
        bottom + 21,
        { class: 'small mid' },
        ms === 0 ? '0' : `${ms > 0 ? '+' : '−'}${Math.abs(ms) / 1000} s`,
      ),
    ),
  ]
}

/** The level goes on over the switch: the old line ends there, and the new one begins there. */
function ledSteps(led: readonly Point[], isNew: boolean): [number, number][] {
  const [from, to] = isNew ? [0, MAIN.to] : [MAIN.from, 0]
  const y = (value: number) => (value === 1 ? LED.high : LED.low)
  let level = led.findLast(({ ms }) => ms <= from)?.value ?? 0
  const points: [number, number][] = [[at(MAIN, from), y(level)]]
  for (const { ms, value } of led.filter((each) => each.ms > from && each.ms < to)) {
    points.push([at(MAIN, ms), y(level)], [at(MAIN, ms), y(value)])
    level = value
  }
  points.push([at(MAIN, to), y(level)])
  return points
}

function servoCurve(servo: readonly Point[], isNew: boolean): [number, number][] {
  const mine = servo.filter((each) => each.isNew === isNew && each.ms >= MAIN.from && each.ms <= MAIN.to)
  const every = 8
  const y = (degrees: number) => SERVO.low + ((degrees - 30) / 120) * (SERVO.high - SERVO.low)
  return mine
    .filter((_, i) => i % every === 0 || i === mine.length - 1)
    .map(({ ms, value }): [number, number] => [at(MAIN, ms), y(value)])
}

const colourOf = (phase: string): string =>
  phase === 'transfer' ? COLOUR.switch : ['takeover', 'trial', 'commit'].includes(phase) ? COLOUR.new : COLOUR.old

function pushBar(phases: readonly PhaseTime[]): string[] {
  const begins = at(MAIN, phases[0]?.startMs ?? 0)
  const last = phases.at(-1)
  const ends = at(MAIN, Math.min(MAIN.to, last === undefined ? 0 : last.startMs + last.ms))
  const middle = at(MAIN, 0)
  return [
    box(begins, BAR.top, middle - begins, BAR.height, { fill: COLOUR.old }),
    box(middle, BAR.top, ends - middle, BAR.height, { fill: COLOUR.new }),
    text(begins - 8, BAR.top + 13, { class: 'small end' }, 'the new program starts beside the old'),
    text(
      (middle + ends) / 2,
      BAR.top + 13,
      { class: 'mid', style: 'fill:#fff' },
      'trial: if it fails, the old one goes on',
    ),
  ]
}

function phaseRows(phases: readonly PhaseTime[]): string[] {
  const begins = phases[0]?.startMs ?? 0
  const axis: Axis = { from: begins, to: Math.abs(begins) * 0.12, left: 92, right: 380 }
  const rows = phases.flatMap(({ phase, startMs, ms }, i) => {
    const y = LOWER + 14 + i * ROW
    const figure = `${ms >= 100 ? ms.toFixed(0) : ms.toFixed(ms < 1 ? 2 : 1)} ms`
    return [
      text(20, y + 10, { class: phase === 'transfer' ? 'bold' : '' }, phase),
      ...(startMs < axis.to ? phaseBar(axis, { phase, startMs, ms }, y) : []),
      ...(startMs < axis.to ? [] : [text(axis.right, y + 10, { class: 'small end' }, 'after the trial')]),
      text(450, y + 10, { class: 'small end' }, figure),
    ]
  })
  const x = at(axis, 0)
  const height = (phases.length - 1) * ROW + 1
  return [
    text(20, LOWER, { class: 'bold' }, 'The push, phase by phase'),
    line(x, LOWER + 11, x, LOWER + 11 + height, { stroke: COLOUR.switch, 'stroke-dasharray': '2 3' }),
    text(x - 8, LOWER + 26, { class: 'old end' }, 'the old program runs on'),
    ...rows,
  ]
}

/** With an arrow where it goes on beyond the axis. */
function phaseBar(axis: Axis, { phase, startMs, ms }: PhaseTime, y: number): string[] {
  const [from, to] = [at(axis, startMs), at(axis, Math.min(startMs + ms, axis.to))]
  const fill = colourOf(phase)
  const arrow = element('path', { d: `M${axis.right + 2} ${y}l6 5.5l-6 5.5z`, fill })
  return [box(from, y, Math.max(2, to - from), 11, { fill, rx: 1 }), ...(startMs + ms > axis.to ? [arrow] : [])]
}

function closeUp(led: readonly Point[], servo: readonly Point[], gapMs: number, gap: string): string[] {
  const { left, right } = CLOSE
  const [top, bottom] = [LOWER + 12, LOWER + 194]
  const [start, end] = [at(CLOSE, 0), at(CLOSE, gapMs)]
  const shown = servo.filter(({ ms }) => ms > CLOSE.from && ms < CLOSE.to)
  const values = shown.map(({ value }) => value)
  const [lowest, highest] = [Math.min(...values), Math.max(...values)]
  const y = (value: number) => bottom - 22 - ((value - lowest) / (highest - lowest || 1)) * 82
  const level = led.findLast(({ ms }) => ms <= 0)?.value === 1
  const ledY = top + 40
  const thick = { 'stroke-width': 2.2 }
  return [
    path(
      [[at(MAIN, 0), BAR.top + BAR.height + 26], [left, top], [right, top]],
      { fill: '#f3f5f7', stroke: 'none' },
    ), // biome-ignore format: a triangle
    text(left, LOWER, { class: 'bold' }, 'The switch, enlarged: 6 ms'),
    box(left, top, start - left, bottom - top, { fill: TINT.old }),
    box(end, top, right - end, bottom - top, { fill: TINT.new }),
    box(start, top, end - start, bottom - top, { fill: COLOUR.switch, opacity: 0.8 }),
    line(left, ledY, start, ledY, { stroke: COLOUR.old, ...thick }),
    line(start, ledY, end, ledY, { stroke: '#fff', ...thick }),
    line(end, ledY, right, ledY, { stroke: COLOUR.new, ...thick }),
    text(left + 6, ledY - 8, { class: 'small' }, `led stays ${level ? 'on' : 'off'}`),
    text(left + 6, ledY + 24, { class: 'small' }, 'servo: each write'),
    ...shown.map(({ ms, value, isNew }) =>
      element('circle', { cx: at(CLOSE, ms), cy: y(value), r: 4, fill: isNew ? COLOUR.new : COLOUR.old }),
    ),
    text((start + end) / 2, bottom + 18, { class: 'mid bold' }, `${gap} without writes`),
    text(left, bottom + 18, { class: 'small' }, '−3 ms'),
    text(right, bottom + 18, { class: 'small end' }, '+3 ms'),
  ]
}
