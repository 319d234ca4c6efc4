import { expect, test } from 'vitest'
import { headerLines } from '../../../../deploy/laptop/cli/headerview.ts'
import { cells, crop, tableLines } from '../../../../deploy/laptop/cli/layout.ts'
import { PinWatch, pinStrip } from '../../../../deploy/laptop/cli/pinwatch.ts'
import { Painter } from '../../../../deploy/laptop/cli/screen.ts'
import {
  alarmTexts,
  latenessText,
  type StatusScene,
  standing,
  statusScreen,
} from '../../../../deploy/laptop/cli/statusview.ts'
import type { Paint } from '../../../../deploy/laptop/cli/term.ts'
import type { PinChange, Receipt, SlotStatus, StatusReport } from '../../../../deploy/shared/api.ts'
import type { BoardReport, HeaderPin } from '../../../../deploy/shared/board.ts'

const plain: Paint = (_, text) => text
const marked: Paint = (style, text) => `\x1b[${style === 'red' ? 31 : 1}m${text}\x1b[0m`

test('colours do not count in the width of a text', () => {
  expect(cells('\x1b[31mred\x1b[0m ●')).toBe(5)
  expect(crop('short', 5)).toBe('short')
  expect(crop('too long', 5)).toBe('too …')
  expect(crop('a\x1b[31mbcdef\x1b[0mg', 4)).toBe('a\x1b[31mbc…\x1b[0m')
  expect(crop('anything', 0)).toBe('')
  expect(tableLines(['a', 'b'], [[marked('red', 'xx'), 'y']])).toEqual(['a   b', '\x1b[31mxx\x1b[0m  y'])
})

test('a frame redraws only what differs, in one write; another size redraws everything', () => {
  const written: string[] = []
  const painter = new Painter((text) => written.push(text))
  const size = { columns: 6, rows: 3 }
  const frame = (text: string) => `\x1b[?2026h${text}\x1b[?2026l`
  painter.show(['one', 'two', 'three and more', 'beyond'], size)
  expect(written.pop()).toBe(frame('\x1b[2J\x1b[1;1Hone\x1b[K\x1b[2;1Htwo\x1b[K\x1b[3;1Hthree…'))
  painter.show(['one', 'TWO', 'three and more'], size)
  expect(written.pop()).toBe(frame('\x1b[2;1HTWO\x1b[K'))
  painter.show(['one', 'TWO', 'three and more'], size)
  expect(written).toEqual([])
  painter.show(['one'], size)
  expect(written.pop()).toBe(frame('\x1b[2;1H\x1b[K\x1b[3;1H\x1b[K'))
  painter.show(['one'], { columns: 3, rows: 3 })
  expect(written.pop()).toBe(frame('\x1b[2J\x1b[1;1Hone'))
})

test('a strip is grey where a pin changed more than once in a cell, and shows other values as heights', () => {
  const changes = [
    { at: 0, value: 0 },
    { at: 110, value: 1 },
    { at: 120, value: 0 },
    { at: 160, value: 1 },
  ]
  expect(pinStrip(changes, { from: 0, to: 250 }, 50)).toBe('▁▁▒▔▔')
  expect(pinStrip(changes, { from: 0, to: 250 }, 50, { low: 0, high: 2 })).toBe('▁▁▁▅▅')
  expect(pinStrip(changes, { from: 0, to: 100 }, 50, { low: 0, high: 0 })).toBe('▁▁')
})

test('the history that watch keeps of a fast pin is bounded', async () => {
  const source = async function* (): AsyncGenerator<PinChange> {
    for (let ms = 0; ms < 20_000; ms++) {
      yield { name: 'led', kind: 'output', value: ms % 2, ns: String(ms * 1_000_000), fence: 0 }
    }
  }
  const watch = new PinWatch(source(), 1000)
  await watch.ended
  const kept = watch.changes('led')
  expect(kept.length).toBeLessThan(2100)
  expect(kept[0]?.at).toBeLessThan(19_000)
  expect(kept.at(-1)?.at).toBe(19_999)
})

