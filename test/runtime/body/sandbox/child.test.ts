import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parseBoard } from '../../../../drivers/board/board.ts'
import { Child } from '../../../../runtime/body/sandbox/child.ts'
import { RunDirs } from '../../../../runtime/body/sandbox/rundir.ts'
import { Sandboxes } from '../../../../runtime/body/sandbox/sandboxes.ts'
import { SlotLog } from '../../../../runtime/body/slot/log.ts'

let home: string
let dirs: RunDirs

beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), 'medulla-child-'))
  dirs = new RunDirs(home)
})
afterAll(() => {
  dirs.close()
  rmSync(home, { recursive: true, force: true })
})

const descriptors = (): number => readdirSync('/proc/self/fd').length

test('a child that cannot start because a file is missing leaves no open descriptor and no sandbox', async () => {
  const board = parseBoard(JSON.stringify({ name: 'x', model: 'sim', handles: {} }), 'board.json')
  const sandboxes = await Sandboxes.open(home, board, undefined, 1)
  const dir = await dirs.make()
  // this is the last descriptor of the table, so all others are open by then
  rmSync(dir.scratch)
  const before = descriptors()
  let closed = 0
  const start = () =>
    Child.start({ dir, predecessor: null, handles: [], log: new SlotLog('main') }, (grants) => {
      const sandbox = sandboxes.make('main', dir, grants)
      return { ...sandbox, close: () => void closed++ }
    })
  for (let i = 0; i < 3; i++) expect(start).toThrow('ENOENT')
  expect(descriptors()).toBe(before)
  expect(closed).toBe(3)
})
