/**
 * Writes a new board file, with explanations and examples as comments.
 *
 * Invariant: the file parses, also without the `//` of any example (HANDLES 8.8; test/drivers/board/newboard.test.ts).
 * A comment that begins with a name in double quotes is an example; every other comment is prose.
 */
import { header } from './header.ts'
import { type Model, pwmLines } from './models.ts'
import { DEFAULT_LIMITS, DEFAULT_TIMING } from './schema.ts'

/** A public key that nobody has. */
const EXAMPLE_KEY = 'AAAAC3NzaC1lZDI1NTE5AAAAI'.padEnd(68, 'A')

const INDENT = '    '

const TIMING: Readonly<Record<keyof typeof DEFAULT_TIMING, string>> = {
  readyMs: 'how long a new program may take until it is ready',
  yieldMs: 'how long the old program may take to hand over',
  takeoverMs: 'how long the new program may take to take over',
  heartbeatMs: 'a program without a heartbeat for this long has hung: its outputs go to safe levels',
  bodyMs: 'how long the runtime itself may stand still; 0 is off',
  trialMs: 'how long a new program must be healthy before it is kept',
  checkpointMs: 'how often the state is saved, to restart from after a crash',
  lateMs: 'a tick that is this late ends the program; 0 is off',
  restartMostMs: 'the longest wait before a program that keeps crashing is started again',
  spareMs: 'how long an unused spare process is kept for the next push of medulla watch',
  rehearsals: 'how often a takeover is rehearsed',
}

const LIMITS: Readonly<Record<keyof typeof DEFAULT_LIMITS, string>> = {
  memoryMb: 'megabytes of memory',
  pids: 'processes and threads; Node needs about 12',
  tmpMb: 'megabytes in /tmp, which is in memory',
  dataMb: 'megabytes in the data folder, which is kept from program to program',
}

/** The text of a board file to edit, for a board of this model. */
export function newBoard(model: Model): string {
  const [first, second] = pwmOf(model)
  const real = model !== 'sim'
  // with "channel" the line would be longer than 120 characters
  const pulses = model === 'linux' ? '' : ', "minUs": 1000, "maxUs": 2000'
  const limit = model === 'linux' ? '' : ', "max": 0.8'
  return [
    '// The hardware of this robot, and its names for programs. To check this file: medulla board check board.json',
    '// To use an example, remove the // before it. A key that is left out has its default.',
    '{',
    '  // medulla status shows this name',
    '  "name": "my robot",',
    '',
    '  // sim, pi3, pi4, pi5, zero2w or linux',
    `  "model": "${model}",`,
    ...(model === 'linux'
      ? ['', '  // the label of the GPIO chip: gpiodetect shows it in brackets', '  "chip": "gpio0",']
      : []),
    '',
    '  "handles": {',
    ...prose(
      `The "line" is the GPIO number, as GPIO17${real && model !== 'linux' ? ', not the number of the pin' : ''}.`,
      ...(model === 'linux' ? [] : ['medulla pinout shows the pin of each line.']),
      '',
      'output: a level, 0 or 1. "initial" is driven when the runtime starts. "safe" is driven when the program dies,',
      'hangs or is stopped, and at an emergency stop; "hold" keeps the last level. With "activeLow": true, level 1',
      'drives the line low. "drive" is push-pull, open-drain or open-source.',
    ),
    entry(`"led": { "kind": "output", "line": "GPIO17", "initial": 0, "safe": 0 },`, at(model, 17)),
    example(`"enable": { "kind": "output", "line": "GPIO22", "safe": 0, "activeLow": false },`, at(model, 22)),
    '',
    ...prose(
      'input: a level, and its changes. "pull" is up, down or none; "edges" is both, rising, falling or none. A change',
      'shorter than "debounceMs" is ignored. This example is a switch to ground: 1 means pressed.',
    ),
    entry(
      `"button": { "kind": "input", "line": "GPIO27", "pull": "up", "activeLow": true, "debounceMs": 5 },`,
      at(model, 27),
    ),
    '',
    ...prose(
      'pwm: a duty cycle from 0 to 1, limited to "min" to "max". It changes by at most "slew" a second.',
      ...pwmProse(model),
    ),
    example(`"motor": { "kind": "pwm", ${first}, "frequencyHz": 1000, "safe": 0${limit} },`, at(model, 12)),
    ...prose(
      'With "driver": "software" a thread of the runtime makes the pulses, on any line. Each edge is a little late. At',
      'most 100 Hz, or 200 Hz with "realtime". Its "safe" is 0 or 1.',
    ),
    example(
      '"fan": { "kind": "pwm", "line": "GPIO5", "driver": "software", "frequencyHz": 50, "safe": 0 },',
      at(model, 5),
    ),
    '',
    ...prose(
      'servo: an angle, driven by PWM. "minUs" is the pulse at the lower angle of "degrees", "maxUs" the pulse at the',
      'upper one. First turn the servo by hand, and stay within its range. "slew" is in degrees a second.',
    ),
    example(`"arm": { "kind": "servo", ${second}${pulses}, "safe": "hold" },`, at(model, 13)),
    '',
    ...prose('i2c: one chip at an address of a bus.', ...(real ? [] : ['The key "simulate" names the chip.'])),
    example(
      `"imu": { "kind": "i2c", "bus": 1, "address": "0x68"${real ? '' : ', "simulate": "mpu6050"'} },`,
      model === 'linux' ? '' : 'pins 3 (SDA) and 5 (SCL)',
    ),
    example(`"servos": { "kind": "i2c", "bus": 1, "address": "0x40"${real ? '' : ', "simulate": "pca9685"'} },`, ''),
    '',
    ...prose(
      'analog: volts at an input of an ADC chip on I2C, 0 to 3 of an ADS1115; its "address" is 0x48 by default.',
      'The "fullScale" is the highest voltage it can measure: 6.144, 4.096, 2.048, 1.024, 0.512 or 0.256.',
    ),
    example('"battery": { "kind": "analog", "adc": "ads1115", "bus": 1, "channel": 0, "fullScale": 4.096 },', ''),
    ...busKinds(model),
    '',
    ...prose(
      'listen: a port that the runtime keeps open from program to program. "host" is an address of this machine; the',
      'default is all addresses. With "path" instead of "port": a socket file in the folder sockets of the home.',
    ),
    example('"web": { "kind": "listen", "port": 8080 },', ''),
    '  },',
    '',
    ...(real
      ? []
      : ['  // simulated wires, each from an output to an input', '  // "wires": [["led", "button"]],', '']),
    '  // the emergency stop: an input with a switch of its own, and the level that stops the robot',
    '  // "estop": { "input": "button", "level": 1 },',
    '',
    '  "timing": {',
    ...options(DEFAULT_TIMING, TIMING),
    '  },',
    '',
    '  // limits of each program',
    '  "limits": {',
    ...options(DEFAULT_LIMITS, LIMITS),
    '  },',
    '',
    '  // SCHED_FIFO priority of programs, 1 to 99; 0 is off',
    '  // "realtime": 50,',
    '  // the old program is kept for a rollback only while this many megabytes are free',
    '  // "memoryReserveMb": 64,',
    '  // slots whose programs may use the network',
    '  // "network": ["main"],',
    '  // programs are started only if these builders have signed them (or "count" of them): keys, as in a .pub file',
    `  // "requireReproduced": { "builders": ["${EXAMPLE_KEY}"] },`,
    ...(real
      ? ['  // start programs even without confinement; status and receipts say so', '  // "unconfined": true,']
      : []),
    '}',
    '',
  ].join('\n')
}

