import { robot } from 'medulla'
import { simulate } from 'medulla/test'
import { expect, test } from 'vitest'

const blink = (version: 'v1' | 'v2') => new URL(`../../../robots/blink/${version}/program.ts`, import.meta.url)
const program = (name: string) => new URL(`../../programs/${name}.ts`, import.meta.url)
const counted = {
  handles: {
    led: { kind: 'output', line: 17 },
    enable: { kind: 'output', line: 22, safe: 'hold' },
    dial: { kind: 'pwm', line: 18, frequencyHz: 50, safe: 'hold' },
  },
}
const board = new URL('../../../robots/blink/board.json', import.meta.url)

test('P5: a swap carries state, outputs and deadlines; a held output has no edge; rollback goes back', async () => {
  const sim = await simulate(blink('v1'), { board })
  await sim.run(525)
  expect(sim.state).toEqual({ blinks: 6 })
  const swap = await sim.swap(blink('v2'))
  expect(swap.outcome).toBe('trial')
  await sim.run('2s')
  expect(swap.outcome).toBe('committed')
  // the predecessor's deadlines go on: all changes are at multiples of 50 ms
  const led = sim.changes('led')
  expect(led.every(({ ms }) => ms % 50 === 0)).toBe(true)
  expect(sim.changes('enable').slice(1)).toEqual([{ ms: 0, value: 1 }])
  expect(sim.log.map(({ text }) => text)).toEqual([
    'started at blink 0',
    'took over at blink 6',
    expect.stringMatching(/^blink 2\.0\.0 runs/),
  ])
  const { blinks } = sim.state as { blinks: number }
  await sim.rollback()
  await sim.run('2s')
  expect(sim.log.at(-1)?.text).toMatch(/^blink 1\.0\.0 runs/)
  expect((sim.state as { blinks: number }).blinks).toBeGreaterThan(blinks)
  expect(sim.changes('enable')).toHaveLength(2)
  await sim.stop()
})

test.each([
  ['throws-in-migrate', 'migrate-failed'],
  ['unserialisable', 'bad-state'],
])('a swap to %s fails with %s, and the old program runs on', async (name, code) => {
  const sim = await simulate(program('counter'), { board: counted })
  await sim.run('1s')
  const before = sim.state
  await expect(sim.swap(program(name))).rejects.toMatchObject({ name: 'SimulationError', code })
  expect(sim.state).toEqual(before)
  await sim.run('1s')
  expect(sim.state).not.toEqual(before)
  await sim.stop()
})

test('a swap whose new program throws in its trial is undone, and sim.run throws the cause', async () => {
  const sim = await simulate(blink('v1'), { board })
  await sim.run(500)
  const swap = await sim.swap(() =>
    robot({ led: 'output' }, ({ every }) => {
      let ticks = 0
      every(100, () => {
        if (++ticks === 3) throw new Error('not for long')
      })
    }),
  )
  await expect(sim.run('1s')).rejects.toMatchObject({ code: 'died-in-trial', cause: { message: 'not for long' } })
  expect(swap.outcome).toBe('rolled-back')
  const { blinks } = sim.state as { blinks: number }
  await sim.run('1s')
  expect((sim.state as { blinks: number }).blinks).toBe(blinks + 10)
  expect(sim.changes('enable')).toHaveLength(2)
  await sim.stop()
})

test('a swap fails with yield-timeout and the reason while the program holds', async () => {
  const sim = await simulate(
    () =>
      robot({ led: 'output' }, ({ every, hold }) => {
        let release = () => {}
        every(500, () => {
          release()
          release = hold('the arm is moving')
        })
      }),
    { board },
  )
  await sim.run(100)
  await expect(sim.swap(blink('v1'))).rejects.toMatchObject({
    code: 'yield-timeout',
    message: expect.stringContaining('the arm is moving'),
  })
  expect(sim.ms).toBe(200)
  await sim.stop()
})

async function life(seed: number) {
  const sim = await simulate(
    () =>
      robot({ led: 'output', lamp: 'output', servo: 'pwm' }, ({ led, lamp, servo, every, log }) => {
        every(7, () => led.write(Math.random() < 0.5))
        every(31, () => servo.write(Math.random() / 10))
        setInterval(() => log(`${new Date().toISOString()} ${lamp.value}`), 100)
        every(90, async () => {
          await new Promise((resolve) => setTimeout(resolve, 12))
          lamp.write(!lamp.value)
        })
      }),
    { board, seed, crashes: 'log' },
  )
  await sim.run('3s')
  await sim.swap(blink('v2'))
  await sim.run('2s')
  await sim.crash()
  await sim.run('2s')
  await sim.rollback()
  await sim.run('2s')
  await sim.stop()
  return { vcd: sim.vcd(), log: sim.log, receipts: sim.receipts }
}

test('G3: the same calls give the same trace to the byte, and another seed gives another trace', async () => {
  const first = await life(7)
  expect(first.vcd.length).toBeGreaterThan(5000)
  expect(await life(7)).toEqual(first)
  expect((await life(8)).vcd).not.toBe(first.vcd)
})

test('an hour of a 100 Hz program is simulated without a lost tick', { tags: ['slow'] }, async () => {
  const sim = await simulate(
    () =>
      robot({
        needs: { led: 'output' },
        state: { version: 1, initial: () => ({ ticks: 0 }) },
        run({ led, state, every }) {
          every(10, () => {
            led.write(++state.ticks % 100 === 0)
          })
        },
      }),
    { board },
  )
  await sim.run('1h')
  expect([sim.ms, sim.state]).toEqual([3_600_000, { ticks: 360_001 }])
  expect(sim.changes('led')).toHaveLength(7201)
  await sim.stop()
})
