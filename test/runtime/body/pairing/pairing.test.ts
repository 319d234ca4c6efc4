/** The pairing window as an endpoint meets it that may be hostile: guesses, lies, and too much at once. */
import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, onTestFinished, test } from 'vitest'
import { openAnswer, readCode, showCode, toText } from '../../../../deploy/shared/channel/pairing.ts'
import { makeShare } from '../../../../deploy/shared/channel/spake2.ts'
import { drawCode, type PairingParts } from '../../../../runtime/body/pairing/pairing.ts'
import { addOperator } from '../../../../runtime/store/operators.ts'
import { REQUEST_FILE, requestWindow, takeRequest } from '../../../../runtime/store/pairingfiles.ts'
import { eventually } from '../../../e2e/eventually.ts'
import { PairingBed } from './bed.ts'

let bed: PairingBed
afterEach(() => bed?.close())

async function opened(more: Partial<PairingParts> = {}): Promise<PairingBed> {
  bed = await PairingBed.make(more)
  bed.pairing.begin()
  return bed
}

test('CHANNEL 9.2, 9.8: a robot without an owner pairs with whoever knows the code: she is owner, once', async () => {
  await opened()
  const ann = await bed.person('ann')
  const attempt = await bed.begin(ann, bed.code)
  const { confirm, answer } = await bed.confirm(attempt)
  const { agreed, hash } = attempt
  expect(confirm).toBe(toText(agreed.confirmB))
  const sealed = Buffer.from(answer, 'base64')
  expect(openAnswer(agreed.key, hash, sealed)).toEqual({
    name: 'ann',
    role: 'owner',
    fingerprint: ann.fingerprint,
    first: true,
  })
  // the endpoint, which knows the hash, has no key for the answer
  expect(sealed.toString('latin1')).not.toContain('ann')
  expect(() => openAnswer(randomBytes(16), hash, sealed)).toThrow()
  expect(() => openAnswer(agreed.key, randomBytes(32), sealed)).toThrow()
  expect(bed.operators.now.report()).toEqual([{ name: 'ann', role: 'owner', fingerprint: ann.fingerprint }])
  expect(bed.receipts).toMatchObject([
    { outcome: 'changed', reason: expect.stringContaining('owner, by a pairing code') },
  ])
  // the window is closed, and the next start opens none
  expect(bed.pairing.status).toBe(null)
  bed.pairing.begin()
  expect(bed.pairing.isOpen).toBe(false)
})

test('CHANNEL 9.8: a code serves once: of two laptops that confirm at the same moment, one is in', async () => {
  await opened()
  const people = [await bed.person('ann'), await bed.person('bob')]
  const { code } = bed
  const attempts = await Promise.all(people.map((who) => bed.begin(who, code)))
  const results = await Promise.allSettled(attempts.map((attempt) => bed.confirm(attempt)))
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected'])
  expect(results[1]).toMatchObject({ reason: { code: 'not-pairing' } })
  expect(bed.operators.now.all().map(({ name }) => name)).toEqual(['ann'])
})

test('CHANNEL 9.7: 10,000 guessed codes: three are judged, the window closes, nobody is in', async () => {
  await opened()
  const eve = await bed.person('eve')
  const { code } = bed
  const answers = new Map<string, number>()
  const shared = {
    card: JSON.stringify(eve.card),
    hash: toText(randomBytes(32)),
    share: toText(makeShare('A', 1n).bytes),
  }
  for (let guess = 0; guess < 10_000; guess++) {
    const guessed = String((Number(code) + 1 + guess) % 10 ** 8).padStart(8, '0')
    // once the window is closed, the share is refused before it matters for which code it was made
    const attempt = bed.pairing.isOpen ? bed.pair(eve, guessed) : bed.answer({ op: 'pair-share', ...shared })
    const refused = await attempt.then(
      () => 'in',
      ({ code: found, message }: { code: string; message: string }) => `${found}: ${message}`,
    )
    answers.set(refused, (answers.get(refused) ?? 0) + 1)
  }
  expect([...answers]).toEqual([
    ['wrong-code: the code is wrong; 2 tries are left', 1],
    ['wrong-code: the code is wrong; 1 try is left', 1],
    ['wrong-code: the code is wrong, and the window is closed after 3 wrong codes', 1],
    ['not-pairing: the pairing window of this robot is closed', 9997],
  ])
  expect(bed.computed).toBe(3)
  expect(bed.operators.now.all()).toEqual([])
  // not even who knows the code now
  await expect(bed.pair(eve, code)).rejects.toMatchObject({ code: 'not-pairing' })
})