const PINS: HeaderPin[] = Array.from({ length: 40 }, (_, index) => ({ pin: index + 1, label: 'GND', functions: [] }))
const pin = (number: number, label: string, ...functions: string[]) => {
  PINS[number - 1] = { pin: number, label, functions }
}
pin(1, '3V3')
pin(2, '5V')
pin(3, 'GPIO2', 'I2C1 SDA')
pin(5, 'GPIO3', 'I2C1 SCL')
pin(11, 'GPIO17', 'SPI1 CE1')
pin(12, 'GPIO18', 'PWM0', 'SPI1 CE0', 'PCM CLK')
pin(13, 'GPIO27')
const BOARD: BoardReport = {
  name: 'a board',
  model: 'pi4',
  header: PINS,
  handles: [
    { name: 'led', kind: 'output', place: 'GPIO17', pins: [11], safe: 0, via: 'inherit' },
    {
      name: 'a-name-as-long-as-a-name-can-be-on-a-board',
      kind: 'pwm',
      place: 'GPIO18',
      pins: [12],
      safe: 'hold',
      via: 'inherit',
    },
    { name: 'imu', kind: 'i2c', place: 'i2c-1@0x68', pins: [3, 5], via: 'inherit' },
    { name: 'baro', kind: 'i2c', place: 'i2c-1@0x76', pins: [3, 5], via: 'inherit' },
    { name: 'far', kind: 'output', place: 'GPIO45', pins: [], safe: 1, via: 'inherit' },
  ],
}
const VALUES: Record<string, number> = { led: 1, 'a-name-as-long-as-a-name-can-be-on-a-board': 0.123456, far: 1 }
const picture = (width: number, paint = plain) =>
  headerLines({ board: BOARD, values: (name) => VALUES[name] }, width, paint)

test('at 80 columns the header has handles and values beside their pins, and other handles below', () => {
  const lines = picture(80)
  expect(lines.slice(0, 7)).toEqual([
    '                               3V3  1 + + 2  5V',
    '      imu, baro   I2C1 SDA   GPIO2  3 ● - 4  GND',
    '      imu, baro   I2C1 SCL   GPIO3  5 ● - 6  GND',
    '                               GND  7 - - 8  GND',
    '                               GND  9 - - 10 GND',
    '          led 1   SPI1 CE1  GPIO17 11 ● ● 12 GPIO18  PWM0       a-name-… 0.1235',
    '                            GPIO27 13 ○ - 14 GND',
  ])
  expect(lines.slice(20)).toEqual([
    '',
    'handle  kind    place       pins  safe  value',
    'imu     i2c     i2c-1@0x68  3, 5',
    'baro    i2c     i2c-1@0x76  3, 5',
    'far     output  GPIO45      none  1     1',
  ])
})

test('with too few rows, the handles that are not on the header share one row', () => {
  const lines = headerLines({ board: BOARD, values: (name) => VALUES[name] }, 60, plain, 23)
  expect(lines.slice(20)).toEqual(['also: imu i2c-1@0x68, baro i2c-1@0x76, far GPIO45'])
})

test.each([20, 40, 60, 80, 120, 200, 300])('the header fits %i columns, painted or not', (width) => {
  const lines = picture(width)
  for (const line of lines.slice(0, 20)) expect(cells(line)).toBeLessThanOrEqual(Math.max(width, 27))
  const unpainted = (line: string) =>
    ['\x1b[1m', '\x1b[31m', '\x1b[0m'].reduce((text, paint) => text.replaceAll(paint, ''), line).trimEnd()
  expect(picture(width, marked).map(unpainted)).toEqual(lines)
  const dots = lines.slice(0, 20).map((line) => line.search(/[-+○●] [-+○●]/))
  expect(new Set(dots).size).toBe(1)
  if (width < 200) return
  expect(lines[5]).toMatch(
    /output, safe 0 +led 1 +SPI1 CE1 {2}GPIO17 11 ● ● 12 GPIO18 {2}PWM0 SPI1 CE0 PCM CLK +a-name.* 0\.1235 {2}pwm, safe hold$/,
  )
})

