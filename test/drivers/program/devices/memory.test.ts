/** Devices with memory: a display and an EEPROM. */
import { afterAll, expect, test } from 'vitest'
import { Display, Eeprom } from '../../../../drivers/index.ts'
import type { I2cDevice } from '../../../../drivers/program/handle.ts'
import { simulatedChips } from '../../chips.ts'
import { counted } from '../../counted.ts'
import { temporary } from '../../host.ts'

const folder = temporary()
afterAll(() => folder.remove())

function chip<Now>(model: string, address: number) {
  const { world, devices } = simulatedChips(folder.path, { [address]: model })
  const device = counted(devices[0] as I2cDevice)
  const name = `chip${address}`
  return {
    device,
    poke: (what: string, value: unknown) => world.poke(name, what, value),
    now: () => world.chip(name) as Now,
  }
}

interface Shown {
  on: boolean
  rows: string[]
  initWrites: number
  dataWrites: number
}
const screen = () => chip<Shown>('ssd1306', 0x3c)
const memory = () => chip<{ cycles: number; busy: boolean; used: number; pointer: number }>('24c32', 0x57)

const lit = ({ rows }: Shown) => rows.join('').split('#').length - 1
/** The picture in a part of the screen. */
const part = ({ rows }: Shown, x: number, y: number, width: number, height: number) =>
  rows.slice(y, y + height).map((row) => row.slice(x, x + width))

test('SSD1306: pixels are lit only while display and charge pump are on', () => {
  const { device, now } = screen()
  expect(device.read(1)).toEqual(Uint8Array.of(0x40))
  device.write(Uint8Array.of(0x40, 0xff))
  device.write(Uint8Array.of(0x00, 0xaf))
  expect([lit(now()), device.read(1)[0]]).toEqual([0, 0])
  // a command and its argument may come in different transfers
  device.write(Uint8Array.of(0x00, 0x8d))
  device.write(Uint8Array.of(0x80, 0x14))
  expect(lit(now())).toBe(8)
  device.write(Uint8Array.of(0x00, 0xa7))
  expect(lit(now())).toBe(128 * 64 - 8)
  device.write(Uint8Array.of(0x00, 0xa6, 0xa5))
  expect(lit(now())).toBe(128 * 64)
  device.write(Uint8Array.of(0x00, 0xa4, 0xae))
  expect(lit(now())).toBe(0)
})

const ON = [0x8d, 0x14, 0xa1, 0xc8, 0xaf]

test.each([
  // page mode wraps within the page, horizontal mode continues on the next page, vertical mode below
  ['page', [0x20, 0x02, 0xb3, 0x0e, 0x17], [0x77, 0x7e, 0x7f, 0x00].map((column) => [3, column]).slice(1)],
  ['horizontal', [0x20, 0x00, 0x21, 0x7e, 0x7f, 0x22, 0x03, 0x04], [126, 127, 126].map((x, at) => [at < 2 ? 3 : 4, x])],
  [
    'vertical',
    [0x20, 0x01, 0x21, 0x7e, 0x7f, 0x22, 0x03, 0x04],
    [3, 4, 3].map((page, at) => [page, at < 2 ? 126 : 127]),
  ],
] as const)('SSD1306: addressing by %s (10.1.3)', (_, commands, places) => {
  const { device, now } = screen()
  device.write(Uint8Array.of(0x00, ...ON, ...commands))
  device.write(Uint8Array.of(0x40, 1, 1, 1))
  const { rows } = now()
  const found = rows.flatMap((row, y) => [...row].flatMap((pixel, x) => (pixel === '#' ? [[y / 8, x]] : [])))
  expect(found).toEqual([...places].sort(([a = 0, b = 0], [c = 0, d = 0]) => a - c || b - d))
})

test('a display shows text at the given position and size after flush', () => {
  const { device, now } = screen()
  const display = new Display(device)
  expect(now().on).toBe(false)
  display.text(0, 0, 'Hi')
  display.text(40, 20, '1', 2)
  expect(lit(now())).toBe(0)
  display.flush()
  expect(now().on).toBe(true)
  expect(part(now(), 0, 0, 12, 8)).toEqual([
    '#...#...#...',
    '#...#.......',
    '#...#..##...',
    '#####...#...',
    '#...#...#...',
    '#...#...#...',
    '#...#..###..',
    '............',
  ])
  expect(part(now(), 40, 20, 10, 4)).toEqual(['....##....', '....##....', '..####....', '..####....'])
  display.text(0, 0, 'é\n?')
  display.flush()
  expect(part(now(), 0, 0, 5, 7)).toEqual(part(now(), 0, 8, 5, 7))
})

