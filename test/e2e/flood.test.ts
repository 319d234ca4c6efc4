/** Floods of refused requests, sent by operators or by a compromised endpoint. */
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Receipt } from '../../deploy/shared/api.ts'
import { eventually, SCALE } from './eventually.ts'
import { ended, TestRobot } from './robot.ts'

let robot: TestRobot

beforeAll(async () => {
  const preload = fileURLToPath(new URL('children/endpoint.mjs', import.meta.url))
  robot = await TestRobot.start({}, { eve: 'observer', oscar: 'operator' }, { preload, sandbox: 'none' })
  await robot.commit('steady')
})
afterAll(async () => robot?.close())

const logBytes = () => statSync(join(robot.home, 'receipts.ndjson')).size
const fingerprint = (name: string) => robot.others[name]?.signer.fingerprint ?? ''

/** Bounds of HANDOVER 8.18 and 8.19 for the time that a test took: a slow machine sends the same flood for longer. */
const minutesSince = (began: number) => Math.ceil((performance.now() - began) / 60_000)
/** A receipt with a count ends a window of 60 s, each later one twice as long, and one comes when the runtime ends; then each kind is new. */
const windowsSince = (began: number) => Math.floor(Math.log2((performance.now() - began) / (60_000 * SCALE) + 1)) + 1

function refusals(pusher: string): { receipts: Receipt[]; total: number } {
  const receipts = robot.receipts().filter((receipt) => receipt.outcome === 'refused' && receipt.pusher === pusher)
  return { receipts, total: receipts.reduce((sum, { count = 1 }) => sum + count, 0) }
}

test("HANDOVER 8.18: 2,000 refusals of an observer add less than 100 KiB to the log, another operator's is recorded, and the counts add up", {
  tags: ['slow'],
}, async () => {
  const [before, began] = [logBytes(), performance.now()]
  const eve = await robot.connect(robot.others.eve)
  const attempt = () => expect(eve.push('main', Buffer.from('junk')).next()).rejects.toMatchObject({ code: 'role' })
  for (let i = 0; i < 2000; i += 5) {
    await Promise.all(Array.from({ length: 5 }, attempt))
    if (i !== 1500) continue
    const oscar = await robot.connect(robot.others.oscar)
    expect(await ended(oscar.push('main', Buffer.from('junk')))).toMatchObject({ code: 'unknown-format' })
    expect(await eventually(() => refusals(fingerprint('oscar')).receipts.at(-1))).toMatchObject({
      code: 'unknown-format',
    })
    oscar.close()
  }
  eve.close()
  expect(logBytes() - before).toBeLessThan(100 * 1024)
  // the runtime writes pending counts when it ends
  await robot.end()
  const { receipts, total } = refusals(fingerprint('eve'))
  expect(total).toBe(2000)
  // the burst without what is kept for new kinds, 1 a minute after it, and the receipts with a count
  expect(receipts.length).toBeLessThanOrEqual(48 + minutesSince(began) + 2 * windowsSince(began))
  expect(receipts.at(-1)).toMatchObject({ code: 'role', slot: 'main', reason: expect.stringMatching(/^\d+ more: /) })
  expect(receipts.at(-1)?.periodMs).toBeGreaterThan(0)
  expect(receipts.filter(({ count }) => count !== undefined).length).toBeLessThanOrEqual(windowsSince(began))
  expect(logBytes() - before).toBeLessThan(100 * 1024)
  await robot.begin()
  await robot.running()
})