test('a board with an unknown header is shown as a table', () => {
  const board = { ...BOARD, header: [], handles: [{ ...BOARD.handles[0], pins: [] } as BoardReport['handles'][0]] }
  expect(headerLines({ board, values: () => 0 }, 80, plain)).toEqual([
    '',
    'handle  kind    place   pins       safe  value',
    'led     output  GPIO17  not known  0     0',
  ])
})

const SLOT: SlotStatus = {
  slot: 'main',
  state: 'running',
  program: 'blink',
  version: '2.0.0',
  fence: 3,
  uptimeMs: 61_000,
  rateHz: 20.04,
  restarts: 0,
  lastGapMs: 0.106,
  handles: [{ name: 'led', kind: 'output', place: 'GPIO17', via: 'inherit', value: 1 }],
  log: { lines: 1, dropped: 0 },
}
const REPORT: StatusReport = {
  name: 'arm',
  id: 'SHA256:abc',
  version: '0.1.0',
  board: 'a board',
  simulated: false,
  fence: 'cgroup',
  limits: 'cgroup',
  confined: true,
  clockSynced: true,
  endpoint: { user: 2_103_705_601, sandbox: 'namespaces', seccomp: true },
  estop: null,
  uptimeMs: 3_700_000,
  head: { seq: 2, digest: '' },
  slots: [SLOT, { ...SLOT, slot: 'leg', state: 'stopped', handles: [], lastError: 'crashed: \x1b[2Jboom' }],
}
const receipt = (seq: number, outcome: Receipt['outcome'], more: Partial<Receipt> = {}): Receipt => ({
  format: 'medulla-receipt/1',
  seq,
  prev: '',
  robot: '',
  time: 'not a time',
  slot: 'main',
  outcome,
  program: 'blink',
  version: `${seq}.0.0`,
  from: null,
  to: null,
  phases: [],
  wallMs: 1,
  gapMs: null,
  stateBytes: 0,
  edges: 0,
  confined: true,
  fence: 1,
  ...more,
})
const SCENE: StatusScene = {
  report: REPORT,
  board: BOARD,
  receipts: [
    receipt(1, 'committed', { gapMs: 0.1 }),
    receipt(2, 'rolled-back', { code: 'unhealthy', reason: 'lost count' }),
  ],
  pins: {
    changes: (name) =>
      name === 'led'
        ? [
            { at: 0, value: 0 },
            { at: 1500, value: 1 },
          ]
        : [],
    value: (name) => VALUES[name],
    window: (ms) => ({ from: 2000 - ms, to: 2000 }),
  },
  lost: null,
  now: 0,
}

test('a screen of 80 by 24 has slots, pins with their last seconds, and the last swaps, newest first', () => {
  const lines = statusScreen(SCENE, { columns: 100, rows: 24 }, plain)
  expect(lines).toHaveLength(24)
  expect(lines[0]).toBe('arm  medulla 0.1.0, board a board (real), up 1 h 1 min')
  expect(lines[1]).toBe('fenced by cgroup, programs confined, memory limited, 2 receipts, SHA256:abc')
  expect(lines.slice(3, 7)).toEqual([
    'slot  program  version  state    up     Hz    restarts  last gap',
    'main  blink    2.0.0    running  1 min  20.0  0         0.106 ms',
    'leg   blink    2.0.0    stopped  1 min  20.0  0         0.106 ms',
    '  last error: crashed: \u{fffd}[2Jboom',
  ])
  expect(lines[9]).toMatch(/^led {15}output +GPIO17 +main +1 +▁+▔{6}$/)
  expect(lines.slice(15, 18)).toEqual([
    'time        slot  outcome      program      gap       why',
    'not a time  main  rolled-back  blink 2.0.0            unhealthy: lost count',
    'not a time  main  committed    blink 1.0.0  0.100 ms',
  ])
  expect(lines.at(-1)).toBe('q quits')
})

