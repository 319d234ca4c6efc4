import { describe, expect, test } from 'vitest'
import { boardJsonSchema, DEFAULT_TIMING, parseBoard } from '../../../drivers/board/board.ts'
import { BoardError } from '../../../drivers/errors.ts'

const led = { kind: 'output', line: 'GPIO17' }
const sim = (handles: unknown, more: object = {}) => JSON.stringify({ model: 'sim', handles, ...more })

test('HANDLES 8.1: every default is in the parsed board', () => {
  const board = parseBoard(
    sim({
      led: { kind: 'output', line: 17, initial: 1 },
      button: { kind: 'input', line: 'GPIO27' },
      arm: { kind: 'pwm', line: 'GPIO18', frequencyHz: 50, initial: 0.075 },
      imu: { kind: 'i2c', bus: 1, address: '0x68', simulate: 'mpu6050' },
    }),
    'board.json',
  )
  expect({ ...board, handles: { ...board.handles } }).toEqual({
    model: 'sim',
    handles: {
      led: {
        kind: 'output',
        line: 'GPIO17',
        initial: 1,
        safe: 1,
        activeLow: false,
        drive: 'push-pull',
        driver: 'cdev',
        via: 'inherit',
      },
      button: {
        kind: 'input',
        line: 'GPIO27',
        pull: 'none',
        edges: 'both',
        debounceMs: 0,
        activeLow: false,
        driver: 'cdev',
        via: 'inherit',
      },
      arm: {
        kind: 'pwm',
        line: 'GPIO18',
        frequencyHz: 50,
        initial: 0.075,
        safe: 0.075,
        min: 0,
        max: 1,
        slew: 0,
        driver: 'kernel',
        via: 'inherit',
      },
      imu: { kind: 'i2c', bus: 1, address: 0x68, simulate: 'mpu6050', via: 'broker' },
    },
    wires: [],
    timing: DEFAULT_TIMING,
    realtime: 0,
    memoryReserveMb: 64,
    unconfined: false,
    network: [],
    limits: { memoryMb: 256, pids: 32, tmpMb: 16, dataMb: 64 },
  })
})

test('handles has no prototype: an unknown name is undefined', () => {
  expect(parseBoard(sim({ led }), 'b').handles.constructor).toBeUndefined()
})

