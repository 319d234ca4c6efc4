/** Lines of a real kernel through sysfs (HANDLES 11.8 to 11.11). */
import { readlinkSync, writeFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import type { BoardHandle } from '../../drivers/board/types.ts'
import type { OwnedHandle } from '../../drivers/owner/backend.ts'
import { LinuxBackend } from '../../drivers/owner/linux/backend.ts'
import { failure } from '../drivers/host.ts'
import { refusal } from '../drivers/refusal.ts'
import { SCALE } from '../e2e/eventually.ts'
import { gpioBase, heldLines, inRig, levelOf, pull } from './guest.ts'
import { boardOf, bounced, child, heard, one, open, recorded, rest, short, useLines, whenOver } from './openlines.ts'

useLines()

describe.runIf(inRig)('lines through sysfs', () => {
  const exported = (line: number) => `/sys/class/gpio/gpio${gpioBase() + line}`
  const byHand = (line: number, file: string, text: string) => writeFileSync(`${exported(line)}/${file}`, text)
  const exportLine = (line: number) => {
    writeFileSync('/sys/class/gpio/export', String(gpioBase() + line))
    whenOver(() => {
      try {
        writeFileSync('/sys/class/gpio/unexport', String(gpioBase() + line))
      } catch {
        // close() has unexported the line
      }
    })
  }

  test('HANDLES 11.8: a new line gets its initial level in one write', () => {
    const stop = recorded()
    const { backend, handle } = one({ kind: 'output', line: 17, initial: 1, driver: 'sysfs' })
    expect(stop().filter((text) => !text.startsWith('open '))).toEqual(['export', '17 is 1', '17 out'])
    expect(levelOf(17)).toBe(1)
    expect(backend.info('it')).toMatchObject({ opens: 1, initWrites: 1, value: 1 })
    expect(backend.list()[17]).toEqual({ line: 'GPIO17', user: 'it', kind: 'output' })
    handle.drive(0, 1)
    expect(levelOf(17)).toBe(0)
    handle.close()
    expect(heldLines()).toEqual(new Map())
  })

  test('HANDLES 11.8: an exported output keeps its level, an exported input gets the initial one', () => {
    exportLine(17)
    byHand(17, 'direction', 'high')
    exportLine(22)
    const stop = recorded()
    const { backend, handles } = open({
      led: { kind: 'output', line: 17, initial: 0, driver: 'sysfs' },
      lamp: { kind: 'output', line: 22, initial: 1, driver: 'sysfs' },
    })
    expect(stop().filter((text) => !text.startsWith('open '))).toEqual(['22 is 1', '22 out'])
    expect(handles.map((handle) => handle.value())).toEqual([1, 1])
    expect(backend.info('led')).toMatchObject({ initWrites: 0, value: 1 })
    expect(backend.info('lamp')).toMatchObject({ initWrites: 1, value: 1 })
  })

  test('initial level, writes, reads and edges of an active-low sysfs line are logical', async () => {
    pull(27, 1)
    const { handles } = open({
      led: { kind: 'output', line: 17, activeLow: true, initial: 1, driver: 'sysfs' },
      button: { kind: 'input', line: 27, activeLow: true, edges: 'rising', driver: 'sysfs' },
    })
    const [led, button] = handles as [OwnedHandle, OwnedHandle]
    expect(levelOf(17)).toBe(0)
    const host = await child(led, button)
    await host.call('led', 'write', 0)
    expect(levelOf(17)).toBe(1)
    expect(led.value()).toBe(0)
    const edges = heard(button)
    for (const level of [0, 1, 0] as const) {
      pull(27, level)
      await rest(40)
      expect(await host.call('button', 'read')).toBe(level === 0 ? 1 : 0)
    }
    await expect.poll(() => short(edges)).toEqual(['1#1', '1#2'])
  })

  test("HANDLES 11.10: a program's reads take no edge from the body, and its descriptor allows no more", async () => {
    pull(27, 0)
    const { handles } = open({
      led: { kind: 'output', line: 17, driver: 'sysfs' },
      button: { kind: 'input', line: 27, driver: 'sysfs' },
    })
    const [led, button] = handles as [OwnedHandle, OwnedHandle]
    const edges = heard(button)
    const host = await child(led, button)
    pull(27, 1)
    // the program reads before the body has handled the edge
    expect(await host.call('button', 'read')).toBe(1)
    await expect.poll(() => short(edges)).toEqual(['1#1'])
    const table = Array.from({ length: 32 }, (_, fd) => {
      try {
        return readlinkSync(`/proc/${host.child.pid}/fd/${fd}`)
      } catch {
        return ''
      }
    })
    // the program's own epoll descriptors, none of which is the body's
    expect(table.filter((target) => target.startsWith('/sys/'))).toHaveLength(2)
    expect(await failure(host.call('led', 'write', 1))).toBe('none')
  })

  test('a change is reported only after the debounce period', async ({ skip }) => {
    pull(27, 0)
    const { handle } = one({ kind: 'input', line: 27, debounceMs: 80 * SCALE, driver: 'sysfs' })
    const edges = heard(handle)
    if (bounced(27) >= 80 * SCALE) skip('this process was stopped in the middle of a bounce')
    await rest(200 * SCALE)
    expect(edges).toEqual([])
    pull(27, 1)
    await expect.poll(() => short(edges)).toEqual(['1#1'])
  })

  test('HANDLES 11.11: options that sysfs cannot provide are refused, and no line stays exported', () => {
    const backend = new LinuxBackend({ board: boardOf({}) })
    const { button, led } = boardOf({
      button: { kind: 'input', line: 27, driver: 'sysfs' },
      led: { kind: 'output', line: 17, driver: 'sysfs' },
    }).handles as { button: BoardHandle; led: BoardHandle }
    const refused = (entry: BoardHandle, more: object = {}) =>
      refusal(() => backend.open('it', 1, { ...entry, ...more } as BoardHandle))
    // the board file is refused before
    expect(refused(button, { pull: 'up' }).kind).toBe('unsupported')
    expect(refused(led, { drive: 'open-drain' }).message).toBe(
      'it: sysfs cannot do drive open-drain: write "driver": "cdev"',
    )
    expect(heldLines()).toEqual(new Map())
    one({ kind: 'output', line: 17 })
    expect(refused(led).kind).toBe('busy')
  })
})
