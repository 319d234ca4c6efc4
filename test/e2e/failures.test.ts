/** A slot whose program cannot run, or crashes: what it waits for, what status says, and where a rollback goes. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { StopLatch } from '../../runtime/body/stop/stops.ts'
import { flip } from '../fixtures/random.ts'
import { eventually, SCALE } from './eventually.ts'
import { laptopOf } from './laptop.ts'
import { ended, TestRobot } from './robot.ts'

async function robotWith(name: string, more: object = {}): Promise<TestRobot> {
  const robot = await TestRobot.start({}, {}, { more })
  onTestFinished(() => robot.close())
  await robot.commit(name)
  return robot
}

type Handles = Record<string, object>
function changeBoard(robot: TestRobot, change: (handles: Handles) => void): void {
  const path = join(robot.home, 'board.json')
  const board = JSON.parse(readFileSync(path, 'utf8')) as { handles: Handles }
  change(board.handles)
  writeFileSync(path, JSON.stringify(board))
}

const waiting = (robot: TestRobot, slot = 'main') =>
  eventually(async () => {
    const found = await robot.slot(slot)
    return found.state === 'waiting' && found
  })
const receiptsOf = (robot: TestRobot, outcome: string) => robot.receipts().filter((each) => each.outcome === outcome)
const noted = async (robot: TestRobot, text: string, slot = 'main') =>
  (await robot.logs(slot)).filter((line) => line.stream === 'runtime' && line.text.includes(text))

test('HANDOVER 9.9: a program whose handle was removed from the board waits, says for what, and starts with a board that has it', async () => {
  const robot = await robotWith('counter')
  await robot.end()
  let led = {}
  changeBoard(robot, (handles) => {
    led = handles.led ?? {}
    delete handles.led
  })
  await robot.begin()
  const slot = await waiting(robot)
  expect(slot).toMatchObject({ program: 'counter', version: '1.0.0', restarts: 0 })
  expect(slot.waits).toContain("output 'led'")
  expect(slot.waits).toContain('change the board file and restart the runtime, or push another program')
  expect(slot.pid).toBeUndefined()
  // longer than several delays of the backoff
  await sleep(1000 * SCALE)
  expect(receiptsOf(robot, 'waiting')).toMatchObject([{ code: 'missing-handle', program: 'counter' }])
  expect(receiptsOf(robot, 'crashed')).toEqual([])
  expect(await noted(robot, 'led')).toHaveLength(1)
  const laptop = await laptopOf(robot)
  onTestFinished(() => laptop.close())
  expect((await laptop.run('status')).stdout).toContain("  waiting: program needs output 'led'")
  // a start order is refused with the reason; a failed push does not end the wait; neither writes a start receipt
  expect(await robot.events(robot.client.start('main'))).toMatchObject({ outcome: 'refused', code: 'missing-handle' })
  await robot.push('dies-in-trial', { program: 'counter', version: '2.0.0' })
  await waiting(robot)
  expect(receiptsOf(robot, 'waiting')).toHaveLength(1)
  await robot.end()
  changeBoard(robot, (handles) => {
    handles.led = led
  })
  await robot.begin()
  expect((await robot.running()).waits).toBeUndefined()
  robot.check()
})

test('HANDOVER 9.9: a slot waits when the handle has another kind, and a push of another program works', async () => {
  const robot = await robotWith('counter')
  await robot.end()
  changeBoard(robot, (handles) => {
    handles.led = { kind: 'input', line: 'GPIO17' }
  })
  await robot.begin()
  expect((await waiting(robot)).waits).toContain("program needs 'led' as output, on this board it is input")
  expect(receiptsOf(robot, 'waiting')).toMatchObject([{ code: 'wrong-kind' }])
  await robot.commit('sickens')
  expect((await robot.running()).waits).toBeUndefined()
})

test('HANDOVER 9.9: a slot with a damaged bundle and no earlier release waits', async () => {
  const robot = await robotWith('counter')
  const { digest = '' } = await robot.slot()
  await robot.end()
  const file = join(robot.home, 'store', digest.replace('sha256:', ''), 'payload.tar.gz')
  writeFileSync(file, flip(readFileSync(file), 4242))
  await robot.begin()
  expect((await waiting(robot)).waits).toContain('build the program again and push it')
  expect(receiptsOf(robot, 'waiting')).toMatchObject([{ code: 'bad-hash' }])
  expect(await noted(robot, 'bad-hash')).toHaveLength(1)
  await robot.commit('counter', { version: '1.0.1' })
})

test('HANDOVER 9.9: under an emergency stop a slot waits for the release, and then for a start order', async () => {
  const robot = await robotWith('counter')
  await robot.end()
  const latch = StopLatch.open(robot.home)
  await latch.stopAll('the test')
  await latch.close()
  await robot.begin()
  const slot = await waiting(robot)
  expect(slot.waits).toMatch(/^stopped since \S+ by the test; release it with medulla estop --release/)
  expect(receiptsOf(robot, 'waiting')).toMatchObject([{ code: 'estopped' }])
  await robot.events(robot.client.release())
  const after = await waiting(robot)
  expect(after.waits).toBe('the emergency stop was released; start the program with: medulla start')
  await robot.events(robot.client.start('main'))
  await robot.running()
})

test('HANDOVER 9.9: a program whose handle another slot holds starts when that slot releases the handle', async () => {
  const robot = await robotWith('counter')
  await robot.events(robot.client.stop('main'))
  await robot.commit('counter', { to: 'other', program: 'taker' })
  await robot.events(robot.client.start('main'))
  expect((await waiting(robot)).waits).toContain('slot other holds')
  await robot.events(robot.client.stop('other'))
  await robot.running()
  expect(receiptsOf(robot, 'waiting')).toHaveLength(1)
  robot.check()
})

test('HANDOVER 9.2: a push that fails while a crashed program waits for its restart says that this one is started again', async () => {
  const robot = await robotWith('counter')
  await robot.commit('throws-later', { program: 'counter', version: '2.0.0' })
  // Waits of 100 ms, doubled with each crash: after the fifth there is time for a push.
  await eventually(async () => {
    const { restarts, state } = await robot.slot()
    return restarts >= 5 && state === 'cooling'
  })
  const failed = await robot.push('dies-in-trial', { program: 'counter', version: '3.0.0' })
  expect(failed).toMatchObject({ outcome: 'rolled-back', code: 'died-in-trial' })
  expect(failed.message).toMatch(/; outputs are at their safe levels, the program before it is started again$/)
  const { restarts } = await robot.slot()
  await eventually(async () => (await robot.slot()).restarts > restarts)
})

test('status counts the restarts of the program that runs, and not those of the program before it', async () => {
  const robot = await robotWith('counter')
  await robot.commit('throws-later', { program: 'counter', version: '2.0.0' })
  await eventually(async () => {
    const { restarts, state } = await robot.slot()
    return restarts >= 3 && state === 'cooling'
  })
  await robot.commit('counter', { version: '3.0.0' })
  const { pid, restarts } = await robot.running()
  expect(restarts).toBe(0)
  process.kill(pid as number, 'SIGKILL')
  expect(await robot.running(pid)).toMatchObject({ version: '3.0.0', restarts: 1 })
  // A candidate that fails its trial leaves the number of the program that goes on.
  expect(await robot.push('dies-in-trial', { program: 'counter', version: '4.0.0' })).toMatchObject({
    outcome: 'rolled-back',
  })
  expect(await robot.running()).toMatchObject({ version: '3.0.0', restarts: 1 })
})

test('HANDOVER 9.10, 9.11: status counts repeated crashes, and they write few receipts', async () => {
  const robot = await robotWith('counter')
  await robot.commit('throws-later', { program: 'counter', version: '2.0.0' })
  const slot = await eventually(async () => {
    const found = await robot.slot()
    return found.restarts >= 5 && found.state === 'running' && found
  })
  expect(slot.lastError).toMatch(
    /^crashed after \d(\.\d)? s \(exit code 1\), restarted \d times; the program said: "the arm is stuck at throws-later\.ts:15:32"$/,
  )
  expect(slot.hint).toBe('medulla rollback goes back to the last release that ran well')
  const crashed = receiptsOf(robot, 'crashed')
  // on a busy machine more failures may have been counted by now
  expect(crashed.length).toBeGreaterThanOrEqual(3)
  expect(crashed.map(({ failures }) => failures)).toEqual(crashed.map((_, n) => 2 ** n))
  const restarted = receiptsOf(robot, 'restarted').length
  expect([restarted, restarted + 1]).toContain(crashed.length)
  for (const { reason, said, ranMs } of crashed) {
    expect(ranMs).toBeGreaterThan(500)
    expect(reason).toMatch(/^crashed after \d(\.\d)? s \(exit code 1\)$/)
    expect(said).toBe('the arm is stuck at throws-later.ts:15:32')
  }
  const lines = (await noted(robot, 'started again')).map(({ text }) => text)
  expect(lines.some((text) => /^started again, \d times by now; medulla rollback goes back/.test(text))).toBe(true)
  const laptop = await laptopOf(robot)
  onTestFinished(() => laptop.close())
  const { stdout } = await laptop.run('status')
  expect(stdout).toContain('  last error: crashed after ')
  expect(stdout).toContain('  hint: medulla rollback goes back')
})

test('HANDOVER 7.11: a rollback goes to the last release that ran well, and the list shows how each release ran', async () => {
  const robot = await robotWith('counter')
  const crashes = (version: string) => () => receiptsOf(robot, 'crashed').some((each) => each.version === version)
  for (const version of ['2.0.0', '3.0.0']) {
    await eventually(async () => {
      const { outcome } = await robot.push('throws-later', { program: 'counter', version })
      return outcome === 'committed'
    })
    await eventually(crashes(version))
  }
  // a crash of the old program during the swap is not held against the new one
  const releases = await eventually(async () => {
    await robot.push('dies-in-trial', { program: 'counter', version: '4.0.0' })
    const listed = await robot.client.releases('main')
    return listed.some(({ version }) => version === '4.0.0') && listed
  })
  expect(releases).toMatchObject([
    { version: '3.0.0', current: true, pusher: 'ann' },
    { version: '2.0.0', run: { well: false } },
    { version: '1.0.0', run: { well: true, crashes: 0 } },
    { version: '4.0.0', undone: true, pusher: 'ann' },
  ])
  expect(releases[1]?.run?.crashMs).toBeGreaterThan(500)
  const laptop = await laptopOf(robot)
  onTestFinished(() => laptop.close())
  const { stdout } = await laptop.run('rollback', '--list')
  expect(stdout).toMatch(/^digest +program +installed \(UTC\) +by +how it ran$/m)
  // a text that does not fit its row is on the next line
  expect(stdout).toMatch(/counter 2\.0\.0 .* ann\s+crashed after [\d.]+ m?s( ×\d+)?$/m)
  expect(stdout).toMatch(/counter 1\.0\.0 .* ann\s+ran \d+ s$/m)
  expect(stdout).toMatch(/counter 4\.0\.0 .* ann\s+never committed$/m)
  const never = releases[3]?.digest.slice(7, 19) ?? ''
  expect((await laptop.run('rollback', never)).stderr).toContain('was never committed, so the robot did not keep it')
  // a crash makes an earlier order stale
  await eventually(async () => (await laptop.run('rollback')).status === 0)
  expect(await robot.running()).toMatchObject({ version: '1.0.0' })
  // the record of runs survives a restart
  await robot.end('SIGKILL')
  await robot.begin()
  await robot.running()
  const after = await robot.client.releases('main')
  expect(
    after
      .filter(({ run }) => run?.well === false)
      .map(({ version }) => version)
      .sort(),
  ).toEqual(['2.0.0', '3.0.0'])
  rmSync(laptop.dir, { recursive: true, force: true })
  expect(await ended(robot.client.stop('main'))).toMatchObject({ outcome: 'stopped' })
})
