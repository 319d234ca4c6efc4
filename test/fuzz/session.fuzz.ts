/** Random faults in handshakes, frames and the headers of streams: no session for a stranger, nothing delivered that was not sent. */
import { randomBytes } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Opener, Sealer } from '../../deploy/shared/channel/frame.ts'
import { challengeOf, encodeCard, encodeMessage, prologue } from '../../deploy/shared/channel/handshake.ts'
import { Handshake } from '../../deploy/shared/channel/noise.ts'
import { SecureSocket } from '../../deploy/shared/channel/socket.ts'
import { Mux, ROBOT_MUX } from '../../deploy/shared/channel/yamux.ts'
import { encodeHeader, FLAG, TYPE, WINDOW } from '../../deploy/shared/channel/yamuxheader.ts'
import type { YamuxStream } from '../../deploy/shared/channel/yamuxstream.ts'
import {
  collect,
  makeOperator,
  memoryPipe,
  muxPipe,
  openPair,
  ROBOT_ID,
  type Robot,
  startRobot,
  UPGRADE,
} from '../deploy/shared/channel/peers.ts'
import { eventually } from '../e2e/eventually.ts'
import { below, damage, fuzz, junk, pick, type Random } from './cases.ts'

/** of the tests with random cases */
const KINDS = 3

const ann = makeOperator()
let robot: Robot
beforeAll(async () => {
  robot = await startRobot([ann])
})
afterAll(() => robot.close())

/** Bytes of a connection's first turn that the robot cannot take for a whole handshake. */
async function knock(random: Random): Promise<string> {
  const [mine, its] = memoryPipe()
  mine.on('error', () => {})
  const heard = collect(mine)
  robot.listener.server.emit('connection', its)
  const head = () => Buffer.concat(heard).toString('latin1')
  mine.write(random() < 0.1 ? damage(random, Buffer.from(UPGRADE)) : UPGRADE)
  for (let turns = 0; turns < 50 && !head().includes('\r\n\r\n') && !mine.readableEnded; turns++) await turn()
  const said = head()
  if (!said.includes(' 101 ')) return end('no upgrade')

  const handshake = new Handshake({
    pattern: 'IK',
    initiator: true,
    prologue: prologue(ROBOT_ID, challengeOf(said)),
    static: ann.noise,
    remoteStatic: robot.noise.public,
  })
  const card = encodeCard(ann.card)
  // a fault inside of what is encrypted, or in the bytes that are sent
  const message = encodeMessage(handshake.write(random() < 0.3 ? damage(random, card) : card))
  mine.write(random() < 0.7 ? damage(random, message) : message)
  for (let turns = 0; turns < 20 && !mine.readableEnded; turns++) await turn()
  // a handshake that was not damaged ends with a frame of junk in the place of the confirmation
  if (heard.length > 0 && !mine.destroyed) mine.write(encodeMessage(junk(random, 16 + below(random, 64))))
  for (let turns = 0; turns < 20 && !mine.readableEnded; turns++) await turn()
  return end(mine.readableEnded ? 'closed' : 'waits')

  function end(answer: string): string {
    mine.destroy()
    return answer
  }
}

test('CHANNEL 3, S6: handshakes with random faults: no session, and the robot goes on', async () => {
  const answers = await fuzz('handshake', KINDS, knock)
  expect(robot.sessions).toEqual([])
  expect(answers.get('closed')).toBeGreaterThan(0)
  // some wait for their deadline (CHANNEL 5.1)
  await eventually(() => robot.listener.handshakes === 0)
  const { laptop } = await openPair(robot, ann)
  laptop.destroy()
})

const FRAMES = 6

