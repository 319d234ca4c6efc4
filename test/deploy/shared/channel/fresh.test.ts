import { createServer } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { connectSession } from '../../../../deploy/shared/channel/connect.ts'
import { connectOptions, makeOperator, openPair, startRobot, tapWire } from './peers.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const ann = makeOperator()

test('CHANNEL 3.4: P3: each connection has fresh keys from both sides, and an answer fits the one question that it was made for', async () => {
  const robot = await startRobot([ann])
  cleanups.push(robot.close)
  const wire = await tapWire(robot.port)
  cleanups.push(wire.close)
  const dialled = { ...robot, port: wire.port }
  for (let i = 0; i < 8; i++) await openPair(dialled, ann)
  const head = (bytes: Buffer[]) => {
    const all = Buffer.concat(bytes)
    // behind the HTTP head and the length: the ephemeral key
    const at = all.indexOf('\r\n\r\n') + 4 + 2
    return all.toString('hex', at, at + 32)
  }
  const keys = wire.connections.flatMap(({ up, down }) => [head(up), head(down)])
  expect(new Set(keys).size).toBe(16)
  // the answer of one connection, given to another that asked the same robot
  const recorded = Buffer.concat(wire.connections[0]?.down ?? [])
  const replay = createServer((socket) => socket.on('error', () => {}).once('data', () => socket.write(recorded)))
  await new Promise<void>((resolve) => replay.listen(0, '127.0.0.1', resolve))
  cleanups.push(() => replay.close())
  const { port } = replay.address() as { port: number }
  await expect(connectSession(connectOptions({ ...robot, port }, ann))).rejects.toMatchObject({
    code: 'robot-mismatch',
  })
})
