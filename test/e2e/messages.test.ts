/** Message channels between laptops and programs, through every process of a robot. */
import type { Duplex } from 'node:stream'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { RobotClient } from '../../deploy/laptop/client.ts'
import type { RobotChannel } from '../../deploy/laptop/messagechannel.ts'
import { ackFrame, helloFrame, messageFrames, WINDOW } from '../../deploy/shared/messages/frames.ts'
import { eventually, SCALE } from './eventually.ts'
import { TestRobot } from './robot.ts'
import { type Answer, collect, Traffic } from './traffic.ts'

const SLOW = { tags: ['slow'], timeout: 1_800_000 * SCALE }
const SWAPS = 100
const KILLS = 5

let robot: TestRobot
beforeAll(async () => {
  robot = await TestRobot.start({}, { olga: 'operator', oscar: 'observer' })
})
afterAll(async () => robot?.close())
beforeEach(async () => {
  const { slots } = await robot.client.status()
  const main = slots.find(({ slot }) => slot === 'main')
  if (main?.program !== 'echoes' || main.state !== 'running') await robot.commit('echoes')
})

const opened = async (channel: RobotChannel): Promise<void> => {
  if (!channel.isOpen) await new Promise<void>((resolve) => channel.once('open', resolve))
}

const loggedBy = async (text: string): Promise<number> =>
  (await robot.logs()).filter((line) => line.text === text).length

test('CHANNEL 12.3, 12.6: a laptop talks with a program while it runs, in text and in bytes', async () => {
  const tune = await robot.client.channel('tune')
  const heard = collect(tune)
  await tune.send({ kp: 1.5 })
  await tune.send('text')
  await tune.send(Uint8Array.of(1, 2, 3))
  await eventually(() => heard.length === 3)
  expect(heard).toMatchObject([{ heard: { kp: 1.5 } }, { heard: 'text' }, { bytes: true }])
  await tune.close()
  await expect(tune.send(1)).rejects.toMatchObject({ code: 'interrupted' })
})

test('S13: S17: CHANNEL 12.3: a message of 1 MiB goes both ways; a larger one is refused before it is sent', async () => {
  const tune = await robot.client.channel('tune')
  const bytes = Uint8Array.from({ length: 2 ** 20 }, (_, at) => (at * 7 + (at >> 8)) % 256)
  await tune.send(bytes)
  for await (const answer of tune) {
    expect(Buffer.compare(Buffer.from(answer as Uint8Array), bytes)).toBe(0)
    break
  }
  await expect(tune.send(new Uint8Array(2 ** 20 + 1))).rejects.toThrow(RangeError)
  await expect(tune.send('x'.repeat(2 ** 20))).rejects.toThrow(RangeError)
  await expect(tune.send(undefined)).rejects.toThrow(TypeError)
  await tune.close()
})

