/** Board files of real boards, and their settings for programs. */
import { describe, expect, test } from 'vitest'
import { parseBoard } from '../../../drivers/board/board.ts'
import type { Board } from '../../../drivers/board/types.ts'
import { BoardError } from '../../../drivers/errors.ts'
import { boardOf, FAN, led, MISTAKES, PLAIN, software } from './boardmistakes.ts'

test('defaults of a real board come from its model', () => {
  const handles = {
    led: { kind: 'output', line: 17, drive: 'open-drain' },
    stop: { kind: 'input', line: 4, driver: 'sysfs' },
    arm: { kind: 'pwm', line: 18, frequencyHz: 50 },
    lamp: { kind: 'pwm', line: 19, frequencyHz: 50, channel: { chip: 2, channel: 3 } },
    imu: { kind: 'i2c', bus: 1, address: '0x68' },
    rom: { kind: 'i2c', bus: 1, address: '0x50', via: 'broker' },
    adc: { kind: 'spi', bus: 0, select: 1, mode: 3 },
    gps: { kind: 'serial', path: '/dev/serial/by-id/usb-u-blox_7-if00', baud: 9600 },
  }
  const more = { estop: { input: 'stop' }, network: ['main'], limits: { memoryMb: 128 } }
  const board = parseBoard(boardOf('pi5', handles, more), 'b')
  expect(board.chip).toBe('pinctrl-rp1')
  expect(board.estop).toEqual({ input: 'stop', level: 0 })
  expect(board.network).toEqual(['main'])
  expect(board.limits).toEqual({ memoryMb: 128, pids: 32, tmpMb: 16, dataMb: 64 })
  expect(board.handles).toMatchObject({
    led: { drive: 'open-drain', driver: 'cdev' },
    stop: { driver: 'sysfs' },
    arm: { driver: 'kernel', channel: { chip: 0, channel: 2 }, via: 'inherit' },
    lamp: { channel: { chip: 2, channel: 3 } },
    imu: { via: 'inherit' },
    rom: { via: 'broker' },
    adc: { kind: 'spi', bus: 0, select: 1, mode: 3, speedHz: 1_000_000, bits: 8, lsbFirst: false, via: 'inherit' },
    gps: { baud: 9600, dataBits: 8, parity: 'none', stopBits: 1, via: 'inherit' },
  })
})

test.each([
  ['pi3', 'GPIO12', 0, 'pinctrl-bcm2835'],
  ['zero2w', 'GPIO13', 1, 'pinctrl-bcm2835'],
  ['pi4', 'GPIO18', 0, 'pinctrl-bcm2711'],
  ['pi4', 'GPIO19', 1, 'pinctrl-bcm2711'],
  ['pi5', 'GPIO12', 0, 'pinctrl-rp1'],
  ['pi5', 'GPIO13', 1, 'pinctrl-rp1'],
  ['pi5', 'GPIO19', 3, 'pinctrl-rp1'],
])('a %s has %s on channel %i of its PWM, and the chip %s', (model, line, channel, chip) => {
  const board = parseBoard(boardOf(model, { arm: { kind: 'pwm', line, frequencyHz: 50 } }), 'b')
  expect([board.chip, board.handles.arm]).toMatchObject([chip, { channel: { chip: 0, channel } }])
})

test('HANDLES 12.2: model linux needs "chip" when a handle has a line', () => {
  const i2c = { imu: { kind: 'i2c', bus: 1, address: 104 } }
  const arm = { kind: 'pwm', line: 18, frequencyHz: 50, channel: { chip: 0, channel: 0 } }
  expect(parseBoard(boardOf('linux', { ...i2c, arm }), 'b').chip).toBeUndefined()
  expect(parseBoard(boardOf('linux', { led }, { chip: 'gpio-sim' }), 'b').chip).toBe('gpio-sim')
})

test('HANDLES 12.9: a pwm of pigpio is brokered', () => {
  const handles = { arm: { kind: 'pwm', line: 4, frequencyHz: 50, driver: 'pigpio' } }
  const entry = (model: string): Board['handles'][string] | undefined =>
    parseBoard(boardOf(model, handles), 'b').handles.arm
  expect(entry('pi4')).toMatchObject({ driver: 'pigpio', via: 'broker' })
  expect(entry('sim')).toMatchObject({ via: 'inherit' })
})

