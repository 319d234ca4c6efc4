/** What requests leave in the session that they were made in, and in the processes of the robot. */
import { readdirSync } from 'node:fs'
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, test } from 'vitest'
import type { RobotClient } from '../../deploy/laptop/client.ts'
import { eventually } from './eventually.ts'
import { TestRobot } from './robot.ts'

/** More than the streams that a session may have. */
const ROUNDS = 40
/** Requests at a time, so that a few lost streams are noticed, too. */
const AT_ONCE = 20

let robot: TestRobot
let bundle: Uint8Array
beforeAll(async () => {
  robot = await TestRobot.start()
  await robot.commit('echoes')
  bundle = (await robot.bundle('echoes', { version: '5.0.0' })).bytes
})
afterAll(async () => robot?.close())

/** Open files of body, endpoint and program. */
function descriptors(): number {
  const pids = [robot.pid, ...robot.children().map(({ pid }) => pid)]
  return pids.reduce((sum, pid) => sum + readdirSync(`/proc/${pid}/fd`).length, 0)
}

/** Reads for a moment, and stops in the middle. */
async function begin(read: (signal: AbortSignal) => AsyncIterable<unknown>): Promise<void> {
  const abort = new AbortController()
  const reading = (async () => {
    for await (const _ of read(abort.signal));
  })().catch(() => {})
  await sleep(5)
  abort.abort()
  await reading
}

async function channel(client: RobotClient, name: string, slot?: string): Promise<void> {
  const opened = await client.channel(name, slot)
  await sleep(2)
  await opened.close({ now: true })
}

/** Sends bytes, and ends the stream with `end`. */
async function byHand(client: RobotClient, bytes: string, end: (stream: Duplex) => void): Promise<void> {
  const stream = await client.stream()
  stream.on('error', () => {})
  const closed = new Promise((resolve) => stream.once('close', resolve))
  stream.write(bytes)
  await sleep(2)
  end(stream.resume())
  // a robot that waits for the rest of a request may keep its direction open
  await Promise.race([closed, sleep(50)])
  stream.destroy()
}

const request = (line: string, ...headers: string[]) => [line, 'Host: robot', ...headers, '', ''].join('\r\n')
const PUSH = request('POST /v1/slots/main/push HTTP/1.1', 'Content-Length: 100000')
const UPGRADE = request('GET /v1/status HTTP/1.1', 'Connection: Upgrade', 'Upgrade: other')

const WAYS: [string, (client: RobotClient) => Promise<unknown>][] = [
  ['a followed log', (client) => begin((signal) => client.logs('main', { follow: true, signal }))],
  ['followed pins', (client) => begin((signal) => client.pins({ follow: true, signal }))],
  ['a channel', (client) => channel(client, 'tune')],
  ['a channel that the program does not have', (client) => channel(client, 'nothing')],
  ['a channel of a slot that does not exist', (client) => channel(client, 'tune', 'other')],
  ['half of a bundle', (client) => begin(() => client.push('main', bundle.subarray(0, 2000)))],
  ['an answer that is not read', (client) => byHand(client, request('GET /v1/logs HTTP/1.1'), (it) => it.destroy())],
  ['an upload that ends early', (client) => byHand(client, PUSH, (it) => it.end('abc'))],
  ['an unknown protocol', (client) => byHand(client, UPGRADE, (it) => it.end())],
  ['no request', (client) => byHand(client, '', (it) => it.end())],
  ['junk', (client) => byHand(client, 'junk\r\n\r\n', (it) => it.end())],
]

test.each(WAYS)('CHANNEL 8.3: nothing is left in a session, and no open file, of: %s', async (_, way) => {
  const before = descriptors()
  const client = await robot.connect()
  for (let round = 0; round < ROUNDS; round++) await way(client).catch(() => {})
  await Promise.all(Array.from({ length: AT_ONCE }, () => client.status()))
  client.close()
  await eventually(() => descriptors() <= before)
})