function prose(...lines: string[]): string[] {
  return lines.map((line) => `${INDENT}// ${line}`.trimEnd())
}

function entry(text: string, behind: string): string {
  return `${INDENT}${text}${behind && ` // ${behind}`}`
}

function example(text: string, behind: string): string {
  return `${INDENT}// ${text}${behind && ` // ${behind}`}`
}

function options(values: Readonly<Record<string, number>>, meaning: Readonly<Record<string, string>>): string[] {
  return Object.entries(values).map(([key, value]) => example(`"${key}": ${value},`, meaning[key] ?? ''))
}

function at(model: Model, line: number): string {
  const pin = header(model).find(({ label }) => label === `GPIO${line}`)?.pin
  return pin === undefined ? '' : `pin ${pin}`
}

/** Lines of two PWM examples, which must not share a channel. */
function pwmOf(model: Model): [string, string] {
  if (model !== 'linux') return ['"line": "GPIO12"', '"line": "GPIO13"']
  const of = (channel: number) => `"line": ${12 + channel}, "channel": { "chip": 0, "channel": ${channel} }`
  return [of(0), of(1)]
}

function pwmProse(model: Model): string[] {
  const lines = pwmLines(model)
  if (model === 'sim') return ['Any line of a simulated board has PWM. A Pi has it on GPIO12, 13, 18 and 19.']
  if (lines.length === 0) return ['The "channel" is a chip and a channel in /sys/class/pwm.']
  const own = `Lines with hardware PWM: ${lines.join(', ')}`
  if (model === 'pi5') return [`${own}, each with a channel of its own.`]
  return [`${own};`, '12 and 18 are one channel, 13 and 19 the other. "driver": "pigpio" works on any line.']
}

function busKinds(model: Model): string[] {
  const pins = (text: string) => (model === 'linux' ? '' : text)
  const serial = prose(
    model === 'sim'
      ? 'serial: a serial line. Its other end is a pseudo-terminal, serial/NAME in the home of the robot.'
      : 'serial: a serial line. Disable the login console on it first (raspi-config).',
  )
  const port = model === 'pi5' ? '/dev/ttyAMA0' : '/dev/serial0'
  const gps = example(
    `"gps": { "kind": "serial", "path": "${port}", "baud": 9600 },`,
    pins('pins 8 (TXD) and 10 (RXD)'),
  )
  const chip = model === 'sim' ? ', "simulate": "mcp3008"' : ''
  const spi = [
    '',
    ...prose(
      'spi: one chip select of a bus. "mode" is 0 to 3; "speedHz" is at most what the chip can do.',
      ...(model === 'sim' ? ['The key "simulate" is mcp3008, or loopback: a wire from MOSI to MISO.'] : []),
    ),
    example(
      `"adc": { "kind": "spi", "bus": 0, "select": 0, "mode": 0, "speedHz": 1000000${chip} },`,
      pins(model === 'sim' ? '' : 'pins 19, 21, 23 and 24 (CE0)'),
    ),
  ]
  const w1 = [
    '',
    ...prose(
      'temperature: degrees C of a DS18B20 on a 1-wire bus. The runtime measures by itself.',
      ...(model === 'sim' ? [] : ['The "device" is the id in /sys/bus/w1/devices (dtoverlay=w1-gpio, GPIO4).']),
    ),
    example(
      '"water": { "kind": "temperature", "device": "28-0316a279f5ff", "everyMs": 1000 },',
      pins(model === 'sim' ? '' : 'pin 7'),
    ),
  ]
  return ['', ...serial, gps, ...spi, ...w1]
}
