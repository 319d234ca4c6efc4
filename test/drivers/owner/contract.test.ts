import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually } from '../../e2e/eventually.ts'
import { bundle, failure, openFds, temporary } from '../host.ts'
import { PERIOD, RIGS, type Rig } from '../rigs.ts'

const folder = temporary()
let program: string

beforeAll(async () => {
  program = await bundle('children/host.ts', folder.path)
})
afterAll(() => folder.remove())

describe.each(RIGS.filter(({ absent }) => absent !== undefined))('a handle: $name', ({ absent }) => {
  // A skipped test shows in the report why this machine lacks a kind of handle.
  test.skip(`skipped: ${absent}`, () => {})
})

describe.each(RIGS.filter(({ absent }) => absent === undefined))('a handle: $name', (kind) => {
  let rig: Rig
  let before: number
  let fence = 1
  const own = temporary()
  const lease = (live: boolean, number = fence) => rig.host.send({ op: 'lease', lease: { live, fence: number } })
  const get = (handle: string, property: string) => rig.host.send({ op: 'get', handle, property })

  beforeAll(async () => {
    before = openFds()
    rig = await kind.start(program, own.path)
    rig.allow(fence)
    await lease(true)
  })
  afterAll(async () => {
    await rig.end()
    own.remove()
    await eventually(() => openFds() === before)
  })

  test('an output drives the written level and shows it as its value', async () => {
    expect(rig.observe('led')).toBe(0)
    for (const [given, level] of [
      [1, 1],
      [0, 0],
      [true, 1],
      [false, 0],
      [1, 1],
    ] as const) {
      await rig.host.call('led', 'write', given)
      expect(rig.observe('led')).toBe(level)
      expect(await get('led', 'value')).toBe(level)
    }
  })

  test('a pwm drives duty cycles within its limits, and has its period', async () => {
    expect(await get('arm', 'value')).toBe(0.05)
    expect(await get('arm', 'periodNs')).toBe(PERIOD)
    for (const [given, duty] of [
      [0.5, 0.5],
      [0.075, 0.075],
      [0, 0.02],
      [1, 0.9],
    ] as const) {
      await rig.host.call('arm', 'write', given)
      expect(rig.observe('arm')).toBeCloseTo(duty, 6)
      expect(await get('arm', 'value')).toBe(duty)
    }
  })

  test('HANDLES 6.4: an invalid duty cycle never reaches the hardware', async () => {
    await rig.host.call('arm', 'write', 0.25)
    // JSON turns NaN into null; undefined is left out
    for (const bad of [-0.01, 1.01, 'x']) expect(await failure(rig.host.call('arm', 'write', bad))).toBe('other')
    expect(await failure(rig.host.call('arm', 'write'))).toBe('other')
    expect(rig.observe('arm')).toBeCloseTo(0.25, 6)
  })

  test('HANDLES 1.5: a servo drives degrees within its range', async () => {
    expect([await get('grip', 'kind'), await get('grip', 'value')]).toEqual(['servo', 0])
    expect(await get('grip', 'range')).toEqual([-45, 45])
    for (const [given, degrees] of [
      [30, 30],
      [-12.5, -12.5],
      [-1000, -45],
      [46, 45],
    ] as const) {
      await rig.host.call('grip', 'write', given)
      expect(rig.observe('grip')).toBeCloseTo(degrees, 3)
      expect(await get('grip', 'value')).toBe(degrees)
    }
    for (const bad of ['x', null]) expect(await failure(rig.host.call('grip', 'write', bad))).toBe('other')
    expect(rig.observe('grip')).toBeCloseTo(45, 3)
  })

  test.runIf(kind.slew)('HANDLES 15.2: a servo with a slew limit goes on by itself until it is there', async () => {
    await rig.host.call('boom', 'write', 45)
    expect(await get('boom', 'value')).toBeLessThan(45)
    await expect.poll(() => rig.observe('boom')).toBeCloseTo(45, 3)
    expect(await get('boom', 'value')).toBe(45)
    await rig.host.call('boom', 'write', -45)
    await lease(false)
    const parked = await get('boom', 'value')
    // as for a resumed program: it gets the values before its lease
    await rig.host.send({ op: 'carry', handle: 'boom', value: parked })
    await lease(true)
    expect(parked).toBeGreaterThan(-45)
    await expect.poll(() => rig.observe('boom')).toBeCloseTo(parked as number, 3)
  })

  test('an input reads the current level', async () => {
    for (const level of [1, 0, 1] as const) {
      rig.setInput(level)
      expect(await rig.host.call('button', 'read')).toBe(level)
    }
  })

  test('edges that the body read reach the listeners in order', async () => {
    await rig.host.send({ op: 'listen', handle: 'button' })
    await rig.host.send({ op: 'edge', handle: 'button', level: 1, seqno: 7 })
    await rig.host.send({ op: 'edge', handle: 'button', level: 0, seqno: 9 })
    expect(await rig.host.send({ op: 'heard' })).toEqual(['1#7', '0#9'])
  })

  test('HANDLES 3.4, HANDOVER 4.1: without a lease writes are refused, and inputs can be read', async () => {
    await rig.host.call('led', 'write', 1)
    await lease(false)
    expect(await failure(rig.host.call('led', 'write', 0))).toBe('revoked')
    expect(await failure(rig.host.call('arm', 'write', 0.9))).toBe('revoked')
    expect(await failure(rig.host.call('grip', 'write', 0))).toBe('revoked')
    expect(await get('led', 'value')).toBe(1)
    expect(rig.observe('led')).toBe(1)
    expect(await rig.host.call('button', 'read')).toBe(1)
    await lease(true)
  })

  test('HANDLES 3.6: a carried value is taken over without a write', async () => {
    await rig.host.call('led', 'write', 0)
    await rig.host.send({ op: 'carry', handle: 'led', value: 1 })
    expect(await get('led', 'value')).toBe(1)
    expect(rig.observe('led')).toBe(0)
  })

  test.runIf(kind.fences)('HANDLES 3.5: old fences, and fences not given yet, write nothing', async () => {
    await rig.host.call('led', 'write', 1)
    const old = fence
    fence += 2
    rig.allow(fence)
    // a stale record on a pipe is dropped silently; a brokered write throws
    for (const wrong of [old, fence + 1]) {
      await lease(true, wrong)
      expect(['none', 'revoked']).toContain(await failure(rig.host.call('led', 'write', 0)))
      expect(rig.observe('led')).toBe(1)
    }
    await lease(true)
    await rig.host.call('led', 'write', 0)
    expect(rig.observe('led')).toBe(0)
  })

  test.runIf(kind.i2c)('an i2c device transfers bytes', async () => {
    expect(await rig.host.call('imu', 'writeRead', [0x75], 1)).toEqual([0x68])
    await rig.host.call('imu', 'write', [0x6b, 0])
    await rig.host.call('imu', 'write', [0x3b])
    expect(await rig.host.call('imu', 'read', 6)).toEqual([0, 0, 0, 0, 0x40, 0])
    expect(await failure(rig.host.call('imu', 'read', 5000))).toBe('other')
    await lease(false)
    expect(await failure(rig.host.call('imu', 'read', 1))).toBe('revoked')
    await lease(true)
  })

  test('a closed handle refuses every call and leaves the hardware unchanged', async () => {
    await rig.host.call('led', 'write', 1)
    await rig.host.call('led', 'close')
    await rig.host.call('led', 'close')
    expect(await failure(rig.host.call('led', 'write', 0))).toBe('revoked')
    await rig.host.call('button', 'close')
    expect(await failure(rig.host.call('button', 'read'))).toBe('revoked')
    expect(rig.observe('led')).toBe(1)
  })

  test('HANDLES 3.1: the hardware keeps its value when the program is killed', async () => {
    await rig.host.call('arm', 'write', 0.5)
    await rig.host.end('SIGKILL')
    expect(rig.observe('led')).toBe(1)
    expect(rig.observe('arm')).toBeCloseTo(0.5, 6)
  })
})
