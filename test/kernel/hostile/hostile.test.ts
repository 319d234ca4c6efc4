/**
 * A hostile program on this kernel, without hardware: files stand for the granted devices, as the
 * filter and the rights of files do not ask what a descriptor leads to. hostile.rig.ts does the same with lines and chips.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Cgroups } from '../../../runtime/body/sandbox/cgroups.ts'
import { canConfine } from '../../../runtime/body/sandbox/confinement.ts'
import { SCALE } from '../../e2e/eventually.ts'
import { install } from '../../runtime/body/sandbox/cage.ts'
import { GRANTED } from './attacks.ts'
import { Siege } from './siege.ts'

const installation = install()
const boxes = (['namespaces', 'bwrap'] as const).filter((sandbox) => canConfine(sandbox, installation.loader).ok)
installation.remove()
const gcc = spawnSync('gcc', ['--version']).status === 0
const cgroups = await Cgroups.open(`/no/such/home/${process.pid}`, { memoryMb: 256, pids: 40 })
afterAll(() => cgroups?.close())

describe.runIf(gcc && boxes.length > 0).each(boxes)('a hostile program in %s (needs root and gcc)', (sandbox) => {
  const folder = mkdtempSync(join(tmpdir(), 'medulla-granted-'))
  const fds: number[] = []
  let siege: Siege

  beforeAll(() => {
    siege = new Siege()
    for (const name of ['output', 'input', 'i2c']) {
      writeFileSync(join(folder, name), 'level', { mode: 0o600 })
      fds.push(openSync(join(folder, name), 'r+'))
    }
    execFileSync('mkfifo', ['-m', '600', join(folder, 'pipe')])
    fds.push(openSync(join(folder, 'pipe'), constants.O_RDWR))
  })
  afterAll(async () => {
    await siege?.end()
    for (const fd of fds) closeSync(fd)
    rmSync(folder, { recursive: true, force: true })
  })

  it.each([false, true])('gets the answers of HANDLES 13, network %s', async (network) => {
    const [old, other] = [await siege.bystander(sandbox), await siege.bystander(sandbox)]
    const { got, wanted } = await siege.storm({ sandbox, fds, network, old, other })
    expect(got).toEqual(wanted)
    expect([old.process.exitCode, other.process.exitCode]).toEqual([null, null])
    // the open files shared with the body are unchanged
    for (const fd of fds) {
      const flags = Number.parseInt(
        /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '',
        8,
      )
      expect(flags & constants.O_NONBLOCK).toBe(0)
    }
    for (const name of ['output', 'input', 'i2c']) expect(readFileSync(join(folder, name), 'utf8')).toBe('level')
  })

  it('cannot start more processes than its limit (HANDLES 13.6)', async () => {
    const raid = siege.raid({ sandbox, fds, requests: ['fork 1000'] })
    const { answers } = (await raid.answer) as { answers: string[] }
    // Node's threads count, too
    expect(Number(answers[0])).toBeGreaterThan(1000 - 32)
    await raid.end()
  })

  it.runIf(cgroups !== null)('is frozen with what it left behind (HANDLES 10.3)', async () => {
    const leaf = (cgroups as Cgroups).leaf(`hostile-${sandbox}`)
    const raid = siege.raid({ sandbox, fds, requests: [`writer ${GRANTED.pipe} x`], leafProcs: leaf.procs })
    await raid.answer
    const taken = () => readSync(fds[3] as number, Buffer.alloc(65536))
    // the writer is running
    taken()
    expect(taken()).toBeGreaterThan(0)
    expect(await leaf.freeze(10_000 * SCALE)).toBe(true)
    await sleep(20)
    drain(folder)
    // a frozen group cannot be resumed by its processes or by signals
    const thief = siege.raid({ sandbox, fds, requests: [`kill ${raid.process.pid} 18`] })
    expect(await thief.answer).toMatchObject({ answers: [sandbox === 'bwrap' ? 'ESRCH' : 'EPERM'] })
    process.kill(raid.process.pid as number, 'SIGCONT')
    await sleep(100)
    expect(drain(folder)).toBe(0)
    expect(await leaf.kill(10_000 * SCALE)).toBe(true)
    await raid.end()
    leaf.remove()
  })
})

/** Empties the pipe, and returns the number of bytes. */
function drain(folder: string): number {
  const fd = openSync(join(folder, 'pipe'), constants.O_RDONLY | constants.O_NONBLOCK)
  const bytes = Buffer.alloc(65536)
  let taken = 0
  try {
    for (;;) taken += readSync(fd, bytes)
  } catch {
    return taken
  } finally {
    closeSync(fd)
  }
}
