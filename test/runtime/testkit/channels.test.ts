/** Message channels in simulated time. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { robot } from 'medulla'
import { edited, type LaptopChannel, type Simulation, simulate } from 'medulla/test'
import { expect, onTestFinished, test } from 'vitest'
import { text } from '../../project/tree.ts'

const board = { handles: { led: { kind: 'output', line: 17 } } }
const program = (name: string) => new URL(`../../programs/${name}.ts`, import.meta.url)
const ECHOES = program('echoes')
/** Fails its trial once it has taken 50 messages: gives its state back, or dies. */
const SICK = edited(ECHOES, "info.version !== '8.1.0' || ", '')
const DIES = edited(ECHOES, "info.version === '8.2.0' && ", 'info.tookOver && ')

const upTo = (count: number): number[] => Array.from({ length: count }, (_, at) => at + 1)
const heardOn = (tune: LaptopChannel): unknown[] => tune.messages.map((answer) => (answer as { heard: unknown }).heard)

/** Sends numbers on `tune` in each ms of simulated time. */
function talk(sim: Simulation, tune: LaptopChannel): { readonly sent: number; end(): void } {
  let [sent, goes] = [0, true]
  sim.every(1, () => goes && tune.send(++sent))
  return {
    get sent() {
      return sent
    },
    end: () => {
      goes = false
    },
  }
}

test('CHANNEL 12.6: in simulated time the test is the laptop, and in rehearsals nobody is', async () => {
  const sim = await simulate(ECHOES, { board })
  const tune = sim.channel('tune')
  for (const message of [{ kp: 1.5 }, 'text', Uint8Array.of(1, 2)]) tune.send(message)
  expect(tune.messages).toEqual([])
  expect([tune.isOpen, tune.unconfirmed]).toEqual([false, 3])
  await sim.run(5)
  expect(tune.messages).toMatchObject([
    { heard: { kp: 1.5 }, n: 1 },
    { heard: 'text', n: 2 },
    { bytes: true, n: 3 },
  ])
  expect([tune.isOpen, tune.unconfirmed]).toEqual([true, 0])
  tune.close()
  await sim.run(5)
  expect(sim.log.map(({ text }) => text)).toEqual(['tune opened, start', 'tune closed'])
  expect(() => tune.send(1)).toThrow('closed')
  await sim.stop()
})

test('CHANNEL 12.6, HANDOVER 4.3: a candidate with a channel that cannot be is found in its rehearsal', async () => {
  const sim = await simulate(ECHOES, { board })
  await sim.run(5)
  for (const [wrong, message] of [
    ["channel('Count')", 'expected a name like tune, got Count'],
    ["[...'abcdefghijklmnopq'].map((name) => channel(name))[0] as typeof tune", 'a program has at most 16 channels'],
  ] as const) {
    await expect(sim.swap(edited(ECHOES, "channel('count')", wrong))).rejects.toThrow(message)
  }
  await sim.stop()
})

test('CHANNEL 12.8: in simulated time a swap loses and doubles no message of either end', async () => {
  const sim = await simulate(ECHOES, { board })
  const [tune, count] = [sim.channel('tune'), sim.channel('count')]
  const talking = talk(sim, tune)
  await sim.run(20)
  for (let swaps = 0; swaps < 3; swaps++) await sim.swap(ECHOES)
  const back = await sim.rollback()
  await sim.run('3s')
  expect(back.outcome).toBe('committed')
  talking.end()
  await sim.run(10)
  expect(heardOn(tune)).toEqual(upTo(talking.sent))
  expect((tune.messages as { n: number }[]).map(({ n }) => n)).toEqual(upTo(talking.sent))
  expect(count.messages).toEqual(upTo(count.messages.length))
  // no program saw another laptop
  expect(sim.log.filter(({ text }) => text.startsWith('tune '))).toHaveLength(1)
  await sim.stop()
})

