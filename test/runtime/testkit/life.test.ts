/** Rehearsals, onLive, async ticks and async run() in simulated time, which behave as on a robot. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { robot } from 'medulla'
import { simulate } from 'medulla/test'
import { expect, onTestFinished, test } from 'vitest'

const board = { handles: { led: { kind: 'output', line: 17 } } }

test('HANDOVER 9.12: an async tick or run that rejects is a crash: sim.run throws it, and the program starts again', async () => {
  const program = () =>
    robot({ led: 'output' }, ({ led, every, info, log }) => {
      log(`live ${info.why}`)
      let ticks = 0
      every(100, async () => {
        led.write(1)
        if (++ticks === 3) throw new Error('the sensor is gone')
      })
    })
  const sim = await simulate(program, { board })
  await expect(sim.run('2s')).rejects.toThrow(/at 200 ms the program crashed: the sensor is gone/)
  expect(sim.value('led')).toBe(0)
  await sim.run('250ms')
  expect(sim.log.filter(({ stream }) => stream === 'log').map(({ text }) => text)).toEqual(
    expect.arrayContaining(['live start', 'live restart']),
  )
  await sim.stop()

  const logged = await simulate(
    () =>
      robot({ led: 'output' }, async ({ led }) => {
        led.write(1)
        await new Promise((resolve) => setTimeout(resolve, 50))
        void Promise.reject(new Error('nobody handles it'))
      }),
    { board, crashes: 'log' },
  )
  await logged.run('120ms')
  expect(logged.receipts.map(({ outcome }) => outcome)).toEqual(['started', 'crashed'])
  await logged.stop()
})

test('HANDOVER 4.8: every() called after an await, or in a tick, is first due one period later', async () => {
  const dts: string[] = []
  const sim = await simulate(
    () =>
      robot({ led: 'output' }, async ({ led, every }) => {
        await new Promise((resolve) => setTimeout(resolve, 50))
        let added = false
        every(20, (dt) => {
          led.write(!led.value)
          dts.push(`20 ${dt}`)
          if (added) return
          added = true
          every(30, (other) => dts.push(`30 ${other}`))
        })
      }),
    { board },
  )
  await sim.run('110ms')
  expect(dts).toEqual(['20 0.02', '20 0.02', '30 0.03', '20 0.02'])
  expect(sim.changes('led').map(({ ms }) => ms)).toEqual([0, 70, 90, 110])
  await sim.stop()
})

test('HANDOVER 13.3: a rehearsal in a simulation has no effects: no timer, no server, no file', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'medulla-life-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  let fired = 0
  const servers: boolean[] = []
  const sim = await simulate(
    () =>
      robot({ led: 'output' }, ({ info, log }) => {
        if (info.why === 'rehearsal') writeFileSync(join(folder, 'written'), '')
        setTimeout(() => fired++, 10)
        const server = createServer().listen(join(folder, `socket-${info.why}`), () => {
          servers.push(server.listening)
          server.close()
          log('listens')
        })
        void Promise.reject(new Error('of a rehearsal')).catch((error) => {
          if (info.why === 'rehearsal') throw error
        })
      }),
    { board, rehearsals: 5 },
  )
  await sim.run('20ms')
  await expect.poll(() => servers).toEqual([true])
  expect(fired).toBe(1)
  expect(existsSync(join(folder, 'written'))).toBe(false)
  await sim.stop()
})

test('HANDOVER 13.7: a swap that is called off because of a hold does not end onLive', async () => {
  const sim = await simulate(
    () =>
      robot({ led: 'output' }, ({ led, every, hold, log, onLive }) => {
        hold('the arm is moving')
        onLive((why) => {
          log(`begins: ${why}`)
          return () => log('ends')
        })
        every(20, () => led.write(1))
      }),
    { board },
  )
  await sim.run('100ms')
  await expect(sim.swap(() => robot({ led: 'output' }, () => {}))).rejects.toThrow('the arm is moving')
  await sim.run('1s')
  expect(sim.log.filter(({ stream }) => stream === 'log').map(({ text }) => text)).toEqual(['begins: start'])
  await sim.stop()
})

test('HANDOVER 13.6, 13.7: onLive begins and ends around a swap, a rollback and a stop, and onStop is awaited', async () => {
  const version =
    (name: string, unfit = false) =>
    () =>
      robot({
        needs: { led: 'output' },
        run({ led, every, health, log, onLive, onStop }) {
          onLive((why) => {
            log(`${name} ${why}`)
            return async () => {
              await new Promise((resolve) => setTimeout(resolve, 10))
              log(`${name} over at ${led.value}`)
            }
          })
          onStop(async () => {
            await new Promise((resolve) => setTimeout(resolve, 100))
            log(`${name} stopped`)
          })
          if (unfit) health(() => 'unfit')
          every(20, () => led.write(1))
        },
      })
  const sim = await simulate(version('a'), { board, crashes: 'log' })
  await sim.run('1s')
  await sim.swap(version('b'))
  await sim.run('3s')
  const swap = await sim.swap(version('c', true))
  await sim.run('3s')
  expect(swap.outcome).toBe('rolled-back')
  await sim.stop()
  const said = sim.log.filter(({ stream }) => stream === 'log').map(({ text }) => text)
  expect(said).toEqual(['a start', 'a over at 1', 'b swap', 'b over at 1', 'c swap', 'c over at 1', 'b rollback', 'b over at 1', 'b stopped']) // biome-ignore format: a list
})
