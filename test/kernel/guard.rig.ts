/** Death of a body over lines of a real kernel: the lines stay safe, and the next body takes them over (HANDLES 14). */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { build } from 'esbuild'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Rescue } from '../../runtime/guard/wire.ts'
import { eventually, SCALE } from '../e2e/eventually.ts'
import { ROOT } from '../project/tree.ts'
import { boardText, isSafe, LINE } from './board.ts'
import type { LineOrder } from './children/linebody.ts'
import { heldLines, i2cCounts, inRig, pull, resetI2cCounts } from './guest.ts'
import { trace } from './trace.ts'

const ROUNDS = process.env.MEDULLA_LONG === '1' ? 20 : 2
const CGROUP = `/sys/fs/cgroup/medulla-guard-rig-${process.pid}`

interface Report {
  opens: number
  rescue: Rescue | null
  guard: number
  program: number
  edges: { seqno: number; level: number }[]
  seqnos: Record<string, number | null>
}

class LineBody {
  readonly process: ChildProcess
  readonly #lines: Interface

  constructor(dist: string, order: LineOrder) {
    const args = [join(dist, 'runtime/body/line.js'), JSON.stringify(order)]
    this.process = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#lines = createInterface({ input: this.process.stdout as NodeJS.ReadableStream })
  }

  async report(ask = false): Promise<Report> {
    if (ask) this.process.stdin?.write('report\n')
    const [line] = (await once(this.#lines, 'line')) as [string]
    const report = JSON.parse(line) as Report
    expect(report).not.toHaveProperty('note')
    return report
  }

  async kill(): Promise<void> {
    this.process.kill('SIGKILL')
    await once(this.process, 'exit')
  }

  async end(): Promise<void> {
    this.process.stdin?.write('end\n')
    await once(this.process, 'exit')
  }
}

describe.runIf(inRig)('the death of the body over lines of a real kernel', () => {
  const folder = mkdtempSync(join(tmpdir(), 'medulla-guard-rig-'))
  const dist = join(folder, 'dist')
  const order: LineOrder = { folder, board: boardText(), cgroup: CGROUP }
  let body: LineBody

  beforeAll(async () => {
    const parts = { 'body/line': 'test/kernel/children/linebody.ts', 'guard/main': 'runtime/guard/main.ts' }
    await build({
      entryPoints: Object.fromEntries(Object.entries(parts).map(([out, path]) => [out, join(ROOT, path)])),
      outdir: join(dist, 'runtime'),
      bundle: true,
      platform: 'node',
      target: 'node20',
      format: 'esm',
      external: ['koffi'],
      logLevel: 'error',
      banner: { js: "import { createRequire as r } from 'node:module'; const require = r(import.meta.url);" },
    })
    writeFileSync(join(dist, 'package.json'), '{"type":"module"}')
    symlinkSync(join(ROOT, 'node_modules'), join(dist, 'node_modules'))
    mkdirSync(CGROUP)
    pull(LINE.button, 0)
  })
  afterEach(() => void body.process.kill('SIGKILL'))
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true })
  })

  test('after SIGKILL of the body its lines stay requested and go to safe levels, and the next body adopts them', async () => {
    body = new LineBody(dist, order)
    const first = await body.report()
    const handles = Object.keys(JSON.parse(order.board).handles).length
    expect(first.opens).toBe(handles)
    pull(LINE.button, 1)
    await eventually(async () => (await body.report(true)).seqnos.button === 1)
    resetI2cCounts(1, 0x68)
    const held = heldLines()
    const recording = trace()
    for (let round = 0; round < ROUNDS; round++) {
      await body.kill()
      // how soon is what guard.test.ts and kills.rig.ts ask
      await eventually(isSafe)
      await sleep(50 * SCALE)
      expect(isSafe()).toBe(true)
      expect(heldLines()).toEqual(held)
      // no process reads this edge: the kernel keeps it for the next body
      pull(LINE.button, round % 2 === 0 ? 0 : 1)
      body = new LineBody(dist, order)
      const { opens, rescue } = await body.report()
      expect(opens).toBe(0)
      expect(rescue).toMatchObject({ confirmed: true, failed: [] })
      await eventually(async () => (await body.report(true)).edges.length > 0)
      // the edge comes only once
      await sleep(50)
      const { edges, seqnos } = await body.report(true)
      expect(edges).toEqual([{ seqno: round + 2, level: round % 2 }])
      expect(seqnos.button).toBe(round + 2)
    }
    const events = recording.stop()
    const forbidden = ['open', 'open-path', 'request', 'release', 'configure', 'direction', 'export', 'unexport']
    expect(events.filter(({ what }) => forbidden.includes(what))).toEqual([])
    expect(i2cCounts(1, 0x68)).toMatchObject({ transfers: 0 })
    await body.end()
    expect(heldLines()).toEqual(new Map())
    expect(existsSync(join(folder, 'guard.sock'))).toBe(false)
  })

  test('when body and guard are killed at once, the lines are released, which HANDLES 14.4 allows', async () => {
    body = new LineBody(dist, order)
    const { guard, program } = await body.report()
    process.kill(guard, 'SIGKILL')
    process.kill(body.process.pid as number, 'SIGKILL')
    writeFileSync(join(CGROUP, 'cgroup.kill'), '1')
    await eventually(() => !existsSync(`/proc/${program}`) && heldLines().size === 0)
  })
})