test.each([
  ['gives its state back', SICK, 'unhealthy'],
  ['dies', DIES, 'died-in-trial'],
] as const)(
  'CHANNEL 12.8: in simulated time a swap that is undone loses and doubles no message: the new program %s',
  async (_, sick, code) => {
    const sim = await simulate(ECHOES, { board, crashes: 'log' })
    const tune = sim.channel('tune')
    const talking = talk(sim, tune)
    await sim.run(20)
    await sim.swap(sick)
    await sim.run('2s')
    expect(sim.receipts.at(-1)).toMatchObject({ outcome: 'rolled-back', code })
    talking.end()
    await sim.run(10)
    expect(heardOn(tune)).toEqual(upTo(talking.sent))
    await sim.stop()
  },
)

test('CHANNEL 12.10: in simulated time messages that a crashed program may have had do not come again', async () => {
  const heard: unknown[] = []
  const sim = await simulate(
    () =>
      robot({ led: 'output' }, ({ channel }) => {
        channel('tune').on('message', (message) => {
          if (message === 'die') throw new Error('as the laptop said')
          heard.push(message)
        })
      }),
    { board, crashes: 'log' },
  )
  const tune = sim.channel('tune')
  for (const message of ['one', 'die', 'two']) tune.send(message)
  await sim.run('5s')
  tune.send('three')
  await sim.run(5)
  expect(heard).toEqual(['one', 'three'])
  expect([tune.lost, tune.unconfirmed]).toEqual([2, 0])
  await sim.stop()
})

test('CHANNEL 12.5: in simulated time a paused laptop holds the program back, without loss', async () => {
  const sim = await simulate(program('floods-channel'), { board })
  const flood = sim.channel('flood')
  const numbers = () => flood.messages.map((message) => Buffer.from(message as Uint8Array).readUInt32LE())
  flood.pause()
  await sim.until('held')
  await sim.run(100)
  expect(numbers()).toEqual([])
  flood.resume()
  await sim.run(20)
  const { length } = numbers()
  expect(length).toBeGreaterThan(10)
  expect(numbers()).toEqual(upTo(length).map((number) => number - 1))
  // a swap waits until the laptop has confirmed what cannot be handed over; the new program numbers its messages anew
  await sim.swap(program('floods-channel'))
  await sim.run(20)
  const second = numbers().indexOf(0, 1)
  expect(second).toBeGreaterThanOrEqual(length)
  expect(numbers().slice(0, second)).toEqual(upTo(second).map((number) => number - 1))
  expect(sim.log.filter(({ text }) => text.includes('lost'))).toEqual([])
  await sim.stop()
})

test('CHANNEL 12.4, 12.9: the test learns which channels a program has; the one opened last has it', async () => {
  const sim = await simulate(ECHOES, { board })
  const [typo, one] = [sim.channel('tun'), sim.channel('tune')]
  await sim.run(5)
  expect(typo.others).toEqual(['tune', 'go', 'count'])
  expect([typo.isOpen, one.isOpen]).toEqual([false, true])
  const two = sim.channel('tune')
  await sim.run(5)
  expect([one.isOpen, two.isOpen]).toEqual([false, true])
  expect(() => sim.channel('Tune')).toThrow(RangeError)
  await sim.stop()
})

test('the same calls give the same messages at the same times', async () => {
  const trace = async () => {
    const sim = await simulate(ECHOES, { board })
    const [tune, count] = [sim.channel('tune'), sim.channel('count')]
    talk(sim, tune)
    await sim.run(35)
    await sim.swap(ECHOES)
    await sim.run(35)
    const seen = [sim.ms, sim.vcd(), tune.messages, count.messages, sim.log]
    await sim.stop()
    return JSON.stringify(seen)
  }
  expect(await trace()).toBe(await trace())
})

test('the example of robots/README.md', async () => {
  const [, section = ''] = text('robots/README.md').split(/^## Messages with a laptop$/m)
  const [source = '', example = ''] = [...section.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code = '']) => code)
  const folder = mkdtempSync(join(tmpdir(), 'medulla-readme-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  writeFileSync(join(folder, 'program.ts'), source)
  const [, body = ''] = /^test\('.*', async \(\) => \{\n(.*)^\}\)$/ms.exec(example) ?? []
  const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor
  const here = pathToFileURL(join(folder, 'program.test.ts')).href
  await new AsyncFunction('simulate', 'expect', 'here', body.replaceAll('import.meta.url', 'here'))(
    simulate,
    expect,
    here,
  )
  expect.assertions(2)
})
