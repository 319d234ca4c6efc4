/** Between a multiplexer and its session: what is sealed ahead of the transport, and what came before the multiplexer. */
import { randomBytes } from 'node:crypto'
import { Duplex } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { Opener, Sealer } from '../../../../deploy/shared/channel/frame.ts'
import { SecureSocket } from '../../../../deploy/shared/channel/socket.ts'
import { Mux } from '../../../../deploy/shared/channel/yamux.ts'
import type { YamuxStream } from '../../../../deploy/shared/channel/yamuxstream.ts'
import { eventually } from '../../../e2e/eventually.ts'
import { makeOperator, openPair, startRobot } from './peers.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

test('CHANNEL 5.6, 8.6: streams seal at most one frame more than the transport accepts', async () => {
  const key = Buffer.alloc(32, 5)
  const waiting: (() => void)[] = []
  const raw = new Duplex({
    // Node 24 takes 64 KiB, so two frames, when nothing is said.
    writableHighWaterMark: 16 * 1024,
    read() {},
    writev: (_chunks, callback) => void waiting.push(callback),
  })
  const session = new SecureSocket({ raw, sealer: new Sealer(key), opener: new Opener(key), allowHalfOpen: true })
  cleanups.push(() => session.destroy())
  const mux = new Mux({ session, initiator: true })
  for (let i = 0; i < 8; i++) {
    const stream = mux.open().on('error', () => {})
    for (let at = 0; at < 10; at++) stream.write(Buffer.alloc(20_000))
  }
  for (let frames = 1; frames < 5; frames++) {
    await turn()
    expect(session.bytesWritten).toBeGreaterThan((frames - 1) * 64_000)
    expect(session.bytesWritten).toBeLessThanOrEqual(frames * 64 * 1024)
    waiting.shift()?.()
  }
})

test('CHANNEL 8.1: streams that came before the multiplexer of their session are accepted', async () => {
  const ann = makeOperator()
  const robot = await startRobot([ann])
  cleanups.push(robot.close)
  const { laptop, server } = await openPair(robot, ann)
  const mux = new Mux({ session: laptop, initiator: true })
  const message = randomBytes(100_000)
  const open = () => mux.open().on('error', () => {})
  open().write(message)
  await eventually(() => server.readableLength > message.length)
  const heard: Buffer[] = []
  const accept = (stream: YamuxStream) =>
    void stream.on('error', () => {}).on('data', (chunk: Buffer) => heard.push(chunk))
  new Mux({ session: server, initiator: false, accept })
  open().write('more')
  await eventually(() => Buffer.concat(heard).length === message.length + 4)
  expect(Buffer.concat(heard).subarray(0, message.length).equals(message)).toBe(true)
})
