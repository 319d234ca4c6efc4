/** Deaths of a program, of the endpoint and of the whole robot, and failures of its disk. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, readlinkSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { flip } from '../fixtures/random.ts'
import { checkpointOf } from './checkpoints.ts'
import { eventually, SCALE } from './eventually.ts'
import { boardText, ENDLESS_TRIAL, ended, makeOperator, TestRobot, TIMING } from './robot.ts'
import { accepted, counts, expectNoTickLost, expectOneWriter } from './trace.ts'

let robot: TestRobot

beforeAll(async () => {
  robot = await TestRobot.start()
  await robot.commit('counter')
})
afterAll(async () => robot?.close())

/** Waits until a checkpoint on disk has counted further, and returns its count. */
const kept = (least: number) =>
  eventually(async () => {
    const n = (await checkpointOf(robot, 'counter'))?.state.n ?? 0
    return n > least && n
  })

test('after a program is killed, safe levels are driven, and the program goes on from its checkpoint', async () => {
  const before = await robot.running()
  const least = await kept(0)
  const mark = robot.trace.mark()
  process.kill(before.pid, 'SIGKILL')
  const after = await robot.running(before.pid)
  expect(after).toMatchObject({ digest: before.digest, restarts: before.restarts + 1 })
  await robot.trace.more('dial')
  const entries = robot.trace.since(mark)
  const safe = accepted(entries, 'led').find(({ fence }) => fence > before.fence)
  expect(safe).toMatchObject({ value: 0 })
  expect(safe?.fence).toBeLessThan(after.fence)
  const last = counts(robot.trace.read().filter(({ fence }) => fence === before.fence)).at(-1) ?? 0
  const first = counts(entries.filter(({ fence }) => fence === after.fence))[0] ?? 0
  expect(first).toBeGreaterThanOrEqual(least)
  expect(first).toBeLessThanOrEqual(last + 1)
  expect(
    robot
      .receipts()
      .slice(-2)
      .map(({ outcome, code }) => [outcome, code]),
  ).toEqual([
    ['crashed', 'crashed'],
    ['restarted', undefined],
  ])
  robot.check()
})

test('HANDOVER 10.3: a body that stood still for longer than heartbeatMs ends no program for missing heartbeats', async () => {
  const before = await robot.running()
  for (const heartbeats of [1.2, 1.6]) {
    process.kill(robot.pid, 'SIGSTOP')
    await sleep(TIMING.heartbeatMs * SCALE * heartbeats)
    process.kill(robot.pid, 'SIGCONT')
    // the stop is handled only now
    await sleep(TIMING.heartbeatMs * SCALE * 0.2)
    expect(await robot.slot()).toMatchObject({ state: 'running', pid: before.pid, restarts: before.restarts })
  }
})

test('after the endpoint is killed, programs run on, and the next push works', async () => {
  const before = await robot.running()
  const mark = robot.trace.mark()
  const endpoint = robot.endpoint()
  process.kill(endpoint, 'SIGKILL')
  const client = await eventually(() => robot.connect().catch(() => null))
  expect(robot.endpoint()).not.toBe(endpoint)
  const { bytes } = await robot.bundle('counter')
  expect((await client.status()).slots[0]).toMatchObject({ pid: before.pid, state: 'running' })
  expect(await ended(client.push('main', bytes))).toMatchObject({ outcome: 'committed' })
  client.close()
  await robot.trace.more('dial')
  expectNoTickLost(robot.trace.since(mark))
  robot.check()
})

test('after a power cut the last committed program starts again with its checkpoint', async () => {
  const before = await robot.running()
  const last = counts(robot.trace.read()).at(-1) ?? 0
  const least = await kept(last)
  const programs = robot.children().map(({ pid }) => pid)
  const instances = dirname(readlinkSync(`/proc/${before.pid}/cwd`))
  await robot.end('SIGKILL')
  const cut = process.hrtime.bigint()
  // the trace is written in batches, so the program, at 1 kHz, may have counted on after the last entry
  const traced = accepted(robot.trace.read(), 'dial')
  const unseen = Number(cut - BigInt(traced.at(-1)?.ns ?? cut)) / 1e6
  const end = (counts(traced).at(-1) ?? 0) + Math.ceil(unseen)
  // no process may be left that could move a pin (HANDOVER 3.6)
  await eventually(() => programs.every((pid) => !alive(pid)))
  expect(existsSync(instances)).toBe(true)
  await robot.begin()
  // the run folders of dead programs are removed
  expect(existsSync(instances)).toBe(false)
  const after = await robot.running()
  expect(after).toMatchObject({ digest: before.digest, version: before.version })
  expect(after.fence).toBeGreaterThan(before.fence)
  const [first = 0] = counts(await robot.trace.more('dial').then(() => robot.trace.read()))
  expect(first).toBeGreaterThanOrEqual(least)
  expect(first).toBeLessThanOrEqual(end + 1)
  expectOneWriter(robot.trace.read())
  robot.receipts()
})

