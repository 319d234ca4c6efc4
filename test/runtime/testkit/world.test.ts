import { robot } from 'medulla'
import { edited, simulate } from 'medulla/test'
import { expect, test } from 'vitest'

const blink = new URL('../../../robots/blink/v1/program.ts', import.meta.url)
const board = new URL('../../../robots/blink/board.json', import.meta.url)

test('a model of the world runs in simulated time, before a tick that is due at the same time', async () => {
  const seen: string[] = []
  const sim = await simulate(
    () =>
      robot({ button: 'input' }, ({ button, every }) => {
        every(10, () => seen.push(`tick ${button.read()}`))
      }),
    { board: { model: 'sim', handles: { button: { kind: 'input', line: 17 } } }, rehearsals: 0 },
  )
  sim.every(10, (dt) => {
    sim.pull('button', sim.ms % 20 === 0 ? 1 : 0)
    seen.push(`world ${dt} ${sim.ms}`)
  })
  await sim.run(25)
  expect(seen).toEqual(['tick 0', 'world 0.01 10', 'tick 0', 'world 0.01 20', 'tick 1'])
  expect(() => sim.every(0, () => {})).toThrow('expected more than 0 ms, got 0')
  await sim.stop()
})

test("a model's exception is thrown by the call that lets time pass", async () => {
  const sim = await simulate(blink, { board })
  sim.every(7, () => {
    throw new Error('off the table')
  })
  await expect(sim.run(6)).resolves.toBe(false)
  await expect(sim.run(1)).rejects.toThrow('off the table')
  await sim.stop()
})

test('edited() makes a new version to swap to, and refuses a text that is not in the file', async () => {
  const sim = await simulate(blink, { board })
  await sim.run(100)
  const swap = await sim.swap(edited(blink, 'every(50,', 'every(25,'))
  await sim.run('2s')
  expect(swap.outcome).toBe('committed')
  expect(sim.changes('led').filter(({ ms }) => ms >= 1000 && ms < 1100)).toHaveLength(4)
  expect(() => edited(blink, 'no such text', '')).toThrow(/program\.ts: expected "no such text" once, found it 0 times/)
  await sim.stop()
})
