import { expect, test } from 'vitest'
import { parseBoard } from '../../../../drivers/board/board.ts'
import type { BoardHandle } from '../../../../drivers/board/types.ts'
import { VirtualClock } from '../../../../drivers/owner/sim/clock.ts'
import { type TraceEntry, World } from '../../../../drivers/owner/sim/world.ts'
import type { Edge } from '../../../../drivers/program/handle.ts'

function worldOf(handles: Record<string, unknown>, wires: [string, string][] = [], ring?: number) {
  const board = parseBoard(JSON.stringify({ model: 'sim', handles, wires }), 'board.json')
  const clock = new VirtualClock(1000n)
  const world = new World({ clock, wires: board.wires, ...(ring === undefined ? {} : { ring }) })
  for (const name in board.handles) world.attach(name, board.handles[name] as BoardHandle)
  const edges: Edge[] = []
  if ('button' in handles) world.onEdge('button', (edge) => edges.push(edge))
  return { world, clock, board, edges }
}

const led = { kind: 'output', line: 17 }
const button = { kind: 'input', line: 27 }
const short = ({ name, value, ns, fence, accepted }: TraceEntry) => [name, value, ns, fence, accepted]

test('HANDLES 9.1: the trace has every write with its time and fence', () => {
  const { world, clock } = worldOf({ led, button }, [['led', 'button']])
  const seen: TraceEntry[] = []
  const stop = world.onChange((change) => seen.push(change))
  world.allowFence(5)
  clock.advance(10n)
  world.write('led', 1, 5)
  clock.advance(10n)
  world.write('led', 1, 5)
  expect(() => world.write('led', 0, 4)).toThrow('led: fence 4 is not the current one (5)')
  expect(() => world.write('led', 0, 6)).toThrow('led: fence 6 is not the current one (5)')
  stop()
  world.write('led', 0, 5)
  expect(seen.map(short)).toEqual([
    ['led', 1, 1010n, 5, true],
    ['button', 1, 1010n, 0, true],
    ['led', 1, 1020n, 5, true],
    ['led', 0, 1020n, 4, false],
    ['led', 0, 1020n, 6, false],
  ])
  expect(seen.map(({ changed }) => changed)).toEqual([true, true, false, false, false])
  expect(world.pin('led')).toMatchObject({ value: 0, edges: 2, staleWrites: 2, opens: 1, initWrites: 1, fence: 5 })
})

test('the trace is bounded and keeps the newest', () => {
  const { world } = worldOf({ led }, [], 3)
  for (let i = 0; i < 10; i++) world.drive('led', i % 2 === 0 ? 1 : 0, i)
  expect(world.trace.count).toBe(11)
  expect(world.trace.recent().map(({ fence }) => fence)).toEqual([7, 8, 9])
})

test('HANDLES 3.3: a write of the body fences out older writers, and is refused after newer ones', () => {
  const { world } = worldOf({ led })
  world.allowFence(7)
  world.drive('led', 1, 7)
  expect(() => world.write('led', 0, 6)).toThrow('fence 6')
  expect(() => world.drive('led', 0, 6)).toThrow('fence 6')
  world.raise('led', 9)
  world.raise('led', 8)
  expect(world.pin('led').fence).toBe(9)
  expect(() => world.write('led', 0, 7)).toThrow('fence 7')
  expect(world.pin('led').value).toBe(1)
})

test('HANDLES 9.2: a wire overrides a pull while its output is open', () => {
  const { world, edges } = worldOf({ led, button: { ...button, pull: 'up' } }, [['led', 'button']])
  world.drive('led', 0, 1)
  expect(world.pin('button').value).toBe(0)
  world.pull('button', 1)
  expect(world.pin('button').value).toBe(0)
  world.detach('led')
  expect(world.pin('button').value).toBe(1)
  world.pull('button', 0)
  world.pull('button', null)
  expect(edges.map(({ level, seqno }) => [level, seqno])).toEqual([
    [1, 1],
    [0, 2],
    [1, 3],
  ])
})

test('HANDLES 1.3: activeLow inverts the line at either end of a wire', () => {
  const { world } = worldOf(
    { led: { ...led, activeLow: true }, button, inverse: { kind: 'input', line: 22, pull: 'up', activeLow: true } },
    [['led', 'button']],
  )
  world.drive('led', 1, 1)
  expect(world.pin('button').value).toBe(0)
  expect(world.pin('inverse').value).toBe(0)
  world.pull('inverse', 0)
  expect(world.pin('inverse').value).toBe(1)
})