test('CHANNEL 9.7: 10,000 guessed confirmations: each attempt is judged once, and three wrong ones are all', async () => {
  await opened()
  const eve = await bed.person('eve')
  const { attempt } = await bed.begin(eve, bed.wrongCode)
  const codes = new Map<string, number>()
  for (let guess = 0; guess < 10_000; guess++) {
    const message = { op: 'pair-confirm', attempt, confirm: toText(randomBytes(32)) }
    const { code } = (await bed.answer(message).catch((error: { code: string }) => error)) as { code: string }
    codes.set(code, (codes.get(code) ?? 0) + 1)
  }
  expect([...codes]).toEqual([
    ['wrong-code', 1],
    ['not-pairing', 9999],
  ])
  expect(bed.pairing.status?.tries).toBe(2)
})

test('CHANNEL 9.4: each code of 8 digits has the same chance, also those that begin with zeros', () => {
  const draws = 50_000
  /** By position and digit. */
  const counts = new Array<number>(80).fill(0)
  for (let draw = 0; draw < draws; draw++) {
    const code = drawCode()
    expect(code).toMatch(/^\d{8}$/)
    for (const [at, digit] of [...code].entries())
      counts[at * 10 + Number(digit)] = (counts[at * 10 + Number(digit)] ?? 0) + 1
  }
  // chi-squared with 9 degrees of freedom: above 50 by chance once in 10^7
  for (let at = 0; at < 8; at++) {
    const chi = counts
      .slice(at * 10, at * 10 + 10)
      .reduce((sum, count) => sum + (count - draws / 10) ** 2 / (draws / 10), 0)
    expect(chi).toBeLessThan(50)
  }
  expect([readCode(' 0012-3456\n'), readCode('123456789'), readCode('1234567a'), showCode('00123456')]).toEqual(['00123456', null, null, '0012 3456']) // biome-ignore format: one comparison
})

test('CHANNEL 9.4: the code is shown in the log and in files, which go with the window; no message has it', async () => {
  const partition = mkdtempSync(join(tmpdir(), 'medulla-boot-'))
  onTestFinished(() => rmSync(partition, { recursive: true, force: true }))
  const boot = join(partition, 'pairing-code.txt')
  await opened({ files: [boot] })
  const { code } = bed
  const own = join(bed.home.dir, 'operators/pairing.json')
  await eventually(() => existsSync(boot) && readFileSync(boot, 'utf8').includes(showCode(code)))
  expect(statSync(own).mode & 0o777).toBe(0o600)
  expect(JSON.parse(readFileSync(own, 'utf8'))).toMatchObject({ code, tries: 3, nonce: null })
  const eve = await bed.person('eve')
  const refusal = await bed.pair(eve, bed.wrongCode).catch((error: Error & { hint: string }) => error)
  const shown = JSON.stringify([bed.pairing.status, refusal, bed.receipts, await bed.answer({ op: 'pair-card' })])
  for (const form of [code, showCode(code)]) expect(shown).not.toContain(form)
  await bed.pair(await bed.person('ann'))
  await eventually(() => !existsSync(own) && !existsSync(boot))
})

