/** Lines of a real kernel that another process adopts with their inherited descriptors. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { OwnedHandle } from '../../drivers/owner/backend.ts'
import { bundle, temporary } from '../drivers/host.ts'
import { heldLines, inRig, levelOf, pull, sleepMs } from './guest.ts'
import { heard, type Opened, open, short, useLines } from './openlines.ts'
import { trace } from './trace.ts'

const NODE_PATH = fileURLToPath(new URL('../../node_modules', import.meta.url))
const folder = temporary()
let heir: string
beforeAll(async () => {
  heir = await bundle('../kernel/children/heir.ts', folder.path, 'heir.mjs')
})
afterAll(() => folder.remove())
useLines()

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
