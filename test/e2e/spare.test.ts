/** The spare child of `watch`: when there is one, how it is used, and that none is left over. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Asking, loadersOf } from './asking.ts'
import { eventually } from './eventually.ts'
import { TestRobot } from './robot.ts'

let robot: TestRobot

beforeAll(async () => {
  robot = await TestRobot.start()
  await robot.commit('counter')
})
afterAll(async () => robot?.close())

const loaders = () => loadersOf(robot)
const only = (pids: readonly number[]) => eventually(() => loaders().join() === pids.join())

describe('HANDOVER 12: a spare child', () => {
  test('HANDOVER 12.1, 12.4: becomes the candidate of each push, with the state; 20 pushes leave nothing behind', {
    tags: ['slow'],
  }, async () => {
    const mark = robot.trace.mark()
    const asking = new Asking(robot)
    for (let n = 0; n < 20; n++) {
      const spare = await asking.ready()
      await robot.commit('counter', { version: `1.${n}.0` })
      expect((await robot.running()).pid).toBe(spare)
    }
    const spare = await asking.ready()
    const { pid } = await robot.running()
    expect(loaders().sort()).toEqual([pid, spare].sort())
    robot.check(mark)
    // it ends with the session that asked for it (HANDOVER 12.5)
    await asking.end()
    await only([pid])
  })

  test('HANDOVER 12.4: a program with other needs gets a fresh child, after the spare has ended', {
    tags: ['slow'],
  }, async () => {
    const asking = new Asking(robot)
    const spare = await asking.ready()
    await robot.commit('looks-around')
    const { pid } = await robot.running()
    expect(pid).not.toBe(spare)
    expect(loaders()).not.toContain(spare)
    const next = await asking.ready()
    await robot.commit('looks-around', { version: '2.0.0' })
    expect((await robot.running()).pid).toBe(next)
    await robot.commit('counter', { version: '2.0.0' })
    await asking.ready()
    await asking.end()
  })

  test('a swap to it can be undone; the next push has a new spare', { tags: ['slow'] }, async () => {
    const asking = new Asking(robot)
    const spare = await asking.ready()
    const { pid } = await robot.running()
    expect(await robot.push('counter', { version: '3.0.0', program: 'other' })).toMatchObject({ outcome: 'committed' })
    expect((await robot.running()).pid).toBe(spare)
    const next = await asking.ready()
    expect(await robot.push('dies-in-trial')).toMatchObject({ outcome: 'rolled-back' })
    expect((await robot.running()).pid).toBe(spare)
    expect([pid, next]).not.toContain(await asking.ready())
    robot.check()
    await asking.end()
  })

  test('HANDOVER 12.5: ends with the program, by a stop and by an emergency stop, and is there again after a start', {
    tags: ['slow'],
  }, async () => {
    const asking = new Asking(robot)
    await asking.ready()
    await robot.events(robot.client.stop('main'))
    expect(await asking.gone()).toBe('its program has ended or is being replaced')
    await only([])
    await robot.events(robot.client.start('main'))
    await asking.ready()
    await robot.events(robot.client.estop())
    await only([])
    await robot.events(robot.client.release())
    await robot.events(robot.client.start('main'))
    const spare = await asking.ready()

    // a crash of the program, and one of the spare itself
    const { pid } = await robot.running()
    process.kill(pid, 'SIGKILL')
    await robot.running(pid)
    const next = await asking.ready()
    expect(next).not.toBe(spare)
    process.kill(next, 'SIGKILL')
    expect(await asking.gone()).toBe('it ended by itself')
    await robot.commit('counter', { version: '4.0.0' })
    await asking.ready()
    // when the endpoint ends, all sessions end
    process.kill(robot.endpoint(), 'SIGKILL')
    await robot.reconnect()
    await only([(await robot.running()).pid])
    await asking.end().catch(() => {})
  })

  test('HANDOVER 12.5: ends when it is unused for timing.spareMs, and when memory is short, until the next push', {
    tags: ['slow'],
  }, async () => {
    const board = join(robot.home, 'board.json')
    const { timing, ...rest } = JSON.parse(readFileSync(board, 'utf8'))
    await robot.end()
    writeFileSync(board, JSON.stringify({ ...rest, timing: { ...timing, spareMs: 200 } }))
    await robot.begin()
    const { pid } = await robot.running()
    const asking = new Asking(robot)
    expect(await asking.gone()).toBe('not used')
    await only([pid])
    const told = asking.events.length
    await robot.commit('counter', { version: '5.0.0' })
    await eventually(() => asking.events.length > told)
    await asking.end()

    await robot.end()
    writeFileSync(board, JSON.stringify({ ...rest, timing, memoryReserveMb: 1_000_000 }))
    await robot.begin()
    const again = await robot.running()
    const poor = new Asking(robot)
    expect(await poor.gone()).toBe('too little memory')
    expect(loaders()).toEqual([again.pid])
    await poor.end()
  })
})