test('CHANNEL 9.3: a window closes after its time, with the body, and when another way has made an owner', async () => {
  await opened({ windowMs: 60 })
  const ann = await bed.person('ann')
  const first = bed.code
  await eventually(() => !bed.pairing.isOpen)
  await expect(bed.pair(ann, first)).rejects.toMatchObject({ code: 'not-pairing' })
  expect(bed.said.at(-1)).toContain('its time is over')
  await bed.close()

  await opened()
  expect(bed.code).not.toBe(first)
  await addOperator(bed.home, (await bed.person('bob')).card, 'owner')
  await bed.operators.reload()
  bed.pairing.operatorsChanged()
  expect(bed.pairing.isOpen).toBe(false)
  // a window that a person on the robot asked for stays
  bed.pairing.open(null, 'nonce')
  bed.pairing.operatorsChanged()
  expect(bed.pairing.isOpen).toBe(true)
  await bed.pairing.close()
  expect(bed.pairing.isOpen).toBe(false)
  await expect(bed.pair(ann, bed.code)).rejects.toMatchObject({ code: 'not-pairing' })
})

test('CHANNEL 9.3: while there is no owner, the code and its tries outlive the body, but not the third wrong code', async () => {
  await opened()
  const { code } = bed
  const eve = await bed.person('eve')
  await expect(bed.pair(eve, bed.wrongCode)).rejects.toMatchObject({ code: 'wrong-code' })
  await bed.pairing.close()
  expect(bed.pairing.isOpen).toBe(false)
  await expect(bed.pair(eve, code)).rejects.toMatchObject({ code: 'not-pairing' })
  bed.pairing.begin()
  expect([bed.code, bed.pairing.status?.tries]).toEqual([code, 2])
  for (let wrong = 0; wrong < 2; wrong++)
    await expect(bed.pair(eve, bed.wrongCode)).rejects.toMatchObject({ code: 'wrong-code' })
  await bed.pairing.close()
  bed.pairing.begin()
  expect(bed.code).not.toBe(code)
  expect(bed.pairing.status?.tries).toBe(3)
  // a window that a person asked for does not outlive the body, whatever it left behind
  bed.pairing.open('owner', 'nonce')
  const asked = bed.code
  const file = join(bed.home.dir, 'operators/pairing.json')
  await eventually(() => existsSync(file) && readFileSync(file, 'utf8').includes(asked))
  await bed.pairing.close()
  expect(existsSync(file)).toBe(false)
  // files that somebody damaged are no code
  for (const text of [
    '{}',
    'x',
    JSON.stringify({ code: '1', nonce: null, tries: 3 }),
    JSON.stringify({ code, nonce: null, tries: 9 }),
  ]) {
    writeFileSync(file, text)
    bed.pairing.begin()
    expect(bed.pairing.status?.tries).toBe(3)
    expect(bed.code).not.toBe(code)
    await bed.pairing.close()
  }
})

test('a window that is opened again has another code, and forgets the attempts and wrong codes of the first', async () => {
  await opened()
  const ann = await bed.person('ann')
  const attempt = await bed.begin(ann, bed.code)
  await expect(bed.pair(ann, bed.wrongCode)).rejects.toMatchObject({ code: 'wrong-code' })
  bed.pairing.open(null, 'nonce')
  expect(bed.pairing.status?.tries).toBe(3)
  await expect(bed.confirm(attempt)).rejects.toMatchObject({ code: 'not-pairing' })
  await bed.pair(ann)
  expect(bed.operators.now.all()).toHaveLength(1)
})

test('CHANNEL 9.2: no message of an endpoint opens a window', async () => {
  bed = await PairingBed.make()
  const ann = await bed.person('ann')
  const share = {
    card: JSON.stringify(ann.card),
    hash: toText(randomBytes(32)),
    share: toText(makeShare('A', 1n).bytes),
  }
  const messages = [
    { op: 'pair-card' },
    { op: 'pair-share', ...share },
    { op: 'pair-confirm', attempt: 1, confirm: toText(randomBytes(32)) },
  ]
  for (const message of messages) await expect(bed.answer(message)).rejects.toMatchObject({ code: 'not-pairing' })
  expect(bed.pairing.isOpen).toBe(false)
  expect(bed.computed).toBe(0)
})

