import { expect, test } from 'vitest'
import { advise } from '../../../drivers/board/advice.ts'
import { parseBoard } from '../../../drivers/board/board.ts'

const about = (handles: object, more: object = {}) => {
  const json = { model: 'pi4', handles, ...more }
  return advise(parseBoard(JSON.stringify(json), 'b'), json).map((each) => `${each.about} ${each.found}; ${each.fix}`)
}
const led = { kind: 'output', line: 'GPIO17' }
const motor = { kind: 'pwm', line: 'GPIO12', frequencyHz: 1000, safe: 0 }
const button = { kind: 'input', line: 'GPIO27', pull: 'up' }

test('HANDLES 8.9: a sensible board gets no advice', () => {
  expect(about({ led, motor, button, quiet: { kind: 'input', line: 5, edges: 'none' } })).toEqual([])
  // a servo that keeps its angle
  expect(about({ arm: { kind: 'servo', line: 'GPIO13', safe: 'hold' } })).toEqual([])
  const fan = { kind: 'pwm', line: 5, driver: 'software', frequencyHz: 50, safe: 0 }
  expect(about({ fan }, { realtime: 50 })).toEqual([])
  expect(about({ fan }, { model: 'sim' })).toEqual([])
  // other handles on buses of their own
  expect(about({ led, imu: { kind: 'i2c', bus: 1, address: 3 }, adc: { kind: 'spi', bus: 0, select: 0 } })).toEqual([])
})

test.each<[string, object, object, RegExp]>([
  ['hold', { led: { ...led, safe: 'hold' } }, {}, /^led keeps its last value.*; write "safe": a level/],
  [
    'a motor without a safe level',
    { left: { ...motor, safe: undefined } },
    {},
    /^left has no "safe".*initial.*: 0; write "safe": 0/,
  ],
  [
    'pulses that a thread makes',
    { fan: { kind: 'pwm', line: 5, driver: 'software', frequencyHz: 50, safe: 0 } },
    {},
    /^fan has pulses that a thread makes.*; write "realtime": 50/,
  ],
  ['an output that moves', { 'pump-1': led }, {}, /^pump-1 has no "safe"/],
  [
    'edges without a pull',
    { button: { ...button, pull: 'none' } },
    {},
    /^button has edges and no pull.*; write "pull"/,
  ],
  ['the same with sysfs', { button: { ...button, pull: 'none', driver: 'sysfs' } }, {}, /; fit a resistor/],
  [
    'a line of I2C',
    { led: { ...led, line: 2 } },
    {},
    /^led is on GPIO2, which is I2C1 SDA when I2C is on, and has a resistor.*GPIO27, GPIO22/,
  ],
  ['a line of SPI', { led: { ...led, line: 8 } }, {}, /GPIO8, which is SPI0 CE0 when SPI is on; .*do_spi 1/],
  ['a line of the UART', { led: { ...led, line: 14 } }, {}, /GPIO14, which is UART TXD when the serial port/],
  ['a line of the HAT', { led: { ...led, line: 0 } }, {}, /GPIO0, which the firmware uses at start to look for a HAT/],
  [
    'a line of a bus that is used',
    { led: { ...led, line: 20 }, x: { kind: 'spi', bus: 1, select: 0 } },
    {},
    /GPIO20, which is SPI1 MOSI, and "x" needs that bus/,
  ],
  ['unconfined', { led }, { unconfined: true }, /^unconfined lets programs start without confinement/],
])('HANDLES 8.9: advice on %s', (_, handles, more, told) => {
  expect(about(handles, more)).toEqual([expect.stringMatching(told)])
})

test('HANDLES 8.9: advice on two lines that share a PWM channel on a real board', () => {
  const handles = { a: motor, b: { ...motor, line: 'GPIO18' } }
  expect(about(handles, { model: 'sim' })).toEqual([
    expect.stringMatching(/^a shares PWM channel 0 with "b" on a Pi 3 or 4/),
    expect.stringMatching(/^b shares PWM channel 0 with "a"/),
  ])
})

test('HANDLES 8.9: an input with a simulated wire needs no pull', () => {
  const handles = { led, button: { ...button, pull: 'none' } }
  expect(about(handles, { model: 'sim', wires: [['led', 'button']] })).toEqual([])
})