test.each([
  [
    'both',
    [
      [1, 1],
      [0, 2],
      [1, 3],
    ],
  ],
  [
    'rising',
    [
      [1, 1],
      [1, 2],
    ],
  ],
  ['falling', [[0, 1]]],
  ['none', []],
])('HANDLES 1.4: edges %s are counted and timed', (wanted, expected) => {
  const { world, clock, edges } = worldOf({ button: { ...button, edges: wanted } })
  for (const level of [1, 0, 0, 1] as const) {
    clock.advance(1n)
    world.pull('button', level)
  }
  expect(edges.map(({ level, seqno }) => [level, seqno])).toEqual(expected)
  if (wanted === 'both') expect(edges.map(({ ns }) => ns)).toEqual([1001n, 1002n, 1004n])
})

test('HANDLES 9.3: a change shorter than the debounce period is ignored', () => {
  const { world, clock, edges } = worldOf({ button: { ...button, debounceMs: 5 } })
  for (const level of [1, 0, 1, 0, 1] as const) {
    world.pull('button', level)
    clock.advance(4_000_000n)
  }
  expect(edges).toEqual([])
  clock.advance(1_000_000n)
  expect(edges).toEqual([{ level: 1, ns: 21_001_000n, seqno: 1 }])
  world.pull('button', 0)
  clock.advance(1n)
  world.pull('button', 1)
  clock.advance(10_000_000n)
  expect(edges.length).toBe(1)
})

test('HANDLES 3.1: a line can be opened once', () => {
  const { world, board } = worldOf({ led, button })
  const entry = board.handles.led as BoardHandle
  expect(() => world.attach('led', entry)).toThrow('led: GPIO17 is held by led')
  expect(() => world.attach('lamp', entry)).toThrow('lamp: GPIO17 is held by led')
  world.detach('led')
  expect(() => world.drive('led', 1, 1)).toThrow('led: is not open')
  world.attach('lamp', entry)
})

test('HANDLES 3.9: an adopted handle continues with its value, fence and edges', () => {
  const { world, board, edges } = worldOf({ led, button })
  const other = new World({ clock: new VirtualClock() })
  other.attach('led', board.handles.led as BoardHandle, { value: 1, fence: 12 })
  expect(other.pin('led')).toMatchObject({ value: 1, fence: 12, opens: 0, initWrites: 0, edges: 0 })
  expect(other.trace.count).toBe(0)
  other.attach('button', board.handles.button as BoardHandle, { fence: 0, seqno: 41 })
  other.onEdge('button', (edge) => edges.push(edge))
  other.pull('button', 1)
  expect(edges[0]?.seqno).toBe(42)
  expect(world.pin('led').initWrites).toBe(1)
})

test('HANDLES 6.5, 6.4: a duty cycle goes to its limits, and an invalid one is refused', () => {
  const { world } = worldOf({ arm: { kind: 'pwm', line: 18, frequencyHz: 50, min: 0.1, max: 0.2, initial: 0.15 } })
  world.drive('arm', 1, 1)
  expect(world.pin('arm').value).toBe(0.2)
  for (const bad of [Number.NaN, -1, 1.5]) expect(() => world.drive('arm', bad, 1)).toThrow(`got ${bad}`)
  expect(world.pin('arm').value).toBe(0.2)
})

test('HANDLES 9.4: a time stamp counts when it lies within the last second', () => {
  const { world, clock } = worldOf({ led })
  world.allowFence(1)
  clock.advance(5_000_000_000n)
  const now = clock.now()
  for (const stamp of [now - 5n, now + 5n, now - 2_000_000_000n]) world.write('led', 1, 1, stamp)
  expect(
    world.trace
      .recent()
      .slice(1)
      .map(({ ns }) => ns),
  ).toEqual([now - 5n, now, now])
})

test('only inputs can be pulled, and only chips poked', () => {
  const { world } = worldOf({ led, button })
  expect(() => world.pull('led', 1)).toThrow('led: only an input can be pulled')
  expect(() => world.poke('led', 'temp', 1)).toThrow('led: only a chip can be poked')
  expect(() => world.drive('button', 1, 1)).toThrow('button: kind input cannot be written')
})