test('a display draws pixels and rectangles up to its edges, clears, and goes off and on', () => {
  const { device, now } = screen()
  const display = new Display(device)
  for (const [x, y] of [
    [0, 0],
    [127, 63],
    [128, 0],
    [0, 64],
    [-1, 5],
    [5, -1],
  ] as const) {
    display.pixel(x, y)
  }
  display.fill(10, 30, 5, 4)
  display.pixel(10, 30, false)
  display.flush()
  expect(lit(now())).toBe(2 + 20 - 1)
  expect([now().rows[0]?.[0], now().rows[63]?.[127]]).toEqual(['#', '#'])
  display.off()
  expect(lit(now())).toBe(0)
  display.on()
  expect(lit(now())).toBe(21)
  display.clear()
  display.flush()
  expect(lit(now())).toBe(0)
})

test('a display sends only changes', () => {
  const { device, now } = screen()
  const display = new Display(device)
  display.text(0, 0, 'temperature 21.5')
  display.flush()
  expect(now().dataWrites).toBe(1024)
  const { transfers } = device
  display.flush()
  display.text(0, 0, 'temperature 21.5')
  display.flush()
  expect(device.transfers).toBe(transfers)
  display.text(0, 0, 'temperature 21.6')
  display.flush()
  expect(device.transfers).toBe(transfers + 2)
  expect(now().dataWrites - 1024).toBeLessThanOrEqual(5)
})

test('a display that another program has set up works in any addressing mode', () => {
  const { device, now } = screen()
  device.write(Uint8Array.of(0x00, ...ON, 0x20, 0x01))
  const { initWrites } = now()
  const display = new Display(device)
  display.text(0, 0, 'x')
  display.flush()
  expect([now().initWrites, lit(now())]).toEqual([initWrites, 9])
  expect(() => new Display(device, { shown: 'AAAA' })).toThrow('expected 1024 bytes shown, got 3')
})

test('24C32: pages, the write cycle, and reading past the end', () => {
  const { device, now, poke } = memory()
  device.write(Uint8Array.of(0, 30, 1, 2, 3))
  expect(now()).toMatchObject({ cycles: 1, busy: true })
  expect(() => device.read(1)).toThrow(expect.objectContaining({ kind: 'no-ack' }))
  expect(() => device.write(Uint8Array.of(0, 0))).toThrow(expect.objectContaining({ kind: 'no-ack' }))
  // data past the end of the page wraps to its beginning
  expect([...device.writeRead(Uint8Array.of(0, 30), 3)]).toEqual([1, 2, 0xff])
  expect([...device.writeRead(Uint8Array.of(0, 0), 1)]).toEqual([3])
  expect([...device.writeRead(Uint8Array.of(0x0f, 0xff), 2)]).toEqual([0xff, 3])
  poke('memory', [9, 8])
  expect([...device.writeRead(Uint8Array.of(0, 0), 2)]).toEqual([9, 8])
  for (const bad of [[256], [-1], 'text', Array(4097).fill(0)]) {
    expect(() => poke('memory', bad)).toThrow(expect.objectContaining({ kind: 'unsupported' }))
  }
})

test('an EEPROM writes across pages, waits for its write cycle, and does not write equal bytes', () => {
  const { device, now } = memory()
  const it = new Eeprom(device)
  const bytes = Uint8Array.from({ length: 70 }, (_, index) => index)
  it.write(20, bytes)
  // 12, 32 and 26 bytes
  expect(now().cycles).toBe(3)
  expect(it.read(20, 70)).toEqual(bytes)
  it.write(20, bytes)
  expect(now().cycles).toBe(3)
  bytes[40] = 0
  it.write(20, bytes)
  expect(now().cycles).toBe(4)
  expect([it.read(0, 20).every((byte) => byte === 0xff), now().used]).toEqual([true, 90])
  // a successor that starts during the write cycle
  expect(now().busy).toBe(false)
  it.write(0, Uint8Array.of(7))
  expect([now().busy, new Eeprom(device).read(0, 1)[0]]).toEqual([true, 7])
})

test('an EEPROM refuses bytes beyond its end, and throws for a chip that never answers', () => {
  const { device, poke } = memory()
  const it = new Eeprom(device)
  expect(it.read(4095, 1)).toEqual(Uint8Array.of(0xff))
  expect(it.read(4096, 0)).toEqual(new Uint8Array(0))
  for (const [at, length] of [
    [4095, 2],
    [-1, 1],
    [0.5, 1],
  ] as const) {
    expect(() => it.read(at, length)).toThrow(`expected a place within 4096 bytes, got ${length} bytes at ${at}`)
    expect(() => it.write(at, new Uint8Array(length))).toThrow(expect.objectContaining({ kind: 'other' }))
  }
  poke('nack-next', 100)
  expect(() => it.read(0, 1)).toThrow(expect.objectContaining({ kind: 'no-ack' }))
  poke('nack-next', 0)
  poke('stuck-bus', true)
  expect(() => it.write(0, Uint8Array.of(1))).toThrow(expect.objectContaining({ kind: 'bus' }))
})
