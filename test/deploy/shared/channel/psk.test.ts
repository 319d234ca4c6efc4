/** A pre-shared key in addition to the keys of both ends: whoever lacks one of the three gets no session. */
import { randomBytes } from 'node:crypto'
import { afterEach, expect, test } from 'vitest'
import { connectSession } from '../../../../deploy/shared/channel/connect.ts'
import { Sealer } from '../../../../deploy/shared/channel/frame.ts'
import { encodeCard, encodeMessage, prologue } from '../../../../deploy/shared/channel/handshake.ts'
import { Handshake } from '../../../../deploy/shared/channel/noise.ts'
import { SCALE } from '../../../e2e/eventually.ts'
import {
  closed,
  collect,
  connectOptions,
  makeOperator,
  openPair,
  ROBOT_ID,
  startRobot,
  tapWire,
  upgraded,
} from './peers.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const ann = makeOperator()
const psk = randomBytes(32)

async function robotFor(options: Parameters<typeof startRobot>[1] = {}) {
  const robot = await startRobot([ann], { deadlineMs: 2000 * SCALE, ...options })
  cleanups.push(robot.close)
  return robot
}

test('CHANNEL 1.2, 3.10: S5: with the same pre-shared key on both ends there is a session', async () => {
  const robot = await robotFor({ psk })
  const { laptop, server } = await openPair(robot, ann, { psk })
  const heard = collect(server)
  laptop.end('hello')
  await new Promise((resolve) => server.once('end', resolve))
  expect(Buffer.concat(heard).toString()).toBe('hello')
})

test('CHANNEL 3.10: S5: no key, another key, or a key on one end only: no session, and no other form is tried', async () => {
  const strict = await robotFor({ psk })
  const plain = await robotFor()
  for (const [robot, own, code, says] of [
    [strict, undefined, 'unknown-operator', 'takes no session without a pre-shared key'],
    [strict, randomBytes(32), 'robot-mismatch', 'could not prove'],
    [plain, psk, 'unknown-operator', 'goes on with no less'],
  ] as const) {
    const wire = await tapWire(robot.port)
    cleanups.push(wire.close)
    const attempt = connectSession({ ...connectOptions({ ...robot, port: wire.port }, ann), ...(own && { psk: own }) })
    const error = await attempt.then(
      () => null,
      (error: Error & { hint?: string }) => error,
    )
    expect(error).toMatchObject({ code, message: expect.stringContaining(says) })
    expect(error?.hint).toContain('medulla psk')
    for (const secret of [psk, own ?? psk]) {
      for (const form of ['hex', 'base64'] as const) {
        expect(`${error?.message} ${error?.hint} ${error?.stack}`).not.toContain(secret.toString(form))
      }
    }
    expect(wire.connections).toHaveLength(1)
  }
  expect([...strict.sessions, ...plain.sessions]).toEqual([])
})

test('CHANNEL 3.10: S5: a stolen operator key without the pre-shared key gets no session, whatever form it asks for', async () => {
  const robot = await robotFor({ psk })
  for (const [pattern, guess] of [
    ['IK', undefined],
    ['IKpsk2', Buffer.alloc(32)],
    ['IKpsk2', randomBytes(32)],
  ] as const) {
    for (const token of ['medulla/2', 'medulla/2-psk']) {
      const { socket, answer, challenge } = await upgraded(robot.port, 'medulla/2-psk')
      const handshake = new Handshake({
        ...{ pattern, initiator: true, prologue: prologue(ROBOT_ID, challenge, token) },
        ...{ static: ann.noise, remoteStatic: robot.noise.public },
        ...(guess && { psk: guess }),
      })
      const before = Buffer.concat(answer).length
      socket.write(encodeMessage(handshake.write(encodeCard(ann.card))))
      // the thief cannot read message 2, and guesses the keys of the session
      socket.write(new Sealer(randomBytes(32)).confirm())
      await closed(socket)
      const message2 = Buffer.concat(answer).subarray(before + 2)
      if (message2.length > 0) expect(() => handshake.read(message2)).toThrow(/refused/)
    }
  }
  await expect(upgraded(robot.port, 'medulla/2')).rejects.toThrow(/no Medulla-Challenge/)
  expect(robot.sessions).toEqual([])
})