/** One mistake each: text, path, message, fix (HANDLES 2.4, 8). */
const MISTAKES: [string, string, string, string, string][] = [
  [
    'a comma too many',
    '{\n  "model": "sim",,\n}',
    '2:18',
    'expected a name in double quotes, got ","',
    'write names in double quotes',
  ],
  [
    'a comma missing',
    '{\n  "model": "sim"\n  "handles": {}\n}',
    '3:3',
    'expected "," or "}", got "\\""',
    'add a comma before it',
  ],
  ['a colon missing', '{"model" "sim"}', '1:10', 'expected ":", got "\\""', 'write a colon after "model"'],
  [
    'single quotes',
    "{'model': 1}",
    '1:2',
    'expected a name in double quotes, got "\'"',
    'write names in double quotes',
  ],
  ['a bare word', '{"model": sim}', '1:11', 'expected a value, got "s"', 'write text in double quotes'],
  ['a comment without an end', '{ /* robot }', '1:3', 'the comment has no end', 'write */ at its end'],
  ['an open end', '{"model": "sim"', '1:16', 'expected "," or "}", got the end of the file', 'complete the file'],
  ['an empty file', '', '1:1', 'expected a value, got the end of the file', 'complete the file'],
  ['something behind', '{} {}', '1:4', 'expected the end, got "{"', 'remove what follows the last brace'],
  ['a name twice', '{"handles": {"led": 1, "led": 2}}', '1:24', '"led" is given twice', 'rename or remove one of them'],
  ['not an object', '[]', 'board', 'expected an object, got []', 'change "the file"'],
  [
    'no model',
    '{"handles":{}}',
    'model',
    'expected one of sim, pi3, pi4, pi5, zero2w, linux, got nothing',
    'write one of sim, pi3, pi4, pi5, zero2w, linux',
  ],
  [
    'another model',
    '{"model":"pi-4","handles":{}}',
    'model',
    'expected one of sim, pi3, pi4, pi5, zero2w, linux, got "pi-4"',
    'write "pi4"',
  ],
  ['no handles', '{"model":"sim"}', 'handles', 'expected an object, got nothing', 'add "handles"'],
  ['an unknown key', sim({}, { wirez: [] }), 'wirez', 'unknown key', 'write "wires"'],
  [
    'an unknown timing',
    sim({}, { timing: { trialSeconds: 1 } }),
    'timing.trialSeconds',
    'unknown key',
    'write one of readyMs, yieldMs, takeoverMs, heartbeatMs, bodyMs, trialMs, checkpointMs, lateMs, restartMostMs, spareMs, rehearsals',
  ],
  [
    'an unknown key of a handle',
    sim({ led: { ...led, activelow: true } }),
    'handles.led.activelow',
    'unknown key',
    'write "activeLow"',
  ],
  [
    'another kind',
    sim({ led: { ...led, kind: 'ouput' } }),
    'handles.led.kind',
    'expected one of output, input, pwm, servo, i2c, analog, spi, serial, temperature, listen, got "ouput"',
    'write "output"',
  ],
  [
    'no kind',
    sim({ led: { line: 1 } }),
    'handles.led.kind',
    'expected one of output, input, pwm, servo, i2c, analog, spi, serial, temperature, listen, got nothing',
    'write one of output, input, pwm, servo, i2c, analog, spi, serial, temperature, listen',
  ],
  [
    'a slew below 0',
    sim({ arm: { kind: 'pwm', line: 1, frequencyHz: 50, slew: -1 } }),
    'handles.arm.slew',
    'expected at least 0, got -1',
    'write 0 or more',
  ],
  [
    'a range the wrong way',
    sim({ arm: { kind: 'servo', line: 1, degrees: [90, 0] } }),
    'handles.arm.degrees',
    'expected the lower angle first, got [90, 0]',
    'write [0, 90], or another range',
  ],
  [
    'half a range',
    sim({ arm: { kind: 'servo', line: 1, degrees: [90] } }),
    'handles.arm.degrees',
    'expected two angles, as [0, 180], got [90]',
    'change "degrees"',
  ],
  [
    'pulses the wrong way',
    sim({ arm: { kind: 'servo', line: 1, minUs: 2000, maxUs: 1000 } }),
    'handles.arm.minUs',
    'expected less than maxUs (1000), got 2000',
    'swap minUs and maxUs',
  ],
  [
    'a pulse longer than its period',
    sim({ arm: { kind: 'servo', line: 1, frequencyHz: 400 } }),
    'handles.arm.maxUs',
    'expected less than the period (2500 us), got 2500',
    'write a shorter pulse, or a lower "frequencyHz"',
  ],
  [
    'a safe angle beyond the range',
    sim({ arm: { kind: 'servo', line: 1, degrees: [-45, 45], safe: 90 } }),
    'handles.arm.safe',
    'expected degrees from -45 to 45, got 90',
    'write "safe": 45, or move the limit',
  ],
  [
    'a bad name',
    sim({ '1st': led }),
    'handles.1st',
    'expected a letter, then at most 39 letters, digits, - or _, got "1st"',
    'rename the handle',
  ],
  [
    'a line beyond',
    sim({ led: { ...led, line: 54 } }),
    'handles.led.line',
    'expected a line from GPIO0 to GPIO53, got 54',
    'change "line"',
  ],
  [
    'a line by another name',
    sim({ led: { ...led, line: 'P1' } }),
    'handles.led.line',
    'expected a line from GPIO0 to GPIO53, got "P1"',
    'change "line"',
  ],
  [
    'no line',
    sim({ led: { kind: 'output' } }),
    'handles.led.line',
    'expected a line from GPIO0 to GPIO53, got nothing',
    'add "line"',
  ],
  [
    'a level of 2',
    sim({ led: { ...led, initial: 2 } }),
    'handles.led.initial',
    'expected 0 or 1, got 2',
    'change "initial"',
  ],
  [
    'a wrong type',
    sim({ led: { ...led, activeLow: 'yes' } }),
    'handles.led.activeLow',
    'expected a boolean, got "yes"',
    'change "activeLow"',
  ],
  [
    'a duty of 2',
    sim({ arm: { kind: 'pwm', line: 1, frequencyHz: 50, initial: 2 } }),
    'handles.arm.initial',
    'expected at most 1, got 2',
    'write 1 or less',
  ],
  [
    'a limit the wrong way',
    sim({ arm: { kind: 'pwm', line: 1, frequencyHz: 50, min: 0.5, max: 0.2 } }),
    'handles.arm.min',
    'expected at most max (0.2), got 0.5',
    'swap min and max',
  ],
  [
    'an initial beyond a limit',
    sim({ arm: { kind: 'pwm', line: 1, frequencyHz: 50, min: 0.02 } }),
    'handles.arm.initial',
    'expected a duty cycle from min (0.02) to max (1), got 0',
    'write "initial": 0.02, or move the limit',
  ],
  [
    'an address',
    sim({ imu: { kind: 'i2c', bus: 1, address: '0x80' } }),
    'handles.imu.address',
    'expected an address from 0x03 to 0x77, got "0x80"',
    'change "address"',
  ],
  [
    'i2c that is inherited',
    sim({ imu: { kind: 'i2c', bus: 1, address: 3, via: 'inherit' } }),
    'handles.imu.via',
    'expected one of broker, got "inherit"',
    'write one of broker',
  ],
  [
    'no chip',
    sim({ imu: { kind: 'i2c', bus: 1, address: 3 } }),
    'handles.imu.simulate',
    'expected a chip model, got nothing',
    'write "simulate": "mpu6050"',
  ],
  [
    'a line twice',
    sim({ led, lamp: { kind: 'input', line: 17 } }),
    'handles.lamp',
    'GPIO17 is already used by "led"',
    'move "led" or "lamp"',
  ],
  [
    'an address twice',
    JSON.stringify({
      model: 'pi4',
      handles: { a: { kind: 'i2c', bus: 1, address: 104 }, b: { kind: 'i2c', bus: 1, address: '0x68' } },
    }),
    'handles.b',
    'i2c-1@0x68 is already used by "a"',
    'move "a" or "b"',
  ],
  [
    'a wire to nowhere',
    sim({ led }, { wires: [['led', 'lad']] }),
    'wires[0][1]',
    'there is no handle "lad"',
    'write "led"',
  ],
  [
    'a wire the wrong way',
    sim({ led, button: { kind: 'input', line: 1 } }, { wires: [['button', 'led']] }),
    'wires[0][0]',
    'expected an output, got "button", which is of kind input',
    'write the output first: ["led", "button"]',
  ],
  [
    'two wires to one input',
    sim(
      { led, lamp: { kind: 'output', line: 2 }, button: { kind: 'input', line: 1 } },
      {
        wires: [
          ['led', 'button'],
          ['lamp', 'button'],
        ],
      },
    ),
    'wires[1][1]',
    '"button" is already wired to "led"',
    'remove one of the wires',
  ],
  [
    'a deadline of 0',
    sim({}, { timing: { readyMs: 0 } }),
    'timing.readyMs',
    'expected at least 10, got 0',
    'write 10 or more',
  ],
  [
    'half a millisecond',
    sim({}, { timing: { yieldMs: 1.5 } }),
    'timing.yieldMs',
    'expected a whole number, got 1.5',
    'change "yieldMs"',
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
    const { message: said, place: path, fix: todo, at } = caught as BoardError
    const position = `${at?.line}:${at?.column}`
    expect(todo).toBe(fix)
    if (path === '') expect([position, said]).toEqual([place, `board.json:${place}: ${message}`])
    else expect([path, said]).toEqual([place, `board.json:${position}: ${place}: ${message}`])
  })
})