test('CHANNEL 9.11: an endpoint that was taken over cannot put another card in the place of one, or spare the code', async () => {
  await opened()
  const [ann, eve] = [await bed.person('ann'), await bed.person('eve')]
  // ann types the right code, and the endpoint passes on the card of eve
  await expect(bed.begin(ann, bed.code, eve.card).then((attempt) => bed.confirm(attempt))).rejects.toMatchObject({
    code: 'wrong-code',
  })
  // the card of a robot, a card with another's signature, no card
  for (const told of [bed.home.card, { ...ann.card, sig: eve.card.sig }, { cert: '', sig: '' }]) {
    await expect(bed.begin(ann, bed.code, told)).rejects.toMatchObject({
      code: expect.stringMatching(/^(?:usage|bad-signature)$/),
    })
  }
  for (const [card, hash, share] of [
    [JSON.stringify(ann.card), toText(randomBytes(31)), toText(randomBytes(65))],
    [JSON.stringify(ann.card), toText(randomBytes(32)), toText(randomBytes(64))],
    ['{', toText(randomBytes(32)), toText(randomBytes(65))],
  ])
    await expect(bed.answer({ op: 'pair-share', card, hash, share })).rejects.toMatchObject({ code: 'usage' })
  expect(bed.operators.now.all()).toEqual([])
  expect(bed.pairing.status?.tries).toBe(2)
})

test('CHANNEL 9.12: a 9th attempt pushes out the oldest, and a 5th that waits for its share is refused', async () => {
  await opened()
  const [ann, eve] = [await bed.person('ann'), await bed.person('eve')]
  const oldest = await bed.begin(ann, bed.code)
  for (let one = 0; one < 8; one++) await bed.begin(eve, bed.wrongCode)
  await expect(bed.confirm(oldest)).rejects.toMatchObject({ code: 'not-pairing' })
  await bed.close()

  const held: (() => void)[] = []
  const respond = () => new Promise<never>((_, reject) => held.push(() => reject(new Error('ended'))))
  const close = async () => {
    for (const end of held) end()
  }
  await opened({ responder: { prepare: () => {}, respond, close } })
  const bob = await bed.person('bob')
  const waiting = Array.from({ length: 5 }, () =>
    bed.begin(bob, bed.code).catch((error: { code?: string }) => error.code),
  )
  expect(await Promise.race(waiting)).toBe('in-progress')
  expect(held).toHaveLength(4)
})

test('later operators are operators unless the request says otherwise, names stay apart, and nobody loses a role', async () => {
  await opened()
  const ann = await bed.person('ann')
  await bed.pair(ann)
  const pairAs = async (who: typeof ann, role: Parameters<typeof bed.pairing.open>[0]) => {
    bed.pairing.open(role, 'nonce')
    await bed.pair(who)
  }
  await pairAs(await bed.person('ann'), null)
  await pairAs(await bed.person('bob'), 'owner')
  await pairAs(await bed.person('eve'), 'observer')
  await pairAs(ann, 'observer')
  await pairAs(ann, null)
  const list = () =>
    bed.operators.now
      .all()
      .map(({ name, role }) => `${name} ${role}`)
      .sort()
  expect(list()).toEqual(['ann owner', 'ann-2 operator', 'bob owner', 'eve observer'])
})

test('on the robot, a request opens a window, and only a file that nobody else could write is one', async () => {
  await opened()
  await bed.pair(await bed.person('ann'))
  const asked = requestWindow(bed.home.dir, 'owner')
  const request = await eventually(() => takeRequest(bed.home.dir))
  expect(request).toMatchObject({ role: 'owner' })
  bed.pairing.open(request.role, request.nonce)
  expect(await asked).toMatchObject({ code: bed.code, tries: 3 })
  expect(await takeRequest(bed.home.dir)).toBe(null)
  const file = join(bed.home.dir, 'operators', REQUEST_FILE)
  const text = JSON.stringify(request)
  writeFileSync(file, text)
  chmodSync(file, 0o666)
  await expect(takeRequest(bed.home.dir)).rejects.toThrow('is not a request')
  writeFileSync(join(bed.folder, 'elsewhere'), text)
  symlinkSync(join(bed.folder, 'elsewhere'), file)
  await expect(takeRequest(bed.home.dir)).rejects.toThrow('ELOOP')
})
