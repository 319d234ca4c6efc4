import { robot } from 'medulla'
import { simulate } from 'medulla/test'
import { expect, test } from 'vitest'
import { Recorder } from '../../../runtime/testkit/recorder.ts'
import { vcdLines } from '../../../runtime/testkit/vcd.ts'

interface Dump {
  timescale: string
  scope: string
  /** name: kind, and every [ns, value] */
  vars: Record<string, { type: string; size: number; values: [ns: number, value: number][] }>
  end: number
}

/** A reader written from IEEE 1364-2001, clause 18.2, independent of the writer. It refuses all that the grammar does not allow. */
function read(text: string): Dump {
  const words = text.split(/\s+/).filter((word) => word !== '')
  const dump: Dump = { timescale: '', scope: '', vars: {}, end: 0 }
  const byCode = new Map<string, Dump['vars'][string]>()
  let at = 0
  const take = (): string => words[at++] ?? ''
  const section = (): string[] => {
    const end = words.indexOf('$end', at)
    if (end < 0) throw new Error('a section has no $end')
    const body = words.slice(at, end)
    at = end + 1
    return body
  }
  let defining = true
  while (defining) {
    const keyword = take()
    const body = section()
    if (keyword === '$timescale') dump.timescale = body.join('')
    else if (keyword === '$scope') dump.scope = body.join(' ')
    else if (keyword === '$var') {
      const [type = '', size = '', code = '', name = ''] = body
      if (!/^[!-~]+$/.test(code) || byCode.has(code)) throw new Error(`bad code ${code}`)
      if (!/^[A-Za-z_]\w*$/.test(name) || name in dump.vars) throw new Error(`bad name ${name}`)
      const found = { type, size: Number(size), values: [] }
      byCode.set(code, found)
      dump.vars[name] = found
    } else if (keyword === '$enddefinitions') defining = false
    else if (!['$date', '$version', '$comment', '$upscope'].includes(keyword))
      throw new Error(`unknown keyword ${keyword}`)
  }
  const change = (code: string, value: number): void => {
    const found = byCode.get(code)
    if (found === undefined) throw new Error(`no variable has the code ${code}`)
    found.values.push([dump.end, value])
  }
  let dumping = false
  while (at < words.length) {
    const word = take()
    if (word.startsWith('#')) {
      const time = Number(word.slice(1))
      if (!(time >= dump.end)) throw new Error(`time goes back to ${word}`)
      dump.end = time
    } else if (word === '$dumpvars') dumping = true
    else if (word === '$end' && dumping) dumping = false
    else if (/^[01]/.test(word)) change(word.slice(1), Number(word[0]))
    else if (word.startsWith('r')) change(take(), Number(word.slice(1)))
    else throw new Error(`unknown word ${word}`)
  }
  return dump
}

const handles: Record<string, object> = {
  'left-led': { kind: 'output', line: 4, initial: 1 },
  left_led: { kind: 'output', line: 5 },
  arm: { kind: 'pwm', line: 18, frequencyHz: 50 },
  button: { kind: 'input', line: 22 },
  imu: { kind: 'i2c', bus: 1, address: '0x68', simulate: 'mpu6050' },
}

test('a dump holds every handle, its first value and every change, in ns', async () => {
  const sim = await simulate(
    () =>
      robot({ 'left-led': 'output', arm: 'pwm', button: 'input' }, ({ 'left-led': led, arm, every }) => {
        every(0.5, () => led.write(!led.value))
        every(1, () => arm.write(arm.value + 0.125))
      }),
    { board: { name: 'my board', model: 'sim', handles } },
  )
  await sim.run('1ms')
  sim.pull('button', 1)
  await sim.run('0.25ms')
  const dump = read(sim.vcd())
  expect(dump).toEqual({
    timescale: '1ns',
    scope: 'module my_board',
    vars: {
      left_led: {
        type: 'wire',
        size: 1,
        values: [
          [0, 1],
          [0, 0],
          [500_000, 1],
          [1_000_000, 0],
        ],
      },
      left_led_: { type: 'wire', size: 1, values: [[0, 0]] },
      arm: {
        type: 'real',
        size: 64,
        values: [
          [0, 0],
          [0, 0.125],
          [1_000_000, 0.25],
        ],
      },
      button: {
        type: 'wire',
        size: 1,
        values: [
          [0, 0],
          [1_000_000, 1],
        ],
      },
    },
    end: 1_250_000,
  })
  await sim.stop()
})

test('a dump with more handles than one-character codes gives each its own code', () => {
  const recorder = new Recorder(() => 5)
  for (let at = 0; at < 300; at++) recorder.begin(`line${at}`, at % 2)
  const options = { scope: 'many', date: new Date(0), isLevel: () => true }
  const { vars, end } = read([...vcdLines(recorder, options)].join('\n'))
  expect(Object.keys(vars)).toHaveLength(300)
  expect([vars.line298?.values, vars.line299?.values, end]).toEqual([[[0, 0]], [[0, 1]], 5])
})
