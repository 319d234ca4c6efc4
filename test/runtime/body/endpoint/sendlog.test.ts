import { expect, test } from 'vitest'
import type { LogLine, LogMark } from '../../../../deploy/shared/api.ts'
import { LineSplitter } from '../../../../deploy/shared/linesplitter.ts'
import { EndpointPeer } from '../../../../runtime/body/endpoint/peer.ts'
import { type LogRequest, sendLog } from '../../../../runtime/body/endpoint/sendlog.ts'
import { SlotLog } from '../../../../runtime/body/slot/log.ts'
import type { Slot } from '../../../../runtime/body/slot/slot.ts'
import { memoryPipe } from '../../../deploy/shared/channel/peers.ts'
import { eventually } from '../../../e2e/eventually.ts'

const request: LogRequest = {
  ...{ id: 1, slot: null, follow: true },
  ...{ lines: 100, since: null, ago: null, level: 'debug', after: null },
}

/** A real pipe to an endpoint, with the items that came through it. */
function robot() {
  const [near, far] = memoryPipe()
  const hostile: string[] = []
  const peer = new EndpointPeer(near, (why) => hostile.push(why))
  const got: { op: string; id: number; item?: LogLine | LogMark }[] = []
  const splitter = new LineSplitter()
  far.on('data', (chunk) => {
    for (const line of splitter.push(chunk)) got.push(JSON.parse(line))
  })
  const slots = [{ name: 'main', log: new SlotLog('main') }] as unknown as Slot[]
  const watchers = new Set<(slot: Slot) => void>()
  const body = {
    all: slots,
    known: (name: string): Slot => slots.find((slot) => slot.name === name) as Slot,
    onSlot: (listener: (slot: Slot) => void) => {
      watchers.add(listener)
      return () => watchers.delete(listener)
    },
  }
  const add = (name: string): Slot => {
    const slot = { name, log: new SlotLog(name) } as unknown as Slot
    slots.push(slot)
    for (const listener of watchers) listener(slot)
    return slot
  }
  const items = () => got.flatMap(({ item }) => (item === undefined ? [] : ['mark' in item ? 'mark' : item.text]))
  const send = (which: Partial<LogRequest> = {}) => {
    const asked = { ...request, ...which }
    return sendLog(body, peer, asked, (item) => peer.send({ op: 'item', id: asked.id, item }))
  }
  return { peer, hostile, got, items, send, add, main: slots[0] as Slot }
}

test('CHANNEL 10.3: lines that come while a followed log waits for its turn are sent once, before the mark', async () => {
  const { peer, main, items, send, add } = robot()
  main.log.add('log', 'stored', 1)
  let go = (): void => {}
  const until = new Promise<void>((resolve) => {
    go = resolve
  })
  const first = peer.answerLong(9, () => until.then(() => []))
  const sending = send()
  main.log.add('log', 'while it waits', 1)
  const arm = add('arm')
  arm.log.add('log', 'of a new slot', 1)
  go()
  await Promise.all([first, sending])
  arm.log.add('log', 'later', 1)
  add('leg').log.add('log', 'of a later slot', 1)
  const expected = ['stored', 'while it waits', 'of a new slot', 'mark', 'later', 'of a later slot']
  await eventually(() => items().length >= expected.length)
  expect(items()).toEqual(expected)
})

test('CHANNEL 10.3: lines that come while many stored lines are sent follow the mark, none twice, none left out', async () => {
  const { main, items, send, got } = robot()
  for (let n = 0; n < 1500; n++) main.log.add('runtime', `${n}`, 1)
  const sending = send({ lines: 10_000 })
  for (let n = 1500; n < 1600; n++) {
    await new Promise(setImmediate)
    main.log.add('runtime', `${n}`, 1)
  }
  await sending
  await eventually(() => items().length >= 1601)
  const all = items()
  const mark = all.indexOf('mark')
  expect(mark).toBeGreaterThanOrEqual(1500)
  expect(all.filter((text) => text !== 'mark')).toEqual(Array.from({ length: 1600 }, (_, n) => `${n}`))
  // the mark is the cursor of the line before it
  const before = got[mark - 1]?.item as LogLine
  expect(got[mark]?.item).toEqual({ mark: before.cursor })
})

test('a followed log that is cancelled before its turn sends nothing, and leaves no follower', async () => {
  const { peer, main, items, send, hostile } = robot()
  main.log.add('log', 'stored', 1)
  for (let id = 1; id <= 300; id++) {
    const sending = send({ id })
    peer.cancel(id)
    await sending
  }
  main.log.add('log', 'later', 1)
  await new Promise(setImmediate)
  expect(items()).toEqual([])
  expect(hostile).toEqual([])
})
