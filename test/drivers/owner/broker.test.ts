import { once } from 'node:events'
import { Duplex, PassThrough } from 'node:stream'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { HardwareError } from '../../../drivers/errors.ts'
import type { OwnedHandle } from '../../../drivers/owner/backend.ts'
import { serveBroker } from '../../../drivers/owner/broker.ts'
import { SimBackend } from '../../../drivers/owner/sim/backend.ts'
import { World } from '../../../drivers/owner/sim/world.ts'
import {
  encodeNumber,
  encodeReply,
  encodeRequest,
  OP,
  ReplyReader,
  RequestReader,
} from '../../../drivers/program/broker/protocol.ts'
import type { Grant } from '../../../drivers/program/handle.ts'
import { SCALE } from '../../e2e/eventually.ts'
import { bundle, failure, type Host, openFds, startHost, temporary } from '../host.ts'
import { board } from '../rigs.ts'

const folder = temporary()
let program: string

beforeAll(async () => {
  program = await bundle('children/host.ts', folder.path)
})
afterAll(() => folder.remove())

const LED: Grant = { name: 'led', id: 1, kind: 'output', via: 'broker', value: 0 }

/** A child with a brokered led and a live lease with fence 1. This test is the owner. */
async function orphan(deadlineMs: number): Promise<Host> {
  const host = await startHost(program, [LED], [], { deadlineMs })
  await host.send({ op: 'lease', lease: { live: true, fence: 1 } })
  return host
}

/** The owner's side in this process: requests go in, replies come out. */
function served(maxFence = 1) {
  const backend = new SimBackend({ world: new World(), folder: folder.path })
  backend.advance(5, [])
  const handles = Object.entries(board('broker')).map(([name, entry], index) => backend.open(name, index + 1, entry))
  const granted = new Map<number, OwnedHandle>(handles.slice(1).map((handle) => [handle.id, handle]))
  const incoming = new PassThrough()
  const outgoing = new PassThrough()
  const socket = Duplex.from({ readable: incoming, writable: outgoing })
  const malformed: string[] = []
  serveBroker(socket, granted, () => maxFence, { onMalformed: (reason) => malformed.push(reason) })
  const replies = new ReplyReader()
  return {
    backend,
    socket,
    incoming,
    malformed,
    async ask(id: number, op: number, fence: number, payload: Uint8Array): Promise<number[] | string> {
      incoming.write(encodeRequest({ request: 9, id, op, fence, payload }))
      const [chunk] = (await once(outgoing, 'data')) as [Uint8Array]
      const result = replies.push(chunk)[0]?.result
      return result instanceof HardwareError ? result.kind : [...(result ?? [])]
    },
  }
}

const half = encodeNumber(0.5)
const IMU = Object.keys(board('broker')).indexOf('imu') + 1
const none = new Uint8Array(0)

test("HANDLES 7.5, 7.6: a handle that was not granted, and a fence above the child's, are refused", async () => {
  const { ask, backend } = served(1)
  expect(await ask(1, OP.set, 1, encodeNumber(1))).toBe('revoked')
  expect(await ask(99, OP.get, 1, none)).toBe('revoked')
  expect(await ask(3, OP.set, 2, half)).toBe('revoked')
  expect(await ask(3, OP.get, 2, none)).toEqual([...encodeNumber(0.05)])
  expect(await ask(3, OP.set, 1, half)).toEqual([])
  expect(await ask(3, OP.get, 1, none)).toEqual([...half])
  backend.advance(2, ['arm', 'imu'])
  expect(await ask(3, OP.set, 1, half)).toBe('revoked')
  expect(await ask(IMU, OP.i2cTransfer, 1, Uint8Array.from([1, 0, 0x75]))).toBe('revoked')
  expect(backend.info('arm')?.staleWrites).toBe(1)
  backend.close()
})

test('HANDLES 7.4: an invalid operation, value or length gets an error', async () => {
  const { ask, backend } = served(5)
  expect(await ask(3, 77, 1, half)).toBe('unsupported')
  expect(await ask(2, OP.set, 1, encodeNumber(1))).toBe('unsupported')
  expect(await ask(IMU, OP.set, 1, half)).toBe('unsupported')
  expect(await ask(3, OP.set, 1, half.subarray(1))).toBe('other')
  expect(await ask(3, OP.set, 1, encodeNumber(Number.NaN))).toBe('other')
  expect(await ask(IMU, OP.i2cRead, 1, none)).toBe('other')
  expect(await ask(IMU, OP.i2cRead, 1, Uint8Array.from([0xff, 0xff]))).toBe('other')
  backend.poke('imu', 'nack-next', true)
  expect(await ask(IMU, OP.i2cTransfer, 1, Uint8Array.from([1, 0, 0x75]))).toBe('no-ack')
  expect(await ask(IMU, OP.i2cTransfer, 1, Uint8Array.from([1, 0, 0x75]))).toEqual([0x68])
  backend.poke('imu', 'stuck-bus', true)
  expect(await ask(IMU, OP.i2cRead, 1, Uint8Array.from([1, 0]))).toBe('bus')
  backend.close()
})

