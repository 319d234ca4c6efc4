import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { EXIT } from '../../../../deploy/laptop/cli/exit.ts'
import { SCALE } from '../../../e2e/eventually.ts'
import { Laptop } from './medulla.ts'

let laptop: Laptop
beforeEach(() => {
  laptop = new Laptop()
})
afterEach(() => laptop.close())

const at = (path: string): string => fileURLToPath(new URL(`../../../../${path}`, import.meta.url))
const BLINK = at('robots/blink/v1')
const board = { model: 'sim', handles: { led: { kind: 'output', line: 17 }, button: { kind: 'input', line: 27 } } }

/** Writes a program and a scenario into the laptop's folder. */
function write(run: string, scenario: object): string {
  writeFileSync(join(laptop.dir, 'board.json'), JSON.stringify(board))
  writeFileSync(
    join(laptop.dir, 'program.ts'),
    `import { robot } from 'medulla'\nrobot({ led: 'output', button: 'input' }, ({ led, button, every, log }) => { ${run} })\n`,
  )
  const file = join(laptop.dir, 'scenario.json')
  writeFileSync(file, JSON.stringify({ program: 'program.ts', board: 'board.json', ...scenario }))
  return file
}

test('a scenario that comes true exits 0, prints the log, and writes every pin to a file', {
  tags: ['slow'],
}, async () => {
  const file = at('robots/button-counter/scenario.json')
  expect(await laptop.run('sim', '--scenario', file, '--vcd', 'pins.vcd')).toEqual({
    status: EXIT.ok,
    stdout: [
      '    1.005 s  pressed 1 times',
      '    2.000 s  [runtime] crashed after 2 s',
      '    2.100 s  [runtime] started again',
      'passed  after 3.000 s of simulated time',
      '',
    ].join('\n'),
    stderr: '',
  })
  const dump = readFileSync(join(laptop.dir, 'pins.vcd'), 'utf8')
  expect(dump).toContain('$var wire 1 " lamp $end')
  expect(dump.slice(dump.indexOf('#1005000000'))).toBe(
    '#1005000000\n1!\n1"\n#1210000000\n0!\n#2000000000\n0"\n#3000000000\n',
  )
  const { status, events } = await laptop.json('sim', '--scenario', file)
  expect(status).toBe(EXIT.ok)
  expect(events.at(-1)).toEqual({ event: 'scenario', passed: true, ms: 3000 })
  expect(events).toContainEqual({ event: 'log', ms: 1005, stream: 'log', level: 'info', text: 'pressed 1 times' })
  expect(events.filter(({ event }) => event === 'step')).toHaveLength(9)
})

test('--expect, --fail and --timeout work without a scenario file', {
  tags: ['slow'],
}, async () => {
  expect(await laptop.run('sim', BLINK, '--expect', 'x', '--fail', 'started')).toMatchObject({
    status: EXIT.failed,
    stderr: expect.stringContaining('medulla: error: at 0 ms: started at blink 0\n'),
  })
  expect(await laptop.run('sim', BLINK, '--expect', 'x', '--timeout', '10m')).toMatchObject({
    status: EXIT.timeout,
    stderr: expect.stringContaining('medulla: error: nothing logged "x" within 600000 ms\n'),
  })
  write("console.log('printed', 'by it'); every(10, () => {})", {})
  expect(await laptop.run('sim', 'program.ts', '--expect', 'printed by it')).toMatchObject({
    status: EXIT.ok,
    stdout: expect.stringContaining('    0.000 s  [stdout] printed by it\n'),
  })
})

test('a program that blocks the process is ended', { tags: ['slow'] }, async () => {
  // a fifth of the 10 s that a simulation may be blocked
  const scale = 0.2 * SCALE
  const env = { MEDULLA_TIME_SCALE: String(scale) }
  write('every(10, () => { for (;;); })', {})
  const spins = await laptop.start(['sim', 'program.ts', '--expect', 'x'], env).ended
  expect(spins).toMatchObject({
    status: EXIT.timeout,
    stderr: expect.stringContaining(`blocked the simulation for ${10 * scale} s`),
  })
  write('const again = () => setImmediate(again); again()', {})
  const turns = await laptop.start(['sim', 'program.ts', '--expect', 'x'], env).ended
  expect(turns).toMatchObject({
    status: EXIT.timeout,
    stderr: expect.stringContaining(`blocked the simulation for ${10 * scale} s`),
  })
})

test('a wrong scenario file exits 2, with the place and what to write', async () => {
  const file = join(laptop.dir, 's.json')
  writeFileSync(file, '{ "steps": [ { "pul": {} } ] }')
  expect(await laptop.run('sim', BLINK, '--scenario', file)).toEqual({
    status: EXIT.usage,
    stdout: '',
    stderr: `medulla: error: ${file}:1:16: steps[0].pul: unknown key\nmedulla: hint: write "pull"\n`,
  })
})

test('a scenario without a program, and scenario options without a scenario, are refused', {
  tags: ['slow'],
}, async () => {
  expect(await laptop.run('sim', '--vcd', 'x.vcd')).toMatchObject({
    status: EXIT.usage,
    stderr: 'medulla: error: --vcd needs --scenario or --expect\nmedulla: hint: medulla sim --help\n',
  })
  const file = write('', {})
  writeFileSync(join(laptop.dir, 'board.json'), '{ "model": "sim", "handles": {} }')
  expect(await laptop.run('sim', '--scenario', file)).toMatchObject({
    status: EXIT.refused,
    stderr: expect.stringContaining("program needs output 'led', this board has: none"),
  })
  writeFileSync(join(laptop.dir, 'program.ts'), 'not a program')
  expect(await laptop.run('sim', '--scenario', file)).toMatchObject({ status: EXIT.build })
})

test('--scenario-schema prints a JSON schema', async () => {
  const { status, stdout } = await laptop.run('sim', '--scenario-schema')
  expect(status).toBe(EXIT.ok)
  const schema = JSON.parse(stdout)
  expect(Object.keys(schema.properties)).toEqual(
    expect.arrayContaining(['program', 'board', 'params', 'seed', 'timeout', 'crashes', 'steps']),
  )
  expect(schema.properties.steps.items.properties['wait-log']).toMatchObject({ type: 'string' })
})
