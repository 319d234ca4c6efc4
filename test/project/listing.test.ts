/** The program on the front page does what the page says. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { simulate } from 'medulla/test'
import { expect, onTestFinished, test } from 'vitest'
import { text } from './tree.ts'

const board = {
  handles: {
    led: { kind: 'output', line: 'GPIO17', safe: 0 },
    button: { kind: 'input', line: 'GPIO23', pull: 'down' },
  },
}

test('the program in README.md blinks, is lit by its button, and hands its state over', async () => {
  const [, program = ''] = /^```ts\n(.*?)^```$/ms.exec(text('README.md')) ?? []
  const folder = mkdtempSync(join(tmpdir(), 'medulla-listing-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'program.ts')
  writeFileSync(file, program)
  const sim = await simulate(file, { board })
  await sim.run('2s')
  const { blinks } = sim.state as { blinks: number }
  expect(blinks).toBeGreaterThan(2)
  await sim.swap(file)
  expect(sim.log.at(-1)?.text).toBe(`goes on at blink ${blinks}`)
  sim.pull('button', 1)
  await sim.run('1s')
  expect(sim.value('led')).toBe(1)
  await sim.stop()
})

test('the front page has at most 150 lines', () => {
  expect(text('README.md').split('\n').length).toBeLessThanOrEqual(150)
})
