import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Cgroups } from '../../../../runtime/body/sandbox/cgroups.ts'

const LIMITS = { memoryMb: 256, pids: 32 }
const home = `/no/such/home/${process.pid}`
const found = await Cgroups.open(home, LIMITS)

/** A shell in a leaf group, joined before it starts anything, with a grandchild; both write counts into pipes. */
async function counting(procs: string): Promise<{ child: ChildProcess; heard(): number; gone: Promise<unknown> }> {
  const count = 'while :; do echo .; sleep 0.01; done'
  const child = spawn('sh', ['-c', `echo $$ >"$0"; (${count}) & ${count}`, procs], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  let heard = 0
  child.stdout.on('data', (chunk: Buffer) => {
    heard += chunk.length
  })
  while (heard < 10) await sleep(5)
  return { child, heard: () => heard, gone: once(child, 'close') }
}

/** Waits until the pipes are empty: a busy machine delays turns of the event loop. */
async function drained(): Promise<void> {
  for (let i = 0; i < 4; i++) await sleep(5)
}

describe.runIf(found !== null)('a leaf of cgroup v2 (needs root)', () => {
  let cgroups: Cgroups
  beforeAll(() => {
    cgroups = found as Cgroups
  })
  afterAll(() => cgroups.close())

  test('HANDLES 10.3: a frozen group stops all its processes, also grandchildren, and SIGCONT does not resume them', async () => {
    const leaf = cgroups.leaf('frozen')
    const { child, heard, gone } = await counting(leaf.procs)
    expect(leaf.holds(child.pid as number)).toBe(true)
    expect(await leaf.freeze(10_000)).toBe(true)
    await drained()
    const then = heard()
    child.kill('SIGCONT')
    await sleep(100)
    expect(heard()).toBe(then)
    leaf.thaw()
    while (heard() === then) await sleep(5)
    expect(await leaf.kill(10_000)).toBe(true)
    await gone
    leaf.remove()
    expect(existsSync(leaf.path)).toBe(false)
  })

  test('HANDLES 10.4: a frozen group can be killed; an empty group counts as frozen and dead', async () => {
    const leaf = cgroups.leaf('killed')
    const { gone } = await counting(leaf.procs)
    expect(await leaf.freeze(10_000)).toBe(true)
    expect(await leaf.kill(10_000)).toBe(true)
    await gone
    expect([await leaf.freeze(100), await leaf.kill(100)]).toEqual([true, true])
    leaf.remove()
    expect([await leaf.freeze(100), await leaf.kill(100), leaf.holds(process.pid)]).toEqual([false, true, false])
  })

  test('all leaf groups can be frozen at once', async () => {
    const leaves = ['a', 'b'].map((name) => cgroups.leaf(name))
    const both = await Promise.all(leaves.map(({ procs }) => counting(procs)))
    expect(await cgroups.all.freeze(10_000)).toBe(true)
    await drained()
    const then = both.map(({ heard }) => heard())
    await sleep(60)
    expect(both.map(({ heard }) => heard())).toEqual(then)
    expect(await cgroups.all.kill(10_000)).toBe(true)
    await Promise.all(both.map(({ gone }) => gone))
    cgroups.all.thaw()
    for (const leaf of leaves) leaf.remove()
  })

  test('processes that a killed body left are ended by the next body of the same home', async () => {
    const leaf = cgroups.leaf('left')
    const { gone } = await counting(leaf.procs)
    await cgroups.all.freeze(10_000)
    const next = await Cgroups.open(home, LIMITS)
    await gone
    expect(next?.base).toBe(cgroups.base)
    expect(existsSync(leaf.path)).toBe(false)
  })

  test('the limits are set in the files of the group', () => {
    const leaf = cgroups.leaf('limits')
    const limited = existsSync(`${leaf.path}/pids.max`)
    expect(cgroups.limits).toBe(limited ? 'cgroup' : 'weak')
    if (limited) expect(readFileSync(`${leaf.path}/pids.max`, 'utf8').trim()).toBe('32')
    leaf.remove()
  })
})
