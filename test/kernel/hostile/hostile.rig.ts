/** A hostile program with real lines and chips as its handles. */
import { execFileSync } from 'node:child_process'
import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseBoard } from '../../../drivers/board/board.ts'
import type { OwnedHandle } from '../../../drivers/owner/backend.ts'
import { LinuxBackend } from '../../../drivers/owner/linux/backend.ts'
import type { Edge } from '../../../drivers/program/handle.ts'
import { Cgroups } from '../../../runtime/body/sandbox/cgroups.ts'
import { IOCTL } from '../../../runtime/sdk/seccomp.ts'
import { eventually, SCALE } from '../../e2e/eventually.ts'
import { LINE } from '../board.ts'
import { heldLines, i2cCounts, inRig, inUml, levelOf, pull, resetI2cCounts } from '../guest.ts'
import { GRANTED } from './attacks.ts'
import { Siege } from './siege.ts'

describe.runIf(inRig)('a hostile program with lines and a chip', () => {
  const folder = mkdtempSync(join(tmpdir(), 'medulla-granted-'))
  const handles: OwnedHandle[] = []
  const fds: number[] = []
  const edges: Edge[] = []
  let backend: LinuxBackend
  let siege: Siege
  let cgroups: Cgroups

  beforeAll(async () => {
    const board = parseBoard(
      JSON.stringify({
        model: 'pi4',
        handles: {
          toggle: { kind: 'output', line: `GPIO${LINE.toggle}` },
          button: { kind: 'input', line: `GPIO${LINE.button}`, edges: 'both' },
          imu: { kind: 'i2c', bus: 1, address: '0x68' },
        },
      }),
      'board.json',
    )
    pull(LINE.button, 0)
    backend = new LinuxBackend({ board })
    for (const [index, [name, entry]] of Object.entries(board.handles).entries()) {
      const handle = backend.open(name, index + 1, entry)
      const given = handle.grant()
      handles.push(handle)
      if (given.via === 'inherit') fds.push(given.fd)
    }
    handles[1]?.onEdge((edge) => edges.push(edge))
    execFileSync('mkfifo', ['-m', '600', join(folder, 'pipe')])
    fds.push(openSync(join(folder, 'pipe'), constants.O_RDWR))
    cgroups = (await Cgroups.open(folder, { memoryMb: 256, pids: 40 })) as Cgroups
    siege = new Siege()
  })
  afterAll(async () => {
    await siege?.end()
    backend?.close()
    cgroups?.close()
    closeSync(fds.at(-1) as number)
    rmSync(folder, { recursive: true, force: true })
    expect(heldLines()).toEqual(new Map())
  })

  test.each(['namespaces', 'bwrap'] as const)('gets the answers of HANDLES 13 in %s', async (sandbox) => {
    resetI2cCounts(1, 0x68)
    edges.length = 0
    const [old, other] = [await siege.bystander(sandbox), await siege.bystander(sandbox)]
    const { got, wanted } = await siege.storm({ sandbox, fds, network: false, old, other })
    expect(got).toEqual(wanted)
    // no direction or level changed, and no chip had a transfer
    expect([levelOf(LINE.toggle), levelOf(LINE.button)]).toEqual([0, 0])
    expect(i2cCounts(1, 0x68).transfers).toBe(0)
    // the body still gets every edge
    pull(LINE.button, 1)
    pull(LINE.button, 0)
    await eventually(() => edges.length === 2)
    await old.end()
    await other.end()
  })

  test.skipIf(inUml)('a 32-bit call kills the program (not in user-mode Linux)', async () => {
    const raid = siege.raid({ sandbox: 'namespaces', fds, requests: ['int80'] })
    expect(await raid.answer).not.toMatchObject({ answers: ['alive'] })
    await raid.end()
  })

  test('can use its handles, but not after its freeze (HANDLES 10.3, 13.8)', async () => {
    const leaf = cgroups.leaf('hostile')
    const on = `ioctler ${GRANTED.output} ${IOCTL.lineSet} 1`
    const off = `ioctler ${GRANTED.output} ${IOCTL.lineSet} 0`
    const raid = siege.raid({ sandbox: 'namespaces', fds, requests: [on, off], leafProcs: leaf.procs })
    expect(await raid.answer).toMatchObject({ answers: ['0', '0'] })
    const levels = new Set<number>()
    await eventually(() => levels.add(levelOf(LINE.toggle)).size === 2)
    expect(await leaf.freeze(1000 * SCALE)).toBe(true)
    for (const level of [1, 0] as const) {
      handles[0]?.drive(level, 1)
      for (let n = 0; n < 20; n++) {
        expect(levelOf(LINE.toggle)).toBe(level)
        await sleep(5)
      }
    }
    expect(await leaf.kill(1000 * SCALE)).toBe(true)
    await raid.end()
    leaf.remove()
  })
})
