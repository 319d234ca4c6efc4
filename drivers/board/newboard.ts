/**
 * Invariant: a new board file parses as it is, and each example in it does when its `//` is taken away (HANDLES 8.8).
 *
 * A line is an example when it is a comment that begins with a name in double quotes; every other comment is prose.
 */
import { header } from './header.ts'
import { type Model, pwmLines } from './models.ts'
import { DEFAULT_LIMITS, DEFAULT_TIMING } from './schema.ts'

const INDENT = '    '

const TIMING: Readonly<Record<keyof typeof DEFAULT_TIMING, string>> = {
  readyMs: 'the longest that a new program may take until it is ready',
  yieldMs: 'the longest that the old one may take to hand over',
  takeoverMs: 'the longest that the new one may take to go on from there',
  heartbeatMs: 'a program that is silent for longer has hung, and its outputs go to their safe levels',
  bodyMs: 'the longest that the runtime itself may stand still; 0 is off',
  trialMs: 'how long a new program must be healthy before it is kept',
  checkpointMs: 'how often its state is saved, for a crash',
  lateMs: 'a tick that is later than this ends the program; 0 is off',
  restartMostMs: 'the longest wait before a program that crashes again and again is started again',
  spareMs: 'how long a child that waits for the next program of a `watch` is kept unused',
  rehearsals: 'how often a takeover is rehearsed',
}

const LIMITS: Readonly<Record<keyof typeof DEFAULT_LIMITS, string>> = {
  memoryMb: 'megabytes of memory',
  pids: 'processes and threads; Node needs about 12',
  tmpMb: 'megabytes of its /tmp, which is in memory',
  dataMb: 'megabytes of its data folder, which stays',
}

/** The text of a board file to edit, for a board of this model. */
export function newBoard(model: Model): string {
  const [first, second] = pwmOf(model)
  const real = model !== 'sim'
  // a channel leaves no room for them on its line
  const pulses = model === 'linux' ? '' : ', "minUs": 1000, "maxUs": 2000'
  const limit = model === 'linux' ? '' : ', "max": 0.8'
  return [
    '// What programs ask for by name, and where it is on this robot. Check this file: medulla board check board.json',
    '// An example is switched on by removing the // before it. A key that is left out has its default.',
    '{',
    '  // shown by medulla status',
    '  "name": "my robot",',
    '',
    '  // sim, pi3, pi4, pi5, zero2w or linux',
    `  "model": "${model}",`,
    ...(model === 'linux'
      ? ['', '  // the label of the chip that has the lines: what gpiodetect shows in brackets', '  "chip": "gpio0",']
      : []),
    '',
    '  "handles": {',
    ...prose(
      `The "line" is the number at the chip, as GPIO17${real && model !== 'linux' ? ', which is not the number of the pin' : ''}.`,
      ...(model === 'linux' ? [] : ['medulla pinout shows which pin is which.']),
      '',
      'output: a level, 0 or 1. "initial" is driven when the runtime starts. "safe" is driven when no program runs',
      '(it died, hung, was stopped, or in an emergency); "hold" leaves the line as it is. "activeLow": true turns it',
      'round. "drive" is push-pull, open-drain or open-source.',
    ),
    live(`"led": { "kind": "output", "line": "GPIO17", "initial": 0, "safe": 0 },`, at(model, 17)),
    example(`"enable": { "kind": "output", "line": "GPIO22", "safe": 0, "activeLow": false },`, at(model, 22)),
    '',
    ...prose(
      'input: a level, and its changes. "pull" is up, down or none; "edges" is both, rising, falling or none; a change',
      'that is shorter than "debounceMs" is not seen. This one is a switch to ground: pressed is 1.',
    ),
    live(
      `"button": { "kind": "input", "line": "GPIO27", "pull": "up", "activeLow": true, "debounceMs": 5 },`,
      at(model, 27),
    ),
    '',
    ...prose(
      'pwm: a duty cycle from 0 to 1, which never leaves "min" to "max", and moves by "slew" a second at most.',
      ...pwmProse(model),
    ),
    example(`"motor": { "kind": "pwm", ${first}, "frequencyHz": 1000, "safe": 0${limit} },`, at(model, 12)),
    ...prose(
      'With "driver": "software" a thread of the runtime makes the pulses, on any line: 100 Hz at most, with "realtime"',
      '200, and each edge a little late. "safe" is 0 or 1 then.',
    ),
    example(
      '"fan": { "kind": "pwm", "line": "GPIO5", "driver": "software", "frequencyHz": 50, "safe": 0 },',
      at(model, 5),
    ),
    '',
    ...prose(
      'servo: an angle. "minUs" is the pulse at the lower angle of "degrees", "maxUs" that at the upper one; turn the',
      'servo by hand first, and stay within what it can do. It is a pwm, too. "slew" is in degrees a second.',
    ),
    example(`"arm": { "kind": "servo", ${second}${pulses}, "safe": "hold" },`, at(model, 13)),
    '',
    ...prose(
      'i2c: one chip at an address of a bus.',
      ...(real ? [] : ['The chip in "simulate" is what is simulated.']),
    ),
    example(
      `"imu": { "kind": "i2c", "bus": 1, "address": "0x68"${real ? '' : ', "simulate": "mpu6050"'} },`,
      model === 'linux' ? '' : 'pins 3 (SDA) and 5 (SCL)',
    ),
    example(`"servos": { "kind": "i2c", "bus": 1, "address": "0x40"${real ? '' : ', "simulate": "pca9685"'} },`, ''),
    '',
    ...prose(
      'analog: volts at an input of an ADC chip on I2C, 0 to 3 of an ADS1115; its "address" is 0x48 by default.',
      'The "fullScale" is the largest that it can tell: 6.144, 4.096, 2.048, 1.024, 0.512 or 0.256.',
    ),
    example('"battery": { "kind": "analog", "adc": "ads1115", "bus": 1, "channel": 0, "fullScale": 4.096 },', ''),
    ...busKinds(model),
    '',
    ...prose(
      'listen: a port that the runtime keeps open from program to program; "host" is an address of this machine, by',
      'default all. With "path" instead, a socket file of that name in the folder sockets of the home.',
    ),
    example('"web": { "kind": "listen", "port": 8080 },', ''),
    '  },',
    '',
    ...(real
      ? []
      : ['  // wires of the simulated world, from an output to an input', '  // "wires": [["led", "button"]],', '']),
    '  // the input that stops everything, and the level of it that does; give it a switch of its own',
    '  // "estop": { "input": "button", "level": 1 },',
    '',
    '  "timing": {',
    ...options(DEFAULT_TIMING, TIMING),
    '  },',
    '',
    '  // of each program',
    '  "limits": {',
    ...options(DEFAULT_LIMITS, LIMITS),
    '  },',
    '',
    '  // SCHED_FIFO priority of programs, 1 to 99; 0 is off',
    '  // "realtime": 50,',
    '  // megabytes that must be free, or an old program is not kept for a rollback',
    '  // "memoryReserveMb": 64,',
    '  // slots whose programs may use the network',
    '  // "network": ["main"],',
    ...(real
      ? ['  // start programs even where nothing confines them; status and receipts say so', '  // "unconfined": true,']
      : []),
    '}',
    '',
  ].join('\n')
}