test('a slot that an operator stopped stays stopped over a restart, until the next push', async () => {
  const before = (await robot.logs()).length
  expect(await ended(robot.client.stop('main'))).toMatchObject({ outcome: 'stopped' })
  // the restart logs nothing for a stopped slot
  expect((await robot.logs()).slice(before)).toEqual([])
  expect(await robot.logs('main', before + 5)).toHaveLength(before)
  expect(await ended(robot.client.start('main'))).toMatchObject({ outcome: 'started' })
  const { restarts } = await robot.running()
  expect(await ended(robot.client.stop('main'))).toMatchObject({ outcome: 'stopped' })
  expect(
    robot
      .receipts()
      .slice(-3)
      .map(({ outcome }) => outcome),
  ).toEqual(['stopped', 'started', 'stopped'])
  expect(restarts).toBe(0)
  await robot.end()
  await robot.begin()
  const { slots } = await robot.client.status()
  expect(slots.filter(({ pid }) => pid !== undefined)).toEqual([])
  await robot.commit('counter')
  robot.receipts()
})

test('HANDOVER 9.13: Y10: a release with a changed byte on disk is not started; the last good one is, and status raises an alarm', async () => {
  const good = await robot.commit('counter', { version: '10.0.0' })
  const bad = await robot.commit('counter', { version: '10.1.0' })
  await robot.end()
  const file = join(robot.home, 'store', (bad.to ?? '').replace('sha256:', ''), 'payload.tar.gz')
  writeFileSync(file, flip(readFileSync(file), 4242))
  await robot.begin()
  expect(await robot.running()).toMatchObject({
    digest: good.to,
    version: '10.0.0',
    alarm: expect.stringMatching(
      /^bad-hash: payload\.tar\.gz of sha256:.* was changed on disk: .*10\.0\.0 was started instead$/,
    ),
    checkMs: expect.any(Number),
  })
  // the cost of the check, and what was damaged, are in the receipt of the start
  expect(robot.receipts().findLast(({ outcome }) => outcome === 'started')).toMatchObject({
    code: 'bad-hash',
    from: bad.to,
    to: good.to,
    reason: expect.stringContaining('was changed on disk'),
    checkMs: expect.any(Number),
  })
  const said = (await robot.logs()).filter(({ stream }) => stream === 'runtime').map(({ text }) => text)
  expect(said.find((text) => text.startsWith('bad-hash:'))).toContain(bad.to)
  // the choice is kept over another restart
  await robot.end()
  await robot.begin()
  expect(await robot.running()).toMatchObject({ digest: good.to, alarm: expect.stringContaining('bad-hash') })
  // a plain start names no damage, and a commit ends the alarm
  const plain = robot.receipts().findLast(({ outcome }) => outcome === 'started')
  expect(plain).toMatchObject({ from: null, to: good.to, checkMs: expect.any(Number) })
  expect(plain).not.toHaveProperty('code')
  await robot.commit('counter', { version: '10.2.0' })
  expect(await robot.running()).not.toHaveProperty('alarm')
  robot.receipts()
})