test('HANDOVER 8.19: of 500 stops by an observer the first is recorded, and at most 48 receipts are written', {
  tags: ['slow'],
}, async () => {
  const eve = await robot.connect(robot.others.eve)
  const [before, began] = [robot.receipts().length, performance.now()]
  const record = join(robot.home, 'slots/main/slot.json')
  // the first stop also records how the program ran
  for (let i = 0; i < 2; i++) await robot.events(eve.stop('main'))
  const { mtimeNs } = statSync(record, { bigint: true })
  for (let i = 2; i < 500; i++) expect(await robot.events(eve.stop('main'))).toMatchObject({ outcome: 'stopped' })
  const more = robot.receipts().slice(before)
  expect(new Set(more.map(({ outcome }) => outcome))).toEqual(new Set(['stopped']))
  expect(more.length).toBeLessThanOrEqual(48 + minutesSince(began) + 2 * windowsSince(began))
  expect(statSync(record, { bigint: true }).mtimeNs).toBe(mtimeNs)
  await robot.events(robot.client.start('main'))
  await robot.running()
  eve.close()
})

/** Lets the next endpoint send these messages to the body. Resolves once every id in `answered` has its answer. */
async function hostile(messages: object[], answered: ReadonlySet<number>): Promise<void> {
  const lines = join(robot.folder, 'fault')
  const answers = `${lines}.answers`
  writeFileSync(answers, '')
  writeFileSync(lines, messages.map((message) => `${JSON.stringify(message)}\n`).join(''))
  process.kill(robot.endpoint(), 'SIGKILL')
  await eventually(() => {
    const heard = readFileSync(answers, 'utf8').matchAll(/"op":"(?:done|error)","id":(\d+)/g)
    return answered.size === [...heard].filter(([, id]) => answered.has(Number(id))).length
  }, 120_000 * SCALE)
}

/** Starts a real endpoint again. */
async function redeem(): Promise<void> {
  rmSync(join(robot.folder, 'fault'))
  process.kill(robot.children().find(({ command }) => command.includes('hostile.mjs'))?.pid ?? -1, 'SIGKILL')
  await robot.reconnect()
}

test('HANDOVER 8.18, 2.8: a compromised endpoint can fill neither the disk nor the slots', {
  tags: ['slow'],
}, async () => {
  const before = logBytes()
  const folders = readdirSync(join(robot.home, 'slots'))
  const known = fingerprint('oscar')
  const unknown = `SHA256:${'A'.repeat(43)}`
  const message = '\u0001'.repeat(500)
  const messages: object[] = []
  const answered = new Set<number>()
  let id = 1
  for (let i = 0; i < 3000; i++) {
    messages.push({ op: 'refused', id: id++, slot: `s${i}`, pusher: known, code: 'internal', message })
    messages.push({ op: 'refused', id: id++, slot: 'main', pusher: unknown, code: 'internal', message })
  }
  for (let i = 0; i < 300; i++) {
    const push = { staged: 0, length: 4, pusher: known, order: null }
    for (let more = 0; more < 3; more++) answered.add(id + more)
    messages.push({ op: 'install', id: id++, slot: `t${i}`, ...push })
    messages.push({ op: 'stop', id: id++, slot: `u${i}`, pusher: known })
    messages.push({ op: 'order', id: id++, signed: { order: '{}', sig: '' } })
  }
  await hostile(messages, answered)
  expect(readdirSync(join(robot.home, 'slots'))).toEqual(folders)
  // the longest allowed reasons, of characters that JSON makes seven times as long
  expect(logBytes() - before).toBeLessThan(64 * 6000)
  expect(robot.receipts().filter(({ pusher }) => pusher === unknown)).toEqual([])
  await redeem()
  expect((await robot.client.status()).slots.map(({ slot }) => slot)).toEqual(['main'])
  expect(await robot.push('arm-writer', { to: 'arm', program: 'reach' })).toMatchObject({ outcome: 'committed' })
  robot.check()
})

test('HANDOVER 1.4, 8.1: an endpoint that sends the body times of its own is ended', async () => {
  const marks = { start: 0, received: 1e9, opened: 2e9 }
  const push = { staged: 0, length: 4, pusher: fingerprint('oscar'), order: null }
  const before = robot.receipts().length
  await hostile([{ op: 'install', id: 1, slot: 'main', ...push, marks }], new Set())
  await eventually(() => robot.stderr.includes('not in the protocol'))
  expect(robot.receipts()).toHaveLength(before)
})