/** The frames of one direction, with a fault before the last one: changed, dropped, repeated, late, or of another session. */
function frames(random: Random): { sent: string[]; wire: Buffer; key: Buffer } {
  const key = randomBytes(32)
  const sealer = new Sealer(key)
  const sent = Array.from({ length: FRAMES }, (_, i) => `${i}:${'x'.repeat(below(random, 300))};`)
  const good = sent.map((text) => Buffer.concat(sealer.data([Buffer.from(text)])))
  const at = below(random, FRAMES - 1)
  const frame = good[at] as Buffer
  const bent: Buffer[] = [...good]
  const kind = below(random, 5)
  if (kind === 0) bent[at] = damage(random, frame)
  else if (kind === 1) bent.splice(at, 1)
  else if (kind === 2) bent.splice(at, 0, frame)
  else if (kind === 3) bent.push(...bent.splice(at, 1))
  else bent[at] = Buffer.concat(new Sealer(randomBytes(32)).data([Buffer.from(sent[at] as string)]))
  return { sent, wire: Buffer.concat(bent), key }
}

test('CHANNEL 4.4, S9, S10: of frames with a fault, only those before it are delivered', async () => {
  await fuzz('frames', KINDS, async (random) => {
    const { key, sent, wire } = frames(random)
    const [mine, its] = memoryPipe()
    mine.on('error', () => {})
    const session = new SecureSocket({
      raw: its,
      sealer: new Sealer(randomBytes(32)),
      opener: new Opener(key),
      head: Buffer.alloc(0),
      allowHalfOpen: true,
    })
    session.on('error', () => {})
    const heard = collect(session)
    for (let at = 0; at < wire.length; ) {
      const length = 1 + below(random, random() < 0.1 ? 2 : 400)
      mine.write(wire.subarray(at, at + length))
      at += length
    }
    for (let turns = 0; turns < 10; turns++) await turn()
    const text = Buffer.concat(heard).toString('latin1')
    mine.destroy()
    session.destroy()
    if (!sent.join('').startsWith(text)) throw new Error(`delivered ${JSON.stringify(text.slice(0, 80))}`)
    const count = text.split(';').length - 1
    if (count === FRAMES) throw new Error('all frames were delivered')
    return `${count} of ${FRAMES}`
  })
})

test('CHANNEL 8.2, 8.5: streams with random headers: no crash, and what waits is bounded', async () => {
  await fuzz('streams', KINDS, async (random) => {
    const [mine, its] = muxPipe()
    mine.on('error', () => {})
    collect(mine)
    const accepted: YamuxStream[] = []
    const accept = (stream: YamuxStream) => void accepted.push(stream.on('error', () => {}) as YamuxStream)
    const mux = new Mux({ session: its, initiator: false, limits: ROBOT_MUX, accept })
    let id = 1
    for (let count = 1 + below(random, 60); count > 0; count--) {
      const isOpening = random() < 0.3
      if (isOpening) id += 2
      const length = pick(random, [0, 1, 100, WINDOW, WINDOW + 1, 2 ** 32 - 1])
      const header = encodeHeader({
        type: isOpening ? TYPE.window : below(random, 4),
        flags: isOpening ? FLAG.syn : pick(random, [0, 0, 0, FLAG.fin, FLAG.rst, FLAG.ack, FLAG.syn, 15]),
        stream: isOpening ? id : pick(random, [0, 1, 2, id, below(random, 80), 2 ** 32 - 1]),
        length: isOpening ? 0 : length,
      })
      const bytes = random() < 0.05 ? damage(random, header) : header
      const data = header[1] === TYPE.data ? junk(random, Math.min(length, 2000)) : Buffer.alloc(0)
      mine.write(Buffer.concat([bytes, data]))
    }
    for (let turns = 0; turns < 5; turns++) await turn()
    const waiting = accepted.reduce((sum, stream) => sum + stream.readableLength, 0)
    if (mux.streams > ROBOT_MUX.streams) throw new Error(`${mux.streams} streams`)
    if (waiting > ROBOT_MUX.unread) throw new Error(`${waiting} bytes wait`)
    const ended = !mux.usable
    mine.destroy()
    for (let turns = 0; turns < 5; turns++) await turn()
    if (mux.streams > 0) throw new Error(`${mux.streams} streams are left of a session that ended`)
    return ended ? 'ended' : 'goes on'
  })
})