test.each([
  ['too short', [10, 0]],
  ['too long', [0xff, 0xff]],
  ['empty', [0, 0]],
])('HANDLES 7.2: a frame that is %s ends its socket, and no other', async (_, bytes) => {
  const bad = served()
  const good = served()
  bad.incoming.write(Uint8Array.from(bytes))
  await expect.poll(() => bad.socket.destroyed).toBe(true)
  expect(bad.malformed.length).toBe(1)
  expect(await good.ask(3, OP.set, 1, half)).toEqual([])
  expect(good.socket.destroyed).toBe(false)
  bad.backend.close()
  good.backend.close()
})

test('HANDLES 7.7: a child that does not read its replies is disconnected', async () => {
  const { incoming, socket, malformed, backend } = served()
  const get = encodeRequest({ request: 1, id: 3, op: OP.get, fence: 0, payload: none })
  incoming.write(Buffer.concat(Array.from({ length: 40_000 }, () => get)))
  await expect.poll(() => socket.destroyed).toBe(true)
  expect(malformed).toEqual(['the replies are not read'])
  backend.close()
})

test('HANDLES 7.8: without an answer a request throws busy within its deadline', async () => {
  const before = openFds()
  const host = await orphan(60)
  // nobody answers: without the deadline the call would never return
  const from = performance.now()
  expect(await failure(host.call('led', 'write', 1))).toBe('busy')
  expect(performance.now() - from).toBeGreaterThanOrEqual(59)
  expect(await host.send({ op: 'get', handle: 'led', property: 'value' })).toBe(0)
  await host.end()
  await expect.poll(openFds).toBe(before)
})

test('HANDLES 7.10: a late reply is skipped, also when it arrives in pieces', async () => {
  // the second request must be answered within the deadline that the first one waits out
  const host = await orphan(2500 * SCALE)
  const requests = new RequestReader()
  const asked: number[] = []
  const waiting: (() => void)[] = []
  host.broker.on('data', (chunk: Uint8Array) => {
    for (const { request } of requests.push(chunk)) asked.push(request)
    if (asked.length === 2) for (const call of waiting.splice(0)) call()
  })
  expect(await failure(host.call('led', 'write', 1))).toBe('busy')
  const second = host.call('led', 'write', 1)
  await new Promise<void>((resolve) => waiting.push(resolve))
  const [late, now] = asked as [number, number]
  const bytes = Buffer.concat([
    encodeReply({ request: late, result: new HardwareError('bus', 'late') }),
    encodeReply({ request: now, result: none }),
  ])
  host.broker.write(bytes.subarray(0, 3))
  await new Promise((resolve) => setTimeout(resolve, 5))
  host.broker.write(bytes.subarray(3))
  await second
  expect(await host.send({ op: 'get', handle: 'led', property: 'value' })).toBe(1)
  await host.end()
})

test('HANDLES 7.9: a full socket throws busy, and a frame sent in part is completed', async () => {
  const host = await startHost(program, [{ name: 'imu', id: 4, kind: 'i2c', via: 'broker' }], [], { deadlineMs: 1 })
  await host.send({ op: 'lease', lease: { live: true, fence: 1 } })
  host.broker.pause()
  const bytes = Array.from({ length: 4000 }, (_, index) => index & 0xff)
  const kinds = new Set<string>()
  for (let i = 0; i < 150; i++) kinds.add(await failure(host.call('imu', 'write', bytes)))
  expect([...kinds]).toEqual(['busy'])
  const requests = new RequestReader()
  let whole = 0
  host.broker.on('data', (chunk: Uint8Array) => {
    for (const { payload } of requests.push(chunk)) {
      expect([...payload.subarray(2)]).toEqual(bytes)
      whole++
    }
  })
  host.broker.resume()
  await failure(host.call('imu', 'write', bytes))
  await expect.poll(() => whole).toBeGreaterThan(10)
  await host.end()
})

test('HANDLES 7.8: after the owner is gone, every request throws no-device at once', async () => {
  const deadlineMs = 20_000
  const host = await orphan(deadlineMs)
  host.broker.destroy()
  const from = performance.now()
  expect(await failure(host.call('led', 'write', 1))).toBe('no-device')
  expect(await failure(host.call('led', 'write', 1))).toBe('no-device')
  // at once: a request that does not notice the end would wait for its deadline
  expect(performance.now() - from).toBeLessThan(deadlineMs)
  await host.end()
})

test('a malformed reply is an error, and nothing more is read', async () => {
  const host = await orphan(20_000)
  host.broker.write(Uint8Array.from([0xff, 0xff, 0, 0]))
  expect(await failure(host.call('led', 'write', 1))).toBe('other')
  expect(await failure(host.call('led', 'write', 1))).toBe('other')
  await host.end()
})
