/** Opens lines of the rig for a test, and programs that use them; closes them when the test is over. */
import { afterAll, afterEach, beforeAll, expect } from 'vitest'
import { parseBoard } from '../../drivers/board/board.ts'
import type { Board } from '../../drivers/board/types.ts'
import { grantOf, type OwnedHandle } from '../../drivers/owner/backend.ts'
import { LinuxBackend } from '../../drivers/owner/linux/backend.ts'
import type { Edge } from '../../drivers/program/handle.ts'
import { bundle, type Host, startHost, temporary } from '../drivers/host.ts'
import { FIRST_FD } from '../drivers/rigs.ts'
import { heldLines, pull } from './guest.ts'
import { trace } from './trace.ts'

const folder = temporary()
let program: string

/** To be called outside of tests: builds the program, and closes after each test what the test has opened. */
export function useLines(): void {
  beforeAll(async () => {
    program = await bundle('children/host.ts', folder.path)
  })
  afterEach(async () => {
    for (const undo of atEnd.reverse()) await undo()
    atEnd = []
    expect(heldLines()).toEqual(new Map())
  })
  afterAll(() => folder.remove())
}

let atEnd: (() => unknown)[] = []
/** Called when the test is over, the last one first. */
export const whenOver = (undo: () => unknown): void => void atEnd.push(undo)

export function boardOf(handles: Record<string, object>): Board {
  return parseBoard(JSON.stringify({ model: 'pi4', handles }), 'board.json')
}

export interface Opened {
  backend: LinuxBackend
  board: Board
  notes: string[]
  handles: OwnedHandle[]
}

export function open(handles: Record<string, object>): Opened {
  const board = boardOf(handles)
  const notes: string[] = []
  const backend = new LinuxBackend({ board, note: (text) => notes.push(text) })
  whenOver(() => backend.close())
  const owned = Object.entries(board.handles).map(([name, entry], index) => backend.open(name, index + 1, entry))
  return { backend, board, notes, handles: owned }
}

export function one(handle: object): Opened & { handle: OwnedHandle } {
  const opened = open({ it: handle })
  return { ...opened, handle: opened.handles[0] as OwnedHandle }
}

export async function child(...handles: OwnedHandle[]): Promise<Host> {
  const fds: number[] = []
  const grants = handles.map((handle) => {
    const source = handle.grant()
    if (source.via === 'inherit') fds.push(source.fd)
    return grantOf(handle, source, FIRST_FD + fds.length - 1)
  })
  const host = await startHost(program, grants, fds)
  whenOver(() => host.end())
  await host.send({ op: 'lease', lease: { live: true, fence: 1 } })
  return host
}

export function heard(handle: OwnedHandle): Edge[] {
  const edges: Edge[] = []
  handle.onEdge((edge) => edges.push(edge))
  return edges
}

export const short = (edges: readonly Edge[]): string[] => edges.map(({ level, seqno }) => `${level}#${seqno}`)
export const rest = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** Operations of this process on the lines, without reads of levels. */
export function recorded(): () => string[] {
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

/** Makes a switch bounce. Returns the longest time between two of its pulls, in ms. */
export function bounced(line: number): number {
  let [longest, last] = [0, performance.now()]
  for (const level of [1, 0, 1, 0] as const) {
    pull(line, level)
    longest = Math.max(longest, performance.now() - last)
    last = performance.now()
  }
  return longest
}
