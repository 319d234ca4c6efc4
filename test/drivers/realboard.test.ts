/** Board files of real boards, and their settings for programs. */
import { describe, expect, test } from 'vitest'
import { parseBoard } from '../../drivers/board/board.ts'
import type { Board } from '../../drivers/board/types.ts'
import { BoardError } from '../../drivers/errors.ts'

const led = { kind: 'output', line: 'GPIO17' }
const boardOf = (model: string, handles: unknown, more: object = {}) => JSON.stringify({ model, handles, ...more })
const sim = (handles: unknown, more: object = {}) => boardOf('sim', handles, more)

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

const FAN = { kind: 'pwm', line: 5, frequencyHz: 100, driver: 'software', safe: 0 }
const PLAIN = { kind: 'pwm', line: 18, frequencyHz: 1000 }
const software = (about: object, { model = 'pi4', ...more }: { model?: string; realtime?: number } = {}): string =>
  boardOf(model, { fan: { ...FAN, ...about } }, more)

/** One mistake each: text, path, message, fix (HANDLES 2.4, 8, 12.1). */
const MISTAKES: [string, string, string, string, string][] = [
  [
    'an SPI device of which nothing says what it is',
    sim({ x: { kind: 'spi', bus: 0, select: 0 } }),
    'handles.x.simulate',
    'expected a chip model, got nothing',
    'write "simulate": "mcp3008", or "loopback" for a wire from MOSI to MISO',
  ],
  [
    'an ADC on another bus',
    boardOf('pi4', { pot: { kind: 'analog', adc: 'mcp3008', bus: 0, channel: 0 } }),
    'handles.pot.adc',
    'expected an ADC on I2C (ads1115), got "mcp3008"',
    'write "kind": "spi" with its "bus" and "select", and new Mcp3008(handle) in the program',
  ],
  [
    'a mode that the simulated chip has not',
    sim({ x: { kind: 'spi', bus: 0, select: 0, mode: 1, simulate: 'mcp3008' } }),
    'handles.x.mode',
    'expected 0 or 3, the modes of an MCP3008, got 1',
    'write "mode": 0',
  ],
  [
    'bits in an order that the simulated chip has not',
    sim({ x: { kind: 'spi', bus: 0, select: 0, lsbFirst: true, simulate: 'mcp3008' } }),
    'handles.x.lsbFirst',
    'expected false, the bit order of an MCP3008, got true',
    'write "lsbFirst": false',
  ],
  [
    'half a channel',
    boardOf('pi4', { arm: { kind: 'pwm', line: 18, frequencyHz: 50, channel: { chip: 0 } } }),
    'handles.arm.channel.channel',
    'expected a number, got nothing',
    'add "channel"',
  ],
  [
    'an unknown key of a channel',
    boardOf('pi4', { arm: { kind: 'pwm', line: 18, frequencyHz: 50, channel: { chip: 0, channel: 1, chanel: 0 } } }),
    'handles.arm.channel.chanel',
    'unknown key',
    'remove it',
  ],
  ['an unknown limit', sim({}, { limits: { memoryMB: 64 } }), 'limits.memoryMB', 'unknown key', 'write "memoryMb"'],
  [
    'too little memory',
    sim({}, { limits: { memoryMb: 8 } }),
    'limits.memoryMb',
    'expected at least 16, got 8',
    'write 16 or more',
  ],
  [
    'a slot that is none',
    sim({}, { network: ['Main'] }),
    'network[0]',
    'expected the name of a slot, as "main", got "Main"',
    'change network[0]',
  ],
  [
    'a line without hardware PWM',
    boardOf('pi4', { arm: { kind: 'pwm', line: 4, frequencyHz: 50 } }),
    'handles.arm.line',
    'expected a line with hardware PWM, got GPIO4',
    'write one of GPIO12, GPIO13, GPIO18, GPIO19, add "channel": { "chip": 0, "channel": 0 }, or use "driver": "software" (at most 200 Hz) or "driver": "pigpio"',
  ],
  [
    'a line without hardware PWM of a Pi 5',
    boardOf('pi5', { arm: { kind: 'pwm', line: 4, frequencyHz: 50 } }),
    'handles.arm.line',
    'expected a line with hardware PWM, got GPIO4',
    'write one of GPIO12, GPIO13, GPIO18, GPIO19, add "channel": { "chip": 0, "channel": 0 }, or use "driver": "software" (at most 200 Hz) or a PCA9685 on i2c',
  ],
  [
    'a servo on a line without hardware PWM',
    boardOf('pi5', { arm: { kind: 'servo', line: 4 } }),
    'handles.arm.line',
    'expected a line with hardware PWM, got GPIO4',
    'write one of GPIO12, GPIO13, GPIO18, GPIO19, add "channel": { "chip": 0, "channel": 0 }, or use a PCA9685 on i2c',
  ],
  [
    'a servo of driver software',
    boardOf('pi4', { arm: { kind: 'servo', line: 4, driver: 'software' } }),
    'handles.arm.driver',
    'expected one of kernel, pigpio, got "software"',
    'write one of kernel, pigpio',
  ],
  [
    'software PWM that is too fast',
    software({ frequencyHz: 201 }, { realtime: 50 }),
    'handles.fan.frequencyHz',
    'expected at most 200 Hz with driver software, got 201',
    'write "frequencyHz": 200, or use a PCA9685 on i2c',
  ],
  [
    'software PWM that is too fast for a thread that waits for its turn',
    software({ frequencyHz: 101 }),
    'handles.fan.frequencyHz',
    'expected at most 100 Hz with driver software on a board without "realtime", got 101',
    'write "frequencyHz": 100, or "realtime": 50 at the top of the board',
  ],
  [
    'software PWM that nobody could hold',
    software({ safe: 'hold' }),
    'handles.fan.safe',
    'expected 0 or 1 with driver software, whose pulses end with the runtime, got "hold"',
    'write "safe": 0',
  ],
  [
    'software PWM whose safe level needs pulses',
    software({ safe: undefined, initial: 0.3 }),
    'handles.fan.safe',
    'expected 0 or 1 with driver software, whose pulses end with the runtime, got 0.3',
    'write "safe": 0',
  ],
  [
    'software PWM that is inherited',
    software({ via: 'inherit' }),
    'handles.fan.via',
    'expected broker with driver software, got inherit',
    'write "via": "broker"',
  ],
  [
    'software PWM on a channel',
    software({ channel: { chip: 0, channel: 0 } }),
    'handles.fan.channel',
    'expected none with driver software',
    'remove it',
  ],
  [
    'software PWM on a line of a chip without a name',
    software({}, { model: 'linux' }),
    'chip',
    'expected the label of the GPIO chip, for "fan", got nothing',
    'add "chip": the label that gpiodetect shows in brackets',
  ],
  [
    'nine software PWM',
    boardOf('sim', Object.fromEntries([...Array(9).keys()].map((n) => [`fan${n}`, { ...FAN, line: `GPIO${4 + n}` }]))),
    'handles.fan8',
    'expected at most 8 pwm with driver software, got 9',
    'move "fan8" to a PCA9685 on i2c',
  ],
  [
    'no channel on model linux',
    boardOf('linux', { arm: { kind: 'pwm', line: 4, frequencyHz: 50 } }),
    'handles.arm.channel',
    'expected a channel of a PWM chip, got nothing',
    'add "channel": { "chip": 0, "channel": 0 } for pwmchip0/pwm0, or write "driver": "software" (at most 200 Hz)',
  ],
  [
    'pigpio on a Pi 5',
    boardOf('pi5', { arm: { kind: 'pwm', line: 18, frequencyHz: 50, driver: 'pigpio' } }),
    'handles.arm.driver',
    'pigpio does not run on a board of model pi5',
    'write "driver": "kernel" and one of GPIO12, GPIO13, GPIO18, GPIO19, or use a PCA9685 on i2c',
  ],
  [
    'pigpio that is inherited',
    boardOf('pi4', { arm: { kind: 'pwm', line: 18, frequencyHz: 50, driver: 'pigpio', via: 'inherit' } }),
    'handles.arm.via',
    'expected broker with driver pigpio, got inherit',
    'write "via": "broker"',
  ],
  [
    'a pull in sysfs',
    boardOf('pi4', { button: { kind: 'input', line: 27, pull: 'up', driver: 'sysfs' } }),
    'handles.button.pull',
    'expected none with driver sysfs, got up',
    'write "driver": "cdev", or set the pull at boot (gpio=27=ip,pu)',
  ],
  [
    'an open drain in sysfs',
    boardOf('pi4', { led: { ...led, drive: 'open-drain', driver: 'sysfs' } }),
    'handles.led.drive',
    'expected push-pull with driver sysfs, got open-drain',
    'write "driver": "cdev"',
  ],
  [
    'no chip on model linux',
    boardOf('linux', { led }),
    'chip',
    'expected the label of the GPIO chip, for "led", got nothing',
    'add "chip": the label that gpiodetect shows in brackets',
  ],
  [
    'a path outside of /dev',
    boardOf('pi4', { gps: { kind: 'serial', path: '/dev/../etc/passwd', baud: 9600 } }),
    'handles.gps.path',
    'expected the path of a device, as "/dev/serial0", got "/dev/../etc/passwd"',
    'change "path"',
  ],
  [
    'an odd rate',
    boardOf('pi4', { gps: { kind: 'serial', path: '/dev/serial0', baud: 9601 } }),
    'handles.gps.baud',
    'expected a standard rate, as 9600 or 115200, got 9601',
    'change "baud"',
  ],
  [
    'a port beyond the last',
    boardOf('pi4', { web: { kind: 'listen', port: 65536 } }),
    'handles.web.port',
    'expected a port from 1 to 65535, got 65536',
    'change "port"',
  ],
  [
    'a name of a machine as the host',
    boardOf('pi4', { web: { kind: 'listen', port: 8080, host: 'localhost' } }),
    'handles.web.host',
    'expected an IP address of this machine, as "127.0.0.1", or "0.0.0.0" for all, got "localhost"',
    'change "host"',
  ],
  [
    'a socket file elsewhere',
    boardOf('pi4', { web: { kind: 'listen', path: '/run/web.sock' } }),
    'handles.web.path',
    'expected the name of a socket file, as "web.sock": it is created in the folder sockets of the home, got "/run/web.sock"',
    'change "path"',
  ],
  [
    'a port and a socket file',
    boardOf('pi4', { web: { kind: 'listen', port: 8080, path: 'web.sock' } }),
    'handles.web.path',
    'expected a port or a path, got both',
    'remove one of them',
  ],
  [
    'neither a port nor a socket file',
    boardOf('pi4', { web: { kind: 'listen' } }),
    'handles.web.port',
    'expected a port or a path, got nothing',
    'write "port": 8080',
  ],
  [
    'one port on two addresses',
    boardOf('pi4', {
      web: { kind: 'listen', port: 8080 },
      api: { kind: 'listen', port: 8080, host: '127.0.0.1' },
    }),
    'handles.api',
    'port 8080 is already used by "web"',
    'move "web" or "api"',
  ],
  [
    'an SPI mode of 4',
    boardOf('pi4', { adc: { kind: 'spi', bus: 0, select: 0, mode: 4 } }),
    'handles.adc.mode',
    'expected at most 3, got 4',
    'write 3 or less',
  ],
  [
    'spi over the broker',
    boardOf('pi4', { adc: { kind: 'spi', bus: 0, select: 0, via: 'broker' } }),
    'handles.adc.via',
    'expected one of inherit, got "broker"',
    'write one of inherit',
  ],
  [
    'a stop that is not there',
    sim({ button: { kind: 'input', line: 1 } }, { estop: { input: 'buton' } }),
    'estop.input',
    'there is no handle "buton"',
    'write "button"',
  ],
  [
    'a stop that is an output',
    sim({ led, button: { kind: 'input', line: 1 } }, { estop: { input: 'led' } }),
    'estop.input',
    'expected an input, got "led", which is of kind output',
    'write one of button',
  ],
  [
    'a stop whose edges are not seen',
    sim({ button: { kind: 'input', line: 1, edges: 'none' } }, { estop: { input: 'button' } }),
    'handles.button.edges',
    'expected both or falling, for the emergency stop at level 0, got none',
    'write "edges": "both"',
  ],
  [
    'a stop with the wrong edges',
    sim({ button: { kind: 'input', line: 1, edges: 'falling' } }, { estop: { input: 'button', level: 1 } }),
    'handles.button.edges',
    'expected both or rising, for the emergency stop at level 1, got falling',
    'write "edges": "both"',
  ],
  [
    'a chip select twice',
    boardOf('pi4', { a: { kind: 'spi', bus: 0, select: 1 }, b: { kind: 'spi', bus: 0, select: 1 } }),
    'handles.b',
    'spi-0.1 is already used by "a"',
    'move "a" or "b"',
  ],
  [
    'a serial line twice',
    boardOf('pi4', {
      a: { kind: 'serial', path: '/dev/serial0', baud: 9600 },
      b: { kind: 'serial', path: '/dev/serial0', baud: 115200 },
    }),
    'handles.b',
    '/dev/serial0 is already used by "a"',
    'move "a" or "b"',
  ],
  [
    'two lines of one PWM channel',
    boardOf('pi4', {
      a: { kind: 'pwm', line: 12, frequencyHz: 50 },
      b: { kind: 'pwm', line: 18, frequencyHz: 50 },
    }),
    'handles.b',
    'pwmchip0/pwm0 is already used by "a", and a channel has the same pulses on all of its lines',
    'move "b" to GPIO13 or GPIO19, or to any line with "driver": "software", or to a line without hardware PWM with "driver": "pigpio", or to a PCA9685 on i2c',
  ],
  [
    'a line of two drivers',
    boardOf('pi4', { led, lamp: { ...led, driver: 'sysfs' } }),
    'handles.lamp',
    'GPIO17 is already used by "led"',
    'move "led" or "lamp"',
  ],
]

describe('a mistake is reported with its path and a fix:', () => {
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
