import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { eventually, SCALE } from '../../e2e/eventually.ts'
import { load } from '../../e2e/load.ts'
import { ROOT } from '../../project/tree.ts'
import {
  ABOUT,
  group,
  holds,
  imu,
  mayGroup,
  output,
  pwm,
  rig,
  running,
  SAFE_WITHIN_MS,
  stoppable,
  useGuards,
} from './guardrig.ts'

useGuards()

test("G10: the next body gets the dead body's open files over a UNIX socket (HANDLES 14.1)", async () => {
  const { body, content, lose } = rig({ imu, led: output(1), motor: pwm, brake: output('hold') })
  const first = body()
  expect(await first.report()).toMatchObject({ opened: ['imu', 'led', 'motor', 'brake'], adopted: [], rescue: null })
  // the file was deleted, so a process that has it open got it from the guard
  lose('brake')
  await first.kill()
  const second = body()
  const { opened, adopted, rescue } = await second.report()
  expect(opened).toEqual([])
  expect(rescue).toMatchObject({ confirmed: true, failed: [] })
  // the guard drives declared safe levels, and the next body knows it (HANDLES 14.3)
  expect(content('led')).toBe('1')
  expect(content('motor')).toBe('1500000\n')
  expect(content('imu')).toBe('9')
  const kept = Object.fromEntries(adopted)
  expect(kept.led).toMatchObject({ value: 1, fence: 7, seqno: 41 })
  expect(kept.motor).toMatchObject({ value: 0.075 })
  expect(kept.brake).not.toHaveProperty('value')
  const [brake = -1] = kept.brake?.fds ?? []
  expect(readFileSync(`/proc/${second.process.pid}/fd/${brake}`, 'utf8')).toBe('9')
  await second.end()
})

test.skipIf(!mayGroup)(
  'programs are frozen before the safe levels are driven, and killed after (HANDLES 14.2)',
  async () => {
    const cgroup = group()
    const { body, content } = rig({ led: output(0), brake: output('hold') }, { cgroup, programs: 3 })
    const first = body()
    const { programs } = await first.report()
    await eventually(() => content('led') === '7')
    await first.kill()
    await eventually(() => content('led') === '0')
    const second = body({ programs: 0 })
    const { rescue } = await second.report()
    expect(rescue?.confirmed).toBe(true)
    expect(programs.filter(running)).toEqual([])
    expect(readFileSync(join(cgroup, 'cgroup.freeze'), 'utf8').trim()).toBe('0')
    expect(content('led')).toBe('0')
    expect(content('brake')).toBe('7')
    await second.end()
  },
)

test('without a control group programs are killed by pid (HANDLES 14.2)', async () => {
  const { body, content } = rig({ led: output(0) }, { programs: 3 })
  const first = body()
  const { programs } = await first.report()
  await eventually(() => content('led') === '7')
  await first.kill()
  const second = body({ programs: 0 })
  const { rescue } = await second.report()
  expect(rescue?.confirmed).toBe(true)
  expect(programs.filter(running)).toEqual([])
  expect(content('led')).toBe('0')
  await second.end()
})

test('safe levels are driven in time also when a program cannot be stopped (HANDLES 14.2)', async () => {
  const scale = 0.2 * SCALE
  const { body } = rig({ led: output(0) }, { programs: 1, loose: true })
  const first = body({}, { MEDULLA_TIME_SCALE: String(scale) })
  const { programs } = await first.report()
  onTestFinished(() => void process.kill(programs[0] ?? 0, 'SIGKILL'))
  const busy = load()
  await first.kill()
  const second = body({ programs: 0 })
  const { rescue } = await second.report()
  const { seen = 0, safe = 0, ended = 0 } = rescue ?? {}
  expect(rescue).toMatchObject({ confirmed: false, failed: [] })
  expect(BigInt(safe) - BigInt(seen)).toBeGreaterThan(BigInt(100e6 * scale))
  // five times this guard's limit
  expect(Number(BigInt(safe) - BigInt(seen)) / 1e6).toBeLessThan(SAFE_WITHIN_MS * SCALE * Math.max(busy, load()))
  expect(BigInt(ended)).toBeGreaterThan(BigInt(safe))
  await second.end()
})

test('when a body ends in order, its guard ends too, without writing a level (HANDLES 14.10)', async () => {
  const { body, content, listens } = rig({ led: output(1) })
  const only = body()
  const { guard } = await only.report()
  expect(listens()).toBe(true)
  await only.end()
  expect(running(guard)).toBe(false)
  expect(content('led')).toBe('9')
  expect(listens()).toBe(false)
})

