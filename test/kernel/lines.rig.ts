/** Lines of a real kernel through the character device: requests, levels that stay, edges. */
import { describe, expect, test } from 'vitest'
import type { BoardHandle } from '../../drivers/board/types.ts'
import type { OwnedHandle } from '../../drivers/owner/backend.ts'
import { LinuxBackend } from '../../drivers/owner/linux/backend.ts'
import type { Edge } from '../../drivers/program/handle.ts'
import { openFds } from '../drivers/host.ts'
import { refusal } from '../drivers/refusal.ts'
import { SCALE } from '../e2e/eventually.ts'
import { heldLines, inRig, levelOf, pull, sleepMs } from './guest.ts'
import { boardOf, bounced, child, heard, one, open, recorded, rest, short, useLines } from './openlines.ts'

/** The kernel keeps this many edges of a line for a reader that is busy. */
const KEPT_EDGES = 1024

useLines()

describe.runIf(inRig)('lines through the character device', () => {
  test('HANDLES 3.2, 11.2: an output has its initial level from the moment of its request', () => {
    const before = openFds()
    const stop = recorded()
    const { backend, handle } = one({ kind: 'output', line: 17, initial: 1 })
    // the chip is found by its label with one query
    expect(stop()).toEqual(['open gpiochip0', 'open gpiochip0', 'request', '17 is 1', '17 out'])
    expect(levelOf(17)).toBe(1)
    expect(handle.value()).toBe(1)
    expect(heldLines()).toEqual(new Map([[17, 'medulla:it']]))
    expect(backend.info('it')).toMatchObject({ opens: 1, initWrites: 1, edges: null, line: 'GPIO17', value: 1 })
    expect(backend.list()).toHaveLength(54)
    expect(backend.list()[17]).toEqual({ line: 'GPIO17', user: 'it', kind: 'output' })
    expect(backend.list()[18]).toEqual({ line: 'GPIO18', user: null, kind: null })
    handle.drive(0, 1)
    expect(levelOf(17)).toBe(0)
    expect(refusal(() => handle.drive(1, 0)).kind).toBe('revoked')
    expect(backend.info('it')).toMatchObject({ staleWrites: 1, fence: 1 })
    handle.close()
    handle.close()
    expect(refusal(() => handle.value()).kind).toBe('no-device')
    expect(openFds()).toBe(before)
  })

  test('an output keeps its level when the program that drives it is killed', async () => {
    const { handle } = one({ kind: 'output', line: 17 })
    const host = await child(handle)
    for (const level of [1, 0, 1]) {
      await host.call('it', 'write', level)
      expect(levelOf(17)).toBe(level)
      expect(handle.value()).toBe(level)
    }
    const stop = recorded()
    await host.end('SIGKILL')
    await rest(20)
    expect(levelOf(17)).toBe(1)
    expect(stop()).toEqual([])
    // the body still has a copy of the descriptor
    handle.close()
    expect(heldLines()).toEqual(new Map())
  })

  test('levels of an active-low line are logical for initial values, writes and reads', async () => {
    pull(27, 0)
    const { handles } = open({
      led: { kind: 'output', line: 17, activeLow: true, initial: 1 },
      button: { kind: 'input', line: 27, activeLow: true },
    })
    const [led, button] = handles as [OwnedHandle, OwnedHandle]
    expect(levelOf(17)).toBe(0)
    expect(led.value()).toBe(1)
    const host = await child(led, button)
    await host.call('led', 'write', 0)
    expect(levelOf(17)).toBe(1)
    expect(await host.call('button', 'read')).toBe(1)
    const edges = heard(button)
    pull(27, 1)
    expect(await host.call('button', 'read')).toBe(0)
    pull(27, 0)
    await expect.poll(() => short(edges)).toEqual(['0#1', '1#2'])
  })

  test('HANDLES 11.12: an open-drain line is not driven at 1, an open-source line not at 0', () => {
    pull(22, 1)
    pull(23, 0)
    const { handles } = open({
      drain: { kind: 'output', line: 22, drive: 'open-drain', initial: 1 },
      source: { kind: 'output', line: 23, drive: 'open-source' },
    })
    const [drain, source] = handles as [OwnedHandle, OwnedHandle]
    expect([levelOf(22), levelOf(23)]).toEqual([1, 0])
    pull(22, 0)
    pull(23, 1)
    // the pull stands for another driver of the line
    expect([drain.value(), source.value()]).toEqual([0, 1])
    pull(22, 1)
    drain.drive(0, 1)
    source.drive(1, 1)
    expect([levelOf(22), levelOf(23)]).toEqual([0, 1])
    expect([drain.value(), source.value()]).toEqual([0, 1])
    drain.drive(1, 1)
    // gpio-sim applies the pull of an input when the pull is written
    pull(22, 1)
    expect(drain.value()).toBe(1)
  })

  test("an input has the board's pull", () => {
    const { handles } = open({
      up: { kind: 'input', line: 5, pull: 'up' },
      down: { kind: 'input', line: 6, pull: 'down' },
    })
    expect(handles.map((handle) => handle.value())).toEqual([1, 0])
  })

  test("the configured edges are reported, numbered, with the kernel's time", async () => {
    for (const line of [5, 6, 13, 27]) pull(line, 0)
    const { handles, backend, notes } = open({
      rising: { kind: 'input', line: 5, edges: 'rising' },
      falling: { kind: 'input', line: 6, edges: 'falling' },
      none: { kind: 'input', line: 13, edges: 'none' },
      both: { kind: 'input', line: 27 },
    })
    const all = handles.map(heard)
    const from = process.hrtime.bigint()
    for (const level of [1, 0, 1, 0] as const) for (const line of [5, 6, 13, 27]) pull(line, level)
    await expect.poll(() => all.map(short)).toEqual([['1#1', '1#2'], ['0#1', '0#2'], [], ['1#1', '0#2', '1#3', '0#4']])
    const times = (all[3] as Edge[]).map(({ ns }) => ns)
    expect(times).toEqual([...times].sort((a, b) => Number(a - b)))
    expect(times[0]).toBeGreaterThan(from)
    expect(times.at(-1)).toBeLessThan(process.hrtime.bigint())
    expect(backend.info('both')).toMatchObject({ edges: 4, kept: { seqno: 4, value: 0 } })
    expect(backend.info('none')).toMatchObject({ edges: 0 })
    expect(notes).toEqual([])
  })

  test('a change shorter than the debounce period is not reported', async ({ skip }) => {
    pull(27, 0)
    const { handle } = one({ kind: 'input', line: 27, debounceMs: 60 * SCALE })
    const edges = heard(handle)
    if (bounced(27) >= 60 * SCALE) skip('this process was stopped in the middle of a bounce')
    await rest(150 * SCALE)
    expect(edges).toEqual([])
    pull(27, 1)
    await expect.poll(() => short(edges)).toEqual(['1#1'])
    expect(handle.value()).toBe(1)
  })

  test('HANDLES 11.5: edges beyond the kernel buffer show as a jump of the number, and are reported', async () => {
    pull(27, 0)
    const { handle, notes } = one({ kind: 'input', line: 27 })
    const edges = heard(handle)
    // The event loop is blocked meanwhile. Far more edges than the buffer holds, as on a busy machine gpio-sim merges some.
    for (let n = 1; n <= KEPT_EDGES + 60; n++) pull(27, (n % 2) as 0 | 1)
    sleepMs(20)
    expect(edges).toEqual([])
    await expect.poll(() => edges.length).toBeGreaterThanOrEqual(KEPT_EDGES)
    expect(edges).toHaveLength(KEPT_EDGES)
    const lost = (edges.at(-1)?.seqno ?? 0) - KEPT_EDGES
    expect(lost).toBeGreaterThan(0)
    expect(edges[0]?.seqno).toBe(lost + 1)
    expect(notes).toEqual([`it: ${lost} edges lost before number ${lost + 1}`])
  })

  test('HANDLES 11.3: a line in use is refused, with its consumer', () => {
    one({ kind: 'output', line: 17, initial: 1 })
    const other = new LinuxBackend({ board: boardOf({}) })
    const entry = boardOf({ led: { kind: 'output', line: 17 } }).handles.led as BoardHandle
    const error = refusal(() => other.open('led', 9, entry))
    expect(error.kind).toBe('busy')
    expect(error.message).toBe('led: GPIO17 is held by "medulla:it"')
    expect(levelOf(17)).toBe(1)
    expect(other.list()[17]).toEqual({ line: 'GPIO17', user: 'medulla:it', kind: null })
    other.close()
  })

  test('HANDLES 11.1: a missing chip is reported with the list of present chips', () => {
    const board = { ...boardOf({}), chip: 'pinctrl-rp1' }
    const backend = new LinuxBackend({ board })
    const entry = boardOf({ led: { kind: 'output', line: 17 } }).handles.led as BoardHandle
    const error = refusal(() => backend.open('led', 1, entry))
    expect(error.kind).toBe('no-device')
    expect(error.message).toBe('led: there is no GPIO chip pinctrl-rp1; this machine has pinctrl-bcm2711')
    expect(backend.list()).toEqual([])
  })
})