function prose(...lines: string[]): string[] {
  return lines.map((line) => `${INDENT}// ${line}`.trimEnd())
}

function live(text: string, behind: string): string {
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

/** Two that do not share a channel. */
function pwmOf(model: Model): [string, string] {
  if (model !== 'linux') return ['"line": "GPIO12"', '"line": "GPIO13"']
  const of = (channel: number) => `"line": ${12 + channel}, "channel": { "chip": 0, "channel": ${channel} }`
  return [of(0), of(1)]
}

function pwmProse(model: Model): string[] {
  const lines = pwmLines(model)
  if (model === 'sim') return ['Any line of a simulated board has it; a Pi has it on GPIO12, 13, 18 and 19.']
  if (lines.length === 0) return ['The "channel" is its place in /sys/class/pwm.']
  const own = `Lines that have it in hardware: ${lines.join(', ')}`
  if (model === 'pi5') return [`${own}, each with a channel of its own.`]
  return [`${own};`, '12 and 18 are one channel, 13 and 19 the other. "driver": "pigpio" does it on any line.']
}

function busKinds(model: Model): string[] {
  const pins = (text: string) => (model === 'linux' ? '' : text)
  const serial = prose(
    model === 'sim'
      ? 'serial: a serial line; its other end is a terminal, serial/NAME in the home of the robot.'
      : 'serial: a serial line, for this robot alone; take the console off it (raspi-config).',
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
      'spi: one chip select of a bus. "mode" is 0 to 3, "speedHz" the highest that the chip can do.',
      ...(model === 'sim' ? ['The chip in "simulate" is mcp3008, or loopback: a wire from MOSI to MISO.'] : []),
    ),
    example(
      `"adc": { "kind": "spi", "bus": 0, "select": 0, "mode": 0, "speedHz": 1000000${chip} },`,
      pins(model === 'sim' ? '' : 'pins 19, 21, 23 and 24 (CE0)'),
    ),
  ]
  const w1 = [
    '',
    ...prose(
      'temperature: degrees C of a DS18B20 on a 1-wire bus, which the body measures by itself.',
      ...(model === 'sim' ? [] : ['Its "device" is what ls /sys/bus/w1/devices shows (dtoverlay=w1-gpio, GPIO4).']),
    ),
    example(
      '"water": { "kind": "temperature", "device": "28-0316a279f5ff", "everyMs": 1000 },',
      pins(model === 'sim' ? '' : 'pin 7'),
    ),
  ]
  return ['', ...serial, gps, ...spi, ...w1]
}