test('a handle whose board entry has changed is released before it is opened anew (HANDLES 14.6)', async () => {
  const { order, body } = rig({ led: output(1), lamp: output(1), old: output(1) })
  const first = body()
  const { guard } = await first.report()
  await first.kill()
  const { led = output(1) } = order.handles
  const second = body({ handles: { led, lamp: output(0) }, role: 'heir' })
  const { opened, adopted } = await second.report()
  expect(opened).toEqual(['lamp'])
  expect(adopted.map(([name]) => name)).toEqual(['led'])
  expect(holds(guard)).toEqual([order.files.led])
  await second.kill()
  // the old guard serves the remaining handles
  const third = body({ about: { ...ABOUT, chip: 'another' }, handles: { led } })
  expect(await third.report()).toMatchObject({ opened: ['led'], adopted: [] })
  expect(holds(guard)).toEqual([])
  await third.end()
})

test('when the next body dies during the takeover, no handle is lost (HANDLES 14.6)', async () => {
  const { body, content, lose } = rig({ led: output(1) })
  const first = body()
  await first.report()
  lose('led')
  await first.kill()
  for (let i = 0; i < 3; i++) {
    const heir = body({ role: 'heir' })
    expect(await heir.report()).toMatchObject({ opened: [] })
    await heir.kill()
  }
  const last = body()
  expect(await last.report()).toMatchObject({ opened: [], rescue: { confirmed: true, failed: [] } })
  await last.end()
  expect(() => content('led')).toThrow('ENOENT')
})

test('200 handles are passed to the next body', async () => {
  const handles = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`led${i}`, output(1)]))
  const { body, content } = rig(handles)
  const first = body()
  await first.report()
  await first.kill()
  const second = body()
  expect(await second.report()).toMatchObject({ opened: [], adopted: { length: 200 } })
  expect(content('led199')).toBe('1')
  await second.end()
})

test('a guard that dies is replaced while the body lives (HANDLES 14.8)', async () => {
  const { body, content } = rig({ led: output(1) })
  const only = body()
  const { guard } = await only.report()
  process.kill(guard, 'SIGKILL')
  expect((await only.line()).note).toMatch(/^error: no guard: it ended with SIGKILL; starting a new one in 100 ms/)
  expect((await only.line()).note).toBe('info: a guard holds the handles again')
  only.say('guard')
  const { guard: next } = await only.report()
  expect(next).not.toBe(guard)
  expect(content('led')).toBe('9')
  await only.kill()
  await eventually(() => content('led') === '1')
  const second = body()
  expect((await second.report()).opened).toEqual([])
  await second.end()
})

test('a guard that does not answer is ended, and the handles are opened anew (HANDLES 14.8)', async () => {
  const { body } = rig({ led: output(1) })
  const first = body()
  const { guard } = await first.report()
  process.kill(guard, 'SIGSTOP')
  await first.kill()
  const second = body({}, { MEDULLA_TIME_SCALE: String(0.1 * SCALE) })
  expect((await second.line()).note).toMatch(/^error: the guard of the last body is killed: EAGAIN/)
  expect((await second.report()).opened).toEqual(['led'])
  expect(running(guard)).toBe(false)
  await second.end()
})