test('HANDLES 19.1: a software PWM is brokered, on any line, and has no channel', () => {
  for (const model of ['sim', 'pi4', 'pi5']) {
    const { handles } = parseBoard(boardOf(model, { fan: FAN, other: { ...FAN, line: 12 }, lamp: PLAIN }), 'b')
    expect(handles.fan).toMatchObject({ line: 'GPIO5', driver: 'software', via: 'broker', safe: 0 })
    // a line whose PWM channel another handle uses
    expect(handles.other).not.toHaveProperty('channel')
  }
  expect(parseBoard(software({ frequencyHz: 200 }, { realtime: 50 }), 'b').handles.fan).toMatchObject({ safe: 0 })
})

test('a servo has the defaults of a pwm', () => {
  const servo = (model: string, about: object) =>
    parseBoard(boardOf(model, { arm: { kind: 'servo', line: 19, ...about } }), 'b').handles.arm
  expect(servo('pi4', {})).toMatchObject({ channel: { chip: 0, channel: 1 }, via: 'inherit' })
  expect(servo('pi5', {})).toMatchObject({ channel: { chip: 0, channel: 3 } })
  expect(servo('pi4', { line: 4, driver: 'pigpio' })).toMatchObject({ via: 'broker' })
  expect(() => servo('pi5', { line: 4 })).toThrow(/expected a line with hardware PWM/)
  const other = { lamp: { kind: 'pwm', line: 12, frequencyHz: 50 }, arm: { kind: 'servo', line: 18 } }
  expect(() => parseBoard(boardOf('pi4', other), 'b')).toThrow(/pwmchip0\/pwm0 is already used by "lamp"/)
})

test('the error for two PWM on one channel lists free lines and drivers without a channel', () => {
  const fixOf = (model: string, lines: Record<string, number>): string => {
    const pwms = Object.entries(lines).map(([name, line]) => [name, { kind: 'pwm', line, frequencyHz: 50 }])
    try {
      parseBoard(boardOf(model, Object.fromEntries(pwms)), 'b')
    } catch (error) {
      expect((error as BoardError).message).toContain('a channel has the same pulses')
      return (error as BoardError).fix
    }
    return 'none'
  }
  const pigpio = 'any line with "driver": "software", or to a line without hardware PWM with "driver": "pigpio"'
  expect(fixOf('pi4', { left: 12, right: 18 })).toBe(
    `move "right" to GPIO13 or GPIO19, or to ${pigpio}, or to a PCA9685 on i2c`,
  )
  expect(fixOf('pi4', { left: 12, right: 13, lamp: 19 })).toBe(`move "lamp" to ${pigpio}, or to a PCA9685 on i2c`)
  expect(fixOf('pi5', { left: 12, right: 18 })).toBe('none')
})

describe('HANDLES 12.1: a mistake is reported with its path and a fix:', () => {
  test.each(MISTAKES)('%s', (_, text, place, message, fix) => {
    let caught: unknown
    try {
      parseBoard(text, 'board.json')
    } catch (error) {
      caught = error
    }
    expect(caught).toBeInstanceOf(BoardError)
    const { why: said, place: at, fix: todo } = caught as BoardError
    expect([at, said, todo]).toEqual([place, message, fix])
  })
})

test.each([
  [{ frequencyHz: 1e9 }],
  [{ frequencyHz: 150 }],
  [{ safe: 'hold' }],
  [{ safe: 0.5, min: 0.2 }],
  [{ min: 0.2 }],
  [{ max: 0.8, initial: 1 }],
  [{ min: 0.2, max: 0.8, initial: 0.5, safe: 0.5 }],
])('HANDLES 2.4: the hints for a software PWM with %j name values that are accepted', (about) => {
  const entry: Record<string, unknown> = { ...about }
  const written: string[] = []
  const hint = (): string | null => {
    try {
      parseBoard(software(entry), 'b')
      return null
    } catch (error) {
      return (error as BoardError).fix
    }
  }
  for (let fix = hint(); fix !== null; fix = hint()) {
    const [, key = '', value] = /^write "(\w+)": ([\d.]+)/.exec(fix) ?? []
    expect(written).not.toContain(key)
    written.push(key)
    entry[key] = Number(value)
  }
  expect(written).not.toEqual([])
})
