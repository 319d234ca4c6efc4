/** Errors of simulated programs name the line of the author's file, as on a robot. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { type Simulation, simulate } from '../../../runtime/testkit/index.ts'
import { tempFolder } from '../../fixtures/tools.ts'

const board = { handles: { led: { kind: 'output', line: 17 } } }

async function started(body: readonly string[], options: object = {}): Promise<Simulation> {
  const folder = join(tempFolder(), 'walker')
  mkdirSync(join(folder, 'lib'), { recursive: true })
  writeFileSync(join(folder, 'lib/deep.ts'), "export function deep(): never {\n  throw new TypeError('too deep')\n}\n")
  const head = ["import { robot } from 'medulla'", "import { deep } from './lib/deep.ts'"]
  const file = join(folder, 'program.ts')
  writeFileSync(file, [...head, "robot({ led: 'output' }, ({ led, every, log }) => {", ...body, '})'].join('\n'))
  const sim = await simulate(file, { board, ...options })
  onTestFinished(() => sim.stop().catch(() => {}))
  return sim
}

test('a crash names the line, and the stack of its cause has only frames of the program', async () => {
  const sim = await started([
    '  let n = 0',
    '  every(100, () => {',
    '    if (++n === 5) deep()',
    '    led.write(1)',
    '  })',
  ])
  const crash = await sim.run('1s').catch((error: Error) => error)
  expect(crash).toMatchObject({
    code: 'crashed',
    message: 'at 400 ms the program crashed: TypeError: too deep at lib/deep.ts:2:9',
  })
  const { stack = '' } = (crash as Error).cause as Error
  expect(stack.split('\n').slice(0, 3)).toEqual([
    'TypeError: too deep',
    '    at deep (lib/deep.ts:2:9)',
    '    at program.ts:6:20',
  ])
  expect(sim.log.map(({ text }) => text).join('\n')).toContain('at deep (lib/deep.ts:2:9)')
})

test('a program that throws in run does not start, and the error names the line', async () => {
  await expect(started(["  throw new Error('no legs')"])).rejects.toThrow('no legs at program.ts:4:9')
})

test('log takes what console.log takes', async () => {
  const sim = await started(["  log('distance', 231)", "  log('too close', 'warn')", '  log({ a: [1] })'])
  await sim.run('10ms')
  const lines = sim.log.filter(({ stream }) => stream === 'log').map(({ level, text }) => [level, text])
  expect(lines).toEqual([
    ['info', 'distance 231'],
    ['warn', 'too close'],
    ['info', '{ a: [ 1 ] }'],
  ])
})