test.skipIf(process.getuid?.() !== 0)(
  'only a process of the same user can take the handles (HANDLES 14.5)',
  async () => {
    const { order, body } = rig({ led: output(1) })
    const first = body()
    await first.report()
    await first.kill()
    const script = `const s = require('net').connect(${JSON.stringify(join(order.folder, 'guard.sock'))})
    s.on('error', ({ code }) => console.log(code)).on('data', () => console.log('data')).on('end', () => console.log('end'))`
    const stranger = spawn(process.execPath, ['-e', script], {
      uid: 65534,
      gid: 65534,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [said] = await Promise.all([new Promise((resolve) => stranger.stdout?.once('data', resolve))])
    expect(String(said).trim()).toBe('EACCES')
    const second = body()
    expect((await second.report()).opened).toEqual([])
    await second.end()
  },
)

test('safe levels are driven within the time of the specification', {
  tags: ['slow'],
  timeout: 300_000 * SCALE,
}, async () => {
  const cgroup = mayGroup ? group() : null
  const { body, content } = rig({ led: output(0) }, { cgroup, programs: 2 })
  const took: number[] = []
  let present = body()
  await present.report()
  let busy = load()
  for (let i = 0; i < 20; i++) {
    await eventually(() => content('led') === '7')
    const killed = await present.kill()
    present = body()
    const { rescue } = await present.report()
    const before = busy
    busy = load()
    took.push(Number(BigInt(rescue?.safe ?? 0) - killed) / 1e6 / Math.max(before, busy))
  }
  await present.end()
  expect(Math.max(...took)).toBeLessThan(SAFE_WITHIN_MS * SCALE)
})

test("at the emergency stop's input the guard stops programs, drives levels, latches and tells the body (HANDLES 6.7, 14.12)", async () => {
  const { body, content, pull, guarded } = stoppable()
  const only = body()
  const { programs } = await only.report()
  await eventually(() => content('led') === '7')
  pull('stop', 1)
  expect(await only.line()).toEqual({ stopped: 'the input stop' })
  expect(content('led')).toBe('0')
  // the programs no longer write: they are frozen, or killed without a control group
  if (!mayGroup) expect(programs.filter(running)).toEqual([])
  expect((await eventually(guarded))?.reason).toBe('the input stop')
  only.say('release')
  expect(await only.line()).toEqual({ done: false })
  pull('stop', 0)
  // at once, because the guard reads the input also when it is asked
  only.say('release')
  expect(await only.line()).toEqual({ done: true })
  expect(content('led')).toBe('0')
  await only.end()
})

test.each(['hang', 'SIGSTOP'] as const)(
  'the emergency stop works while the body stands still: %s (HANDLES 14.12)',
  async (how) => {
    /** ms until the safe level, as a part of the bound. What the machine delays is not in each round; a fault is. */
    const parts: number[] = []
    while (parts.length < 3 && !parts.some((part) => part < 1)) {
      const { body, content, pull, guarded } = stoppable()
      const only = body()
      await only.report()
      await eventually(() => content('led') === '7')
      if (how === 'hang') only.say('hang')
      else only.process.kill('SIGSTOP')
      const from = performance.now()
      const before = load()
      pull('stop', 1)
      await eventually(() => content('led') === '0')
      parts.push((performance.now() - from) / (SAFE_WITHIN_MS * SCALE * Math.max(before, load())))
      expect((await eventually(guarded))?.reason).toBe('the input stop')
      // the next body knows the stop, also without the file
      await only.kill()
      const second = body({ programs: 0 })
      expect((await second.report()).latch?.reason).toBe('the input stop')
      await second.end()
    }
    expect(Math.min(...parts)).toBeLessThan(1)
  },
)

test.each(['hang', 'SIGSTOP'] as const)(
  'a body that stands still is treated as dead: %s (HANDLES 14.11)',
  async (how) => {
    const { body, content } = stoppable({ bodyMs: 500 })
    const first = body()
    const { programs } = await first.report()
    await eventually(() => content('led') === '7')
    const ended = new Promise((resolve) => first.process.once('exit', (_, signal) => resolve(signal)))
    if (how === 'hang') first.say('hang')
    else first.process.kill('SIGSTOP')
    expect(await ended).toBe('SIGKILL')
    await eventually(() => content('led') === '0')
    const second = body({ programs: 0 })
    expect((await second.report()).rescue).toMatchObject({ cause: 'hung', confirmed: true, failed: [] })
    expect(programs.filter(running)).toEqual([])
    await second.end()
  },
)

test('a busy body that still sends signs of life is left alone (HANDLES 14.11)', async () => {
  const { body } = stoppable({ bodyMs: 500 })
  const only = body()
  const { guard } = await only.report()
  await new Promise((resolve) => setTimeout(resolve, 1500 * SCALE))
  only.say('guard')
  expect((await only.report()).guard).toBe(guard)
  await only.end()
})

test.each(['/dev/full', '/dev/null'])(
  'the guard stops also when the latch cannot be written: %s (HANDLES 6.11)',
  async (latch) => {
    const { body, content, pull } = stoppable()
    const first = body({ latch })
    await first.report()
    await eventually(() => content('led') === '7')
    pull('stop', 1)
    await eventually(() => content('led') === '0')
    await first.kill()
    const second = body({ programs: 0 })
    expect((await second.report()).latch).not.toBeNull()
    await second.end()
  },
)

test('an emergency stop ordered by the body is executed as one of the input (HANDLES 14.12)', async () => {
  const { body, content, guarded } = stoppable()
  const only = body()
  await only.report()
  await eventually(() => content('led') === '7')
  only.say('stop')
  expect(await only.line()).toEqual({ done: true })
  expect(content('led')).toBe('0')
  expect((await eventually(guarded))?.reason).toBe('an operator')
  await only.end()
})

test('the systemd service kills only the body, restarts it, and allows no core dump (HANDLES 14.9)', () => {
  const lines = readFileSync(join(ROOT, 'runtime/medulla.service'), 'utf8').split('\n')
  for (const line of [
    'Type=notify',
    'WatchdogSignal=SIGKILL',
    'KillMode=process',
    'Restart=always',
    'Delegate=yes',
    'OOMPolicy=continue',
    'LimitCORE=0',
  ])
    expect(lines).toContain(line)
})