test('S12: CHANNEL 12.4: messages sent before a program runs are delivered when one does', async () => {
  for await (const _ of robot.client.stop('main'));
  const client = await robot.connect(robot.others.olga)
  const tune = await client.channel('tune')
  const heard = collect(tune)
  for (let i = 0; i < 10; i++) await tune.send(i)
  expect(tune.isOpen).toBe(false)
  for await (const _ of robot.client.start('main'));
  await eventually(() => heard.length === 10)
  expect((heard as Answer[]).map((answer) => answer.heard)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  client.close()
})

test('CHANNEL 12.4: a channel that the program does not have waits, and the laptop learns which it has', async () => {
  const typo = await robot.client.channel('tun')
  const names = await new Promise<string[]>((resolve) => typo.once('waiting', resolve))
  expect(names).toEqual(['tune', 'go', 'count'])
  await typo.close({ now: true })
  await expect(robot.client.channel('Tune')).rejects.toMatchObject({ code: 'usage' })
  await expect(robot.client.channel('tune', 'nowhere')).rejects.toMatchObject({ code: 'not-found' })
})

test('S14: S19: CHANNEL 12.5: a paused program holds its sender back, no other channel waits, and nothing is lost', async () => {
  const [tune, go] = [await robot.client.channel('tune'), await robot.client.channel('go')]
  const count = await robot.client.channel('count')
  const heard = collect(tune)
  await tune.send('pause')
  let sent = 0
  const sending = (async () => {
    for (; sent < 40; sent++) await tune.send(new Uint8Array(100_000).fill(sent))
  })()
  // 11 messages fill the window
  await eventually(() => sent >= 10)
  const counted: unknown[] = []
  for await (const number of count) if (counted.push(number) === 200) break
  expect(sent).toBeLessThan(12)
  expect(heard).toEqual([])
  await go.send('on')
  await sending
  await eventually(() => heard.length === 40)
  expect((heard as Uint8Array[]).map(([first]) => first)).toEqual(Array.from({ length: 40 }, (_, at) => at))
  await Promise.all([tune.close(), go.close(), count.close()])
})

/** A channel by hand: what a hostile laptop may send. Resolves with the head of the answer. */
async function byHand(
  client: RobotClient,
  path = '/v1/slots/main/channels/tune',
): Promise<{ stream: Duplex; head: string }> {
  const stream = await client.stream()
  stream.on('error', () => {})
  stream.write(`GET ${path} HTTP/1.1\r\nHost: robot\r\nConnection: Upgrade\r\nUpgrade: medulla-channel\r\n\r\n`)
  const head = await new Promise<string>((resolve) => stream.once('data', (bytes: Buffer) => resolve(String(bytes))))
  return { stream, head }
}
const HELLO = { name: 'tune', id: 'ab'.repeat(16), again: false, first: 1, received: 0, room: 1000, had: [] }

test('S17: CHANNEL 12.3, 12.5: an endless fragment, junk and more than the room end the connection, and nothing else', async () => {
  const client = await robot.connect()
  const { pid } = await robot.slot()
  const fragment = messageFrames({ text: false, bytes: new Uint8Array(2 * 65_536) })[0] as Buffer
  const attacks: [string, (stream: Duplex) => void][] = [
    ['endless', (stream) => stream.write(Buffer.concat(Array.from({ length: 20 }, () => fragment)))],
    ['junk', (stream) => stream.write('GET / HTTP/1.1')],
    ['long frame', (stream) => stream.write(Buffer.from([5, 255, 255, 255]))],
    ['second hello', (stream) => stream.write(helloFrame(HELLO))],
    ['ack of nothing', (stream) => stream.write(ackFrame({ received: 9, room: 0 }))],
  ]
  for (const [name, attack] of attacks) {
    const { stream, head } = await byHand(client)
    expect(head, name).toMatch(/^HTTP\/1\.1 101 /)
    const closed = new Promise((resolve) => stream.once('end', resolve).once('close', resolve))
    stream.write(helloFrame(HELLO))
    attack(stream)
    stream.resume()
    await closed
    stream.destroy()
  }
  const { stream, head } = await byHand(client, '/v1/status')
  // another route takes no upgrade: the answer ends the stream
  expect(head).toMatch(/^HTTP\/1\.1 200 /)
  stream.destroy()
  client.close()
  expect((await robot.slot()).pid).toBe(pid)
})

test('CHANNEL 12.2: after a swap nothing of a connection is left in the session, however late its laptop reads', async () => {
  const client = await robot.connect()
  // together more than the streams that a session may have
  for (const version of ['3.0.0', '3.1.0']) {
    const streams: Duplex[] = []
    for (let at = 0; at < 20; at++) {
      const { stream, head } = await byHand(client)
      expect(head, `${at}`).toMatch(/^HTTP\/1\.1 101 /)
      stream.pause().write(helloFrame({ ...HELLO, id: `${10 + at}`.repeat(16) }))
      streams.push(stream)
    }
    await robot.commit('echoes', { version })
    for (const stream of streams) {
      stream.write('late')
      const closed = new Promise((resolve) => stream.once('close', resolve))
      stream.resume()
      await closed
    }
  }
  expect((await client.status()).slots).toHaveLength(1)
  client.close()
})

test('CHANNEL 12.2: a program that accepts nothing delays nobody: the body refuses after 16 connections', async () => {
  const client = await robot.connect()
  const { pid = 0 } = await robot.slot()
  process.kill(pid, 'SIGSTOP')
  const heads: string[] = []
  try {
    while (!heads.some((head) => head.startsWith('HTTP/1.1 409')) && heads.length < 30)
      heads.push((await byHand(client)).head)
  } finally {
    process.kill(pid, 'SIGCONT')
  }
  expect(heads.filter((head) => head.startsWith('HTTP/1.1 101')).length).toBeLessThan(20)
  expect(heads.at(-1)).toContain('in-progress')
  client.close()
  await robot.running()
})

test('S19: CHANNEL 12.5, 12.7: a paused laptop holds a flood back without loss, and a flood delays no stop', async () => {
  await robot.commit('floods-channel')
  const client = await robot.connect()
  // this one never reads
  const { stream } = await byHand(client, '/v1/slots/main/channels/flood')
  stream.pause()
  stream.write(helloFrame({ ...HELLO, name: 'flood', room: WINDOW }))
  await eventually(async () => (await loggedBy('held')) === 1)
  const reads = await client.channel('flood')
  const numbers: number[] = []
  reads.on('message', (message) => numbers.push(Buffer.from(message as Uint8Array).readUInt32LE()))
  reads.pause()
  await opened(reads)
  for (let round = 0; round < 3; round++) {
    reads.resume()
    const before = numbers.length
    await eventually(() => numbers.length >= before + 20)
    reads.pause()
  }
  reads.resume()
  expect(numbers).toEqual(numbers.map((_, at) => (numbers[0] as number) + at))
  expect((await client.status()).slots).toMatchObject([{ slot: 'main', state: 'running' }])
  const before = numbers.length
  await eventually(() => numbers.length > before)
  for await (const _ of client.stop('main'));
  expect(await robot.slot()).toMatchObject({ state: 'idle' })
  client.close()
})

test('CHANNEL 12.8: the log says how many messages a swap lost, when the laptop confirms none of many', async () => {
  await robot.commit('floods-channel', { version: '1.1.0' })
  const client = await robot.connect()
  const { stream } = await byHand(client, '/v1/slots/main/channels/flood')
  stream.pause()
  stream.write(helloFrame({ ...HELLO, name: 'flood', room: WINDOW }))
  await eventually(async () => (await loggedBy('held')) >= 1)
  await robot.commit('floods-channel', { version: '1.2.0' })
  const texts = await eventually(async () => {
    const found = (await robot.logs()).map(({ text }) => text).filter((text) => text.startsWith('channel flood:'))
    return found.length > 0 && found
  })
  expect(texts).toEqual([expect.stringMatching(/^channel flood: the swap lost \d+ messages to the laptop/)])
  client.close()
})

test('CHANNEL 12.1: an observer is refused, and a laptop that loses its role loses its channels', async () => {
  const observer = await robot.connect(robot.others.oscar)
  await expect(observer.channel('tune')).rejects.toMatchObject({ code: 'role' })
  observer.close()
  const client = await robot.connect(robot.others.olga)
  const tune = await client.channel('tune')
  await opened(tune)
  const closed = new Promise((resolve) => tune.once('close', resolve))
  const { fingerprint } = (await robot.client.operators()).find(({ name }) => name === 'olga') as {
    fingerprint: string
  }
  await robot.client.changeOperators({ order: 'change-role', operator: fingerprint, role: 'observer' })
  expect(await closed).toMatchObject({ code: 'role' })
  await robot.client.changeOperators({ order: 'change-role', operator: fingerprint, role: 'operator' })
  client.close()
})

test('CHANNEL 12.9: the laptop that opens a channel last has it; the other one is told, and does not take it back', async () => {
  const [one, two] = [await robot.client.channel('tune'), await robot.connect(robot.others.olga)]
  await opened(one)
  const closed = new Promise((resolve) => one.once('close', resolve))
  const other = await two.channel('tune')
  const heard = collect(other)
  expect(await closed).toMatchObject({ code: 'in-progress' })
  await other.send('mine')
  await eventually(() => heard.length === 1)
  two.close()
})

test(
  `G8: CHANNEL 12.8: channels survive ${SWAPS} swaps, with each message once and in order in both directions`,
  SLOW,
  async () => {
    const traffic = await Traffic.start(robot.client)
    await traffic.more()
    const before = await loggedBy('tune opened, swap')
    for (let i = 0; i < SWAPS; i++) await robot.commit('echoes', { version: `2.${i % 2}.0` })
    await traffic.more()
    await traffic.end()
    traffic.expectWhole()
    // no program saw another laptop
    expect(await loggedBy('tune opened, swap')).toBe(before)
  },
)

test(
  `CHANNEL 12.4: channels survive ${KILLS} endpoints killed, with each message once and in order`,
  SLOW,
  async () => {
    const client = await robot.connect()
    const traffic = await Traffic.start(client)
    await traffic.more()
    for (let i = 0; i < KILLS; i++) {
      const pid = robot.endpoint()
      process.kill(pid, 'SIGKILL')
      await eventually(() => robot.children().every((child) => child.pid !== pid))
      await traffic.more()
    }
    await traffic.end()
    client.close()
    traffic.expectWhole()
    await robot.reconnect()
  },
)

test('CHANNEL 12.4: channels survive a runtime that is replaced', SLOW, async () => {
  const client = await robot.connect()
  const traffic = await Traffic.start(client)
  await traffic.more()
  const before = robot.endpoint()
  process.kill(robot.pid, 'SIGUSR2')
  await eventually(() =>
    robot.children().some(({ pid, command }) => pid !== before && command.includes('endpoint/main.js')),
  )
  await traffic.more()
  await traffic.end()
  client.close()
  traffic.expectWhole()
  await robot.reconnect()
})

test('CHANNEL 12.10: after a crash the laptop learns how many messages are unconfirmed, and they do not come again', async () => {
  const tune = await robot.client.channel('tune')
  const heard = collect(tune)
  await tune.send('before')
  await eventually(() => heard.length === 1)
  const restarted = new Promise<{ unconfirmed: number }>((resolve) => tune.once('restart', resolve))
  await tune.send('die')
  expect(await restarted).toEqual({ unconfirmed: 1 })
  await tune.send('after')
  await eventually(() => heard.length === 2)
  expect(heard[1]).toMatchObject({ heard: 'after' })
  await tune.close()
  await robot.running()
})
