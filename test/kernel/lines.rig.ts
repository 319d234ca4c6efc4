/** Lines of a real kernel: requests, levels that stay, and what other processes can do with inherited descriptors. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readlinkSync, writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { parseBoard } from '../../drivers/board/board.ts'
import type { Board, BoardHandle } from '../../drivers/board/types.ts'
import { HardwareError } from '../../drivers/errors.ts'
import { grantOf, type OwnedHandle } from '../../drivers/owner/backend.ts'
import { LinuxBackend } from '../../drivers/owner/linux/backend.ts'
import type { Edge } from '../../drivers/program/handle.ts'
import { bundle, failure, type Host, openFds, startHost, temporary } from '../drivers/host.ts'
import { FIRST_FD } from '../drivers/rigs.ts'
import { SCALE } from '../e2e/eventually.ts'
import { gpioBase, heldLines, inRig, levelOf, pull, sleepMs } from './guest.ts'
import { trace } from './trace.ts'

/** Name of the open file of a line request (drivers/owner/linux/lines.ts). */
const KEPT_EDGES = 1024

const NODE_PATH = fileURLToPath(new URL('../../node_modules', import.meta.url))

const folder = temporary()
let program: string
let heir: string
beforeAll(async () => {
  program = await bundle('children/host.ts', folder.path)
  heir = await bundle('../kernel/children/heir.ts', folder.path, 'heir.mjs')
})
afterAll(() => folder.remove())

let atEnd: (() => unknown)[] = []
afterEach(async () => {
  for (const undo of atEnd.reverse()) await undo()
  atEnd = []
  expect(heldLines()).toEqual(new Map())
})

function boardOf(handles: Record<string, object>): Board {
  return parseBoard(JSON.stringify({ model: 'pi4', handles }), 'board.json')
}

interface Opened {
  backend: LinuxBackend
  board: Board
  notes: string[]
  handles: OwnedHandle[]
}

function open(handles: Record<string, object>): Opened {
  const board = boardOf(handles)
  const notes: string[] = []
  const backend = new LinuxBackend({ board, note: (text) => notes.push(text) })
  atEnd.push(() => backend.close())
  const owned = Object.entries(board.handles).map(([name, entry], index) => backend.open(name, index + 1, entry))
  return { backend, board, notes, handles: owned }
}

function one(handle: object): Opened & { handle: OwnedHandle } {
  const opened = open({ it: handle })
  return { ...opened, handle: opened.handles[0] as OwnedHandle }
}

async function child(...handles: OwnedHandle[]): Promise<Host> {
  const fds: number[] = []
  const grants = handles.map((handle) => {
    const source = handle.grant()
    if (source.via === 'inherit') fds.push(source.fd)
    return grantOf(handle, source, FIRST_FD + fds.length - 1)
  })
  const host = await startHost(program, grants, fds)
  atEnd.push(() => host.end())
  await host.send({ op: 'lease', lease: { live: true, fence: 1 } })
  return host
}

function heard(handle: OwnedHandle): Edge[] {
  const edges: Edge[] = []
  handle.onEdge((edge) => edges.push(edge))
  return edges
}

const short = (edges: readonly Edge[]): string[] => edges.map(({ level, seqno }) => `${level}#${seqno}`)
const rest = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

function refusal(work: () => unknown): HardwareError {
  try {
    work()
  } catch (error) {
    if (error instanceof HardwareError) return error
    throw error
  }
  throw new Error('expected a refusal')
}

/** Operations of this process on the lines, without reads of levels. */
function recorded(): () => string[] {
  const recording = trace()
  return () =>
    recording
      .stop()
      .filter((event) => event.pid === process.pid && !(event.what === 'level' && event.action === 'get'))
      .map((event) => {
        if (event.what === 'level') return `${event.line} is ${event.level}`
        if (event.what === 'direction') return `${event.line} ${event.direction}`
        if (event.what === 'open-path') return `open ${event.path}`
        return event.what === 'open' ? `open ${event.name}` : event.what
      })
}

