import { robot } from 'medulla'
import { Button } from 'medulla/drivers'
import { type Simulation, simulate } from 'medulla/test'
import { expect, test } from 'vitest'

const board = { handles: { key: { kind: 'input', line: 27, pull: 'down', debounceMs: 5 } } }

/** Calls of `onHold`: their time, and the time of the press that they were given. */
let holds: { ms: number; pressMs: number }[] = []
let sim: Simulation

/** A program with one Button for each of these hold times. */
const program =
  (...holdMs: number[]) =>
  () =>
    robot({
      needs: { key: 'input' },
      state: { version: 1, initial: () => ({ presses: 0, releases: 0 }) },
      run({ key, state, every }) {
        const buttons = holdMs.map((ms) => new Button(key, { holdMs: ms }))
        buttons[0]?.onPress(() => void state.presses++)
        buttons[0]?.onRelease(() => void state.releases++)
        const start = BigInt(Math.round(performance.now() * 1e6)) - BigInt(Math.round(sim.ms * 1e6))
        for (const button of buttons) {
          button.onHold((ns) => holds.push({ ms: sim.ms, pressMs: Number(ns - start) / 1e6 }))
        }
        every(10, (dt) => {
          for (const button of buttons) button.tick(dt)
        })
      },
    })

/** Presses the key at 1 s and holds it down during `during`. Returns the times of the calls of `onHold`. */
async function held(first: () => unknown, during: () => Promise<unknown>): Promise<number[]> {
  holds = []
  // `run` reads sim.ms already while `simulate` runs
  sim = { ms: 0 } as Simulation
  sim = await simulate(first as never, { board, crashes: 'log' })
  await sim.run('1s')
  sim.pull('key', 1)
  await during()
  await sim.run('5s')
  await sim.stop()
  for (const { pressMs } of holds) expect(pressMs).toBeCloseTo(1005, 0)
  return holds.map(({ ms }) => Math.round(ms))
}

const three = program(3000)
const at = (ms: number) => sim.run(ms - sim.ms)

test('HANDLES 3.13: a hold goes on over a swap, and onHold is called once, at its time', async () => {
  const due = await held(three, () => sim.run('4s'))
  expect(due).toHaveLength(1)
  expect(Math.abs((due[0] ?? 0) - 4005)).toBeLessThanOrEqual(10)
  for (const swapAt of [1100, 2500, 3950]) {
    const swapped = async () => {
      await at(swapAt)
      await sim.swap(three as never)
    }
    const times = await held(three, swapped)
    expect(times, `${swapAt}`).toHaveLength(1)
    expect(Math.abs((times[0] ?? 0) - 4005)).toBeLessThanOrEqual(15)
  }
})

test('onHold is called once, whatever the instant of a swap around its time', async () => {
  for (let swapAt = 3985; swapAt <= 4025; swapAt += 5) {
    const swapped = async () => {
      await at(swapAt)
      await sim.swap(three as never)
    }
    expect(await held(three, swapped), `${swapAt}`).toHaveLength(1)
  }
})

test('onHold is not called again in later programs while the key stays down', async () => {
  const twice = async () => {
    await at(4500)
    await sim.swap(three as never)
    await at(7000)
    await sim.swap(three as never)
  }
  expect(await held(three, twice)).toHaveLength(1)
})

test('the next press after a swap is counted from its own edge', async () => {
  const again = async () => {
    await at(2500)
    await sim.swap(three as never)
    sim.pull('key', 0)
    await sim.run(100)
    sim.pull('key', 1)
    await sim.run(2900)
    expect(holds).toEqual([])
    sim.pull('key', 0)
    await sim.run(100)
    expect(sim.state).toEqual({ presses: 2, releases: 2 })
  }
  expect(await held(three, again)).toEqual([])
})

test("a successor's longer hold time counts from the press; a shorter one that has passed does not call onHold", async () => {
  const change = (next: () => unknown) => async () => {
    await at(4500)
    await sim.swap(next as never)
  }
  const longer = await held(three, change(program(5000)))
  expect(longer).toHaveLength(2)
  expect(Math.abs((longer[1] ?? 0) - 6005)).toBeLessThanOrEqual(15)
  expect(await held(three, change(program(1000)))).toHaveLength(1)
})

test('two Buttons on one input with different hold times each call onHold once over a swap', async () => {
  const both = program(500, 3000)
  const swapped = async () => {
    await at(2000)
    await sim.swap(both as never)
  }
  expect(await held(both, swapped)).toHaveLength(2)
})

test('a press made before a program without a Button, or before a crash, counts from its edge', async () => {
  const taken = await held(program(), async () => {
    await at(2000)
    await sim.swap(three as never)
  })
  expect(taken).toHaveLength(1)
  expect(Math.abs((taken[0] ?? 0) - 4005)).toBeLessThanOrEqual(15)
  const crashed = await held(three, async () => {
    await at(1500)
    await sim.crash()
  })
  expect(crashed).toHaveLength(1)
  expect(Math.abs((crashed[0] ?? 0) - 4005)).toBeLessThanOrEqual(15)
})
