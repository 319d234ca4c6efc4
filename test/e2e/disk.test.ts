/** A disk that is full or refuses writes: stops still work, and the robot goes on (HANDLES 6.7, 6.11). */
import { spawnSync } from 'node:child_process'
import { existsSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, onTestFinished, test } from 'vitest'
import { eventually } from './eventually.ts'
import { TestRobot } from './robot.ts'

const BADFS = fileURLToPath(new URL('children/badfs.mjs', import.meta.url))

async function level(robot: TestRobot, name: string): Promise<number | undefined> {
  for await (const pin of robot.client.pins()) if (pin.name === name) return pin.value
  return undefined
}

async function robotWith(setup: Parameters<typeof TestRobot.start>[2]): Promise<TestRobot> {
  const robot = await TestRobot.start({}, {}, setup)
  onTestFinished(() => robot.close())
  await robot.commit('counter')
  await eventually(async () => (await level(robot, 'led')) === 1)
  return robot
}

describe.each(['ENOSPC', 'EIO', 'EROFS'] as const)('HANDLES 6.11: every write fails with %s', (code) => {
  test('an emergency stop works, says that it was not written to disk, and can be released when the disk works again', async () => {
    const robot = await robotWith({ preload: BADFS })
    const { pid } = robot
    robot.fault(code)
    const stopped = await robot.events(robot.client.estop())
    expect(stopped).toMatchObject({ outcome: 'estopped', message: expect.stringContaining(`not on disk (${code}`) })
    expect(robot.programPid).toBeUndefined()
    expect(await level(robot, 'led')).toBe(0)
    expect(await robot.push('counter', { version: '2.0.0' })).toMatchObject({ code: 'estopped' })
    expect(await robot.events(robot.client.release())).toMatchObject({ code: 'estopped' })
    expect((await robot.client.status()).estop).not.toBeNull()
    robot.fault(null)
    expect(await robot.events(robot.client.release())).toMatchObject({ outcome: 'released' })
    expect(await robot.events(robot.client.start('main'))).toMatchObject({ outcome: 'started' })
    await robot.running()
    expect(robot.pid).toBe(pid)
  })

  test('medulla stop works, and the answer says what could not be written to disk', async () => {
    const robot = await robotWith({ preload: BADFS })
    robot.fault(code)
    const stopped = await robot.events(robot.client.stop('main'))
    expect(stopped).toMatchObject({ outcome: 'stopped', message: expect.stringContaining(`not on disk: ${code}`) })
    expect(await level(robot, 'led')).toBe(0)
    expect((await robot.slot()).state).toBe('idle')
  })

  test('after a crash the safe levels are driven and the program restarts; a push is undone, and answered', async () => {
    const robot = await robotWith({ preload: BADFS })
    const { pid } = await robot.running()
    robot.fault(code)
    process.kill(pid, 'SIGKILL')
    const again = await robot.running(pid)
    expect(again.program).toBe('counter')
    const pushed = await robot.push('counter', { version: '2.0.0' })
    expect(['rolled-back', 'refused']).toContain(pushed.outcome)
    await robot.trace.more('dial')
    robot.fault(null)
    await robot.commit('counter', { version: '3.0.0' })
  })
})

/** Mounts a small tmpfs, if root may do so here. */
function small(path: string): boolean {
  return spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=16m,mode=700', 'tmpfs', path]).status === 0
}

test.skipIf(process.getuid?.() !== 0)(
  'HANDLES 6.11: on a disk without a free byte a stop is recorded, and outlives the runtime',
  async ({ skip }) => {
    let mounted = ''
    let may = true
    const robot = await TestRobot.start(
      {},
      {},
      {
        prepareHome(home) {
          may = small(home)
          mounted = home
        },
      },
    )
    onTestFinished(async () => {
      await robot.end()
      if (may) spawnSync('umount', [mounted])
      await robot.close()
    })
    skip(!may, 'no mounts here')
    await robot.commit('counter')
    await robot.commit('counter', { to: 'other', version: '1.0.1' }).catch(() => {})
    const filler = join(robot.home, 'filler')
    const { bavail, bsize } = statfsSync(robot.home)
    writeFileSync(filler, Buffer.alloc(bavail * bsize))
    expect(() => writeFileSync(join(robot.home, 'one-more'), Buffer.alloc(65_536))).toThrow('ENOSPC')

    expect(await robot.events(robot.client.stop('main'))).toMatchObject({ outcome: 'stopped' })
    const { message } = await robot.events(robot.client.estop())
    expect(message).not.toContain('the stop is not on disk')
    expect(message).toContain('its receipt is not on disk')
    await robot.end('SIGKILL')

    rmSync(filler)
    rmSync(join(robot.home, 'one-more'), { force: true })
    await robot.begin()
    expect((await robot.client.status()).estop?.reason).toBe('an operator')
    await robot.events(robot.client.release())
    await robot.end('SIGKILL')
    await robot.begin()
    // the slot stays stopped after a restart
    expect((await robot.slot()).state).toBe('idle')
    expect(robot.programPid).toBeUndefined()
    expect(existsSync(join(robot.home, 'stops.latch'))).toBe(true)
  },
)