describe.runIf(inRig)('lines through the character device', () => {
  test('HANDLES 11.2: an output has its initial level from the moment of its request', () => {
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

  test('a change shorter than the debounce period is not reported', async () => {
    pull(27, 0)
    const { handle } = one({ kind: 'input', line: 27, debounceMs: 60 * SCALE })
    const edges = heard(handle)
    for (const level of [1, 0, 1, 0] as const) pull(27, level)
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

/** Passes the kept descriptors to another process, which adopts them and dies. */
async function inherited(
  { backend, board }: Opened,
  told: { driveLed?: number; listenMs: number },
  meanwhile: () => void,
): Promise<{ values: number[]; edges: string[]; infos: { opens: number; kept: unknown }[]; pid: number }> {
  let next = 3
  const fds: number[] = []
  const handles = Object.entries(board.handles).map(([name, entry], index) => {
    const kept = backend.info(name)?.kept
    if (kept === undefined) throw new Error('expected an open handle')
    fds.push(...kept.fds)
    return { name, id: index + 1, entry, kept: { ...kept, fds: kept.fds.map(() => next++) } }
  })
  const env = { NODE_PATH }
  const heirs = spawn(process.execPath, [heir], { stdio: ['pipe', 'pipe', 'inherit', ...fds], env })
  const said: string[] = []
  const lines = createInterface({ input: heirs.stdout as NodeJS.ReadableStream })
  lines.on('line', (line) => said.push(line))
  heirs.stdin?.end(JSON.stringify({ board, handles, ...told }))
  await expect.poll(() => said).toEqual(['ready'])
  meanwhile()
  await once(heirs, 'close')
  return { ...JSON.parse(said[1] as string), pid: heirs.pid as number }
}

describe.runIf(inRig).each(['cdev', 'sysfs'] as const)('another body adopts lines: %s', (driver) => {
  test('HANDLES 3.9: adopting opens, requests and writes nothing, and edges go on', async () => {
    pull(27, 0)
    const opened = open({
      led: { kind: 'output', line: 17, initial: 1, driver },
      button: { kind: 'input', line: 27, driver },
    })
    const [, button] = opened.handles as [OwnedHandle, OwnedHandle]
    const edges = heard(button)
    pull(27, 1)
    await expect.poll(() => short(edges)).toEqual(['1#1'])
    pull(27, 0)
    await expect.poll(() => short(edges)).toEqual(['1#1', '0#2'])
    const recording = trace()
    let pulled = false
    const told = await inherited(opened, { driveLed: 0, listenMs: 400 }, () => {
      pulled = true
      // only one process reads edges at a time: this one is blocked until the other has read them
      for (const level of [1, 0] as const) {
        pull(27, level)
        sleepMs(100)
      }
    })
    expect(pulled).toBe(true)
    expect(told.values).toEqual([1, 0])
    expect(told.edges).toEqual(['1#3', '0#4'])
    expect(told.infos[0]).toMatchObject({ opens: 0, initWrites: 0 })
    expect(told.infos[1]).toMatchObject({ opens: 0, kept: { seqno: 4 } })
    const did = recording
      .stop()
      .filter((event) => event.pid === told.pid && !('action' in event && event.action === 'get'))
    expect(did).toEqual([expect.objectContaining({ what: 'level', line: 17, action: 'set', level: 0 })])
    // the other process is dead, and the line is still held and driven
    expect(levelOf(17)).toBe(0)
    expect([...heldLines().keys()]).toEqual([17, 27])
  })
})

describe.runIf(inRig)('lines through sysfs', () => {
  const exported = (line: number) => `/sys/class/gpio/gpio${gpioBase() + line}`
  const byHand = (line: number, file: string, text: string) => writeFileSync(`${exported(line)}/${file}`, text)
  const exportLine = (line: number) => {
    writeFileSync('/sys/class/gpio/export', String(gpioBase() + line))
    atEnd.push(() => {
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

  test('a change is reported only after the debounce period', async () => {
    pull(27, 0)
    const { handle } = one({ kind: 'input', line: 27, debounceMs: 80 * SCALE, driver: 'sysfs' })
    const edges = heard(handle)
    for (const level of [1, 0, 1, 0] as const) pull(27, level)
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