test('HANDLES 8.7: comments and trailing commas are allowed, and a mistake has its line and column', () => {
  const text = `// my robot
{
  "model": "sim", /* not yet
  a Pi */ "handles": {
    "led": { "kind": "output", "line": "GPIO17", }, // red
    "lamp": { "kind": "output", "line": "GPIO18" },
  },
  "wires": [],
}
`
  expect(parseBoard(text, 'b')).toEqual(
    parseBoard(sim({ led, lamp: { kind: 'output', line: 'GPIO18' } }, { wires: [] }), 'b'),
  )
  const places = (from: string, to: string) => {
    try {
      parseBoard(text.replace(from, to), 'b')
      return null
    } catch (error) {
      const { place, at } = error as BoardError
      return [place, at?.line, at?.column, at?.length]
    }
  }
  // a member from its name to the end of its value
  expect(places('GPIO17', 'GPIO99')).toEqual(['handles.led.line', 5, 32, 16])
  expect(places('"line": "GPIO17",', '"lin": "GPIO17"')).toEqual(['handles.led.line', 5, 5, 44])
  expect(places('"GPIO17",', '"GPIO17", "activLow": 1')).toEqual(['handles.led.activLow', 5, 50, 13])
  expect(places('GPIO18', 'GPIO17')).toEqual(['handles.lamp', 6, 5, 46])
  expect(places('[]', '[["led", "lump"]]')).toEqual(['wires[0][1]', 8, 21, 6])
  expect(places('"model": "sim",', '')).toEqual(['model', 2, 1, 1])
  expect(places(' }, //', ', }, //')).toEqual(['', 5, 49, 1])
})

test('HANDLES 1.5, 6.1: defaults of a servo: period, pulses, range, and the middle as initial angle', () => {
  const handles = {
    arm: { kind: 'servo', line: 18 },
    grip: { kind: 'servo', line: 19, degrees: [-30, 60], safe: 'hold' },
  }
  const board = parseBoard(sim(handles), 'board.json')
  const common = { kind: 'servo', frequencyHz: 50, minUs: 500, maxUs: 2500, slew: 0, driver: 'kernel', via: 'inherit' }
  expect(board.handles).toEqual({
    arm: { ...common, line: 'GPIO18', degrees: [0, 180], initial: 90, safe: 90 },
    grip: { ...common, line: 'GPIO19', degrees: [-30, 60], initial: 15, safe: 'hold' },
  })
})

test('HANDLES 8.6: the JSON schema describes the file before defaults', () => {
  const schema = boardJsonSchema() as { properties: Record<string, unknown>; required: string[] }
  expect(schema.required).toEqual(['model', 'handles'])
  expect(Object.keys(schema.properties)).toContain('wires')
})