test('HANDOVER 9.13: Y10: with two damaged releases, the third newest starts; a changed record of the slot raises an alarm', async () => {
  const good = await robot.commit('counter', { version: '10.3.0' })
  const older = await robot.commit('counter', { version: '10.4.0' })
  const newest = await robot.commit('counter', { version: '10.5.0' })
  await robot.end()
  for (const [{ to }, name] of [
    [older, 'install.json'],
    [newest, 'release.sig'],
  ] as const) {
    const file = join(robot.home, 'store', (to ?? '').replace('sha256:', ''), name)
    writeFileSync(file, flip(readFileSync(file), 100))
  }
  await robot.begin()
  expect(await robot.running()).toMatchObject({ digest: good.to, alarm: expect.stringContaining('release.sig of') })
  await robot.end()
  const record = join(robot.home, 'slots', 'main', 'slot.json')
  writeFileSync(record, flip(readFileSync(record), 1000))
  await robot.begin()
  const { alarms, slots } = await robot.client.status()
  expect(alarms).toEqual([expect.stringMatching(/slot\.json was changed on disk/)])
  expect(slots.filter(({ pid }) => pid !== undefined)).toEqual([])
  await robot.commit('counter', { version: '10.6.0' })
  robot.receipts()
})

function alive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

test('a swap whose commit cannot be written is undone, and the old program runs on', async () => {
  const before = await robot.running()
  const folder = join(robot.home, 'slots', 'main')
  renameSync(folder, `${folder}.aside`)
  writeFileSync(folder, 'not a folder')
  const answer = await robot.push('steady')
  rmSync(folder)
  renameSync(`${folder}.aside`, folder)
  expect(answer).toMatchObject({ outcome: 'rolled-back', code: 'internal' })
  expect(await robot.running()).toMatchObject({ pid: before.pid, digest: before.digest })
  await robot.commit('steady', { retry: true })
})

test('HANDOVER 4.7: a bundle that cannot be stored is not started, and this is not held against the release', async () => {
  const before = await robot.running()
  const folder = join(robot.home, 'store')
  renameSync(folder, `${folder}.aside`)
  writeFileSync(folder, 'not a folder')
  const { bytes } = await robot.bundle('steady')
  const answer = await robot.send(bytes)
  rmSync(folder)
  renameSync(`${folder}.aside`, folder)
  expect(answer).toMatchObject({ outcome: 'rolled-back', code: 'internal' })
  expect(answer.phases).not.toContain('arm')
  expect(await robot.running()).toMatchObject({ pid: before.pid, digest: before.digest })
  expect(await robot.send(bytes)).toMatchObject({ outcome: 'committed' })
})

test('operators can be added and removed while the robot runs', async () => {
  const bob = await makeOperator(robot.folder, 'bob')
  await expect(robot.connect(bob)).rejects.toMatchObject({ code: 'unknown-operator' })
  await robot.trust(bob, 'observer')
  const client = await eventually(() => robot.connect(bob).catch(() => null))
  expect((await client.status()).id).toBe((await robot.client.status()).id)
  client.close()
})

test('HANDOVER 9.2: a program that crashes again and again is restarted with growing delays', async () => {
  const failing = await TestRobot.start({ restartMostMs: 400 })
  try {
    await failing.commit('throws-later')
    const starts: number[] = []
    let pid = -1
    while (starts.length < 5) {
      pid = (await failing.running(pid)).pid
      starts.push(performance.now())
    }
    expect((await failing.slot()).restarts).toBeGreaterThanOrEqual(4)
    // The delay begins at 0.1 s after a run of 0.6 s, and doubles each time up to the board's limit.
    for (const [i, at] of starts.slice(1).entries())
      expect(at - (starts[i] ?? 0)).toBeGreaterThan(Math.min(100 * 2 ** i, 400))
  } finally {
    await failing.close()
  }
})

test('a runtime that was told so ends with its stdin, as a simulated robot does whose CLI was killed', async () => {
  const home = join(robot.folder, 'stdin')
  mkdirSync(home, { mode: 0o700 })
  writeFileSync(join(home, 'board.json'), boardText())
  const args = [robot.runtime, '--home', home, '--sim', '--port', '0', '--until-stdin-ends']
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'ignore'] })
  const ended = once(child, 'exit')
  await once(child.stdout, 'data')
  child.stdin.end()
  expect(await ended).toEqual([0, null])
})

test('a robot that is ended during a trial does not wait until the time of the trial is over', async () => {
  const patient = await TestRobot.start()
  try {
    await patient.commit('counter')
    await patient.retime(ENDLESS_TRIAL)
    const pushed = patient.push('counter', { version: '2.0.0' }).catch(() => null)
    await eventually(async () => (await patient.slot()).state === 'trial')
    await patient.end()
    await pushed
  } finally {
    await patient.close()
  }
})