test.each([
  [20, 5],
  [40, 10],
  [80, 24],
  [200, 50],
])('a screen of %i by %i has that size for any content', (columns, rows) => {
  const many = Array.from(
    { length: 60 },
    (_, at) => ({ ...BOARD.handles[0], name: `led-${at}` }) as BoardReport['handles'][0],
  )
  const receipts = Array.from({ length: 32 }, (_, at) => receipt(at, 'committed'))
  for (const handles of [[], BOARD.handles, many]) {
    const scene = { ...SCENE, board: { ...BOARD, handles }, receipts }
    expect(statusScreen(scene, { columns, rows }, plain)).toHaveLength(rows)
  }
  expect(
    statusScreen({ ...SCENE, board: { ...BOARD, handles: many } }, { columns, rows: 24 }, plain).join('\n'),
  ).toMatch(/… \d+ more/)
})

test('a slot that was stopped shows how to start it, but not while an emergency stop is latched', () => {
  const slots = [{ ...SLOT, state: 'idle', stopped: true } as const]
  const screen = (estop: StatusReport['estop']) =>
    statusScreen({ ...SCENE, report: { ...REPORT, slots, estop } }, { columns: 100, rows: 24 }, plain).join('\n')
  expect(screen(null)).toContain('\n  stopped: medulla start starts its program\n')
  expect(screen({ since: 'then', reason: 'the input stop' })).not.toContain('stopped:')
})

test('an emergency stop and a lost robot are shown in red, and strips end there', () => {
  const report = { ...REPORT, estop: { since: 'then', reason: 'the input stop' } }
  const scene = { ...SCENE, report, lost: { since: 0, message: 'gone\x1b[2J' }, now: 4000 }
  const lines = statusScreen(scene, { columns: 80, rows: 24 }, marked)
  expect(lines[2]).toBe('\x1b[31mEMERGENCY STOP since then, by the input stop\x1b[0m')
  expect(lines[3]).toBe('\x1b[31mno answer for 4 s, this is the last report: gone\u{fffd}[2J\x1b[0m')
  expect(lines.join('')).not.toContain('▔')
})

test('HANDOVER 9.13: Y10: what was changed on the disk of the robot is an alarm, with short hashes', () => {
  expect(alarmTexts(REPORT)).toEqual([])
  const [slot] = REPORT.slots
  if (slot === undefined) throw new Error('no slot')
  const changed = `bad-hash: release of sha256:${'0a'.repeat(32)} was changed on disk`
  const undone = { version: '9.4.0', digest: 'sha256:…', reason: 'it was changed on disk', time: 'T1' }
  const runtime = { version: '1', digest: null, confirmed: true, base: '1', previous: null, failed: [undone] }
  const report = { ...REPORT, slots: [{ ...slot, alarm: changed }], alarms: ['slot.json was changed on disk'] }
  expect(alarmTexts({ ...report, runtime: { ...runtime, since: 'T1' } })).toEqual([
    'ALARM: slot.json was changed on disk',
    'ALARM: runtime 9.4.0: it was changed on disk',
    `ALARM: slot ${slot.slot}: bad-hash: release of sha256:0a0a0a0a0a0a… was changed on disk`,
  ])
  // another runtime was pushed since
  expect(alarmTexts({ ...report, runtime: { ...runtime, since: 'T2' } })).toHaveLength(2)
})

test('status shows that the clock of the robot is not synchronised', () => {
  expect(standing(REPORT)).not.toContain('clock')
  expect(standing({ ...REPORT, clockSynced: false })).toMatch(/receipts, clock: not synchronised$/)
})

test('HANDLES 19.7: status shows how late the edges of software PWM were', () => {
  const fan = { name: 'fan', kind: 'pwm', place: 'GPIO5', via: 'broker', value: 0.3 }
  const lateness = { edges: 2000, p50Us: 90, p99Us: 200, maxUs: 3000, missed: 0 }
  expect(latenessText([fan])).toBeNull()
  expect(latenessText([fan, { ...fan, lateness: { ...lateness, edges: 0 } }])).toBeNull()
  expect(latenessText([fan, { ...fan, lateness }])).toBe(
    'software PWM: 2000 edges, late by 90 us p50, 200 p99, 3000 max',
  )
  expect(latenessText([{ ...fan, lateness: { ...lateness, missed: 3 } }])).toMatch(/; 3 pulses left out$/)
})
