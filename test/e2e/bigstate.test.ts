/** A swap with the largest allowed state. */
import { expect, test } from 'vitest'
import { TestRobot } from './robot.ts'
import { expectNoTickLost } from './trace.ts'

test('HANDOVER 5.3: 64 MiB of state are handed over, and no tick is lost', async () => {
  // long deadlines for a busy machine, and much memory: both programs and the body hold several copies of the state
  const timing = { yieldMs: 5000, takeoverMs: 10_000, heartbeatMs: 10_000, readyMs: 30_000, checkpointMs: 600_000 }
  const large = await TestRobot.start(timing, {}, { more: { limits: { memoryMb: 1024 } } })
  try {
    await large.commit('large-state')
    await large.trace.more('dial')
    const mark = large.trace.mark()
    const receipt = await large.commit('large-state', { version: '1.1.0' })
    expect(receipt.stateBytes).toBe(64 * 1024 * 1024)
    await large.trace.more('dial')
    expectNoTickLost(large.trace.since(mark))
    large.check()
    console.log(`64 MiB of state: gap ${receipt.gapMs?.toFixed(1)} ms`)
  } finally {
    await large.close()
  }
})
