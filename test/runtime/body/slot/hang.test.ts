import { expect, test } from 'vitest'
import type { Cause } from '../../../../runtime/body/slot/cause.ts'
import { Hang } from '../../../../runtime/body/slot/hang.ts'
import type { Action } from '../../../../runtime/body/slot/lifecycle.ts'

type Place = { text: string; stack: string }

/** A program whose capture and place come when the test says so. */
function program() {
  const asked: boolean[] = []
  let captured = () => {}
  let placed: (place: Place | null) => void = () => {}
  const child = {
    fence: 3,
    captureHang: (mayRun: boolean) => {
      asked.push(mayRun)
      return new Promise<void>((resolve) => {
        captured = resolve
      })
    },
    hangPlace: () =>
      new Promise<Place | null>((resolve) => {
        placed = resolve
      }),
  }
  return {
    running: { child },
    asked,
    captured: () => captured(),
    placed: (place: Place | null) => placed(place),
  }
}

const ACTIONS: readonly Action[] = ['safe-levels', 'kill-current', 'restart-later']
const PLACE = { text: 'it hangs at program.ts:14:7', stack: 'it hangs\n    at program.ts:14:7' }

function hang() {
  const lines: string[] = []
  return { lines, hang: new Hang({ add: (_stream, text) => void lines.push(text) }, 1) }
}

test('the cause gets the place of the program that is killed, and no other one', async () => {
  const { hang: found, lines } = hang()
  const [one, other] = [program(), program()]
  const cause: Cause = { code: 'heartbeat-lost', message: 'no heartbeat' }
  found.expect(one.running, cause, ACTIONS)
  await found.capture(other.running)
  const captured = found.capture(one.running)
  one.captured()
  await captured
  one.placed(PLACE)
  await found.found
  expect([cause.said, lines, one.asked, other.asked]).toEqual([PLACE.text, [PLACE.stack], [true], []])
})

test('HANDOVER 4.11: an event of the slot ends the waiting, before and after the kill', async () => {
  const { hang: found } = hang()
  const one = program()
  const cause: Cause = { code: 'heartbeat-lost', message: 'no heartbeat' }
  found.expect(one.running, cause, ACTIONS)
  const captured = found.capture(one.running)
  found.hurry()
  await captured
  await found.found
  expect(cause.said).toBeUndefined()
})

test('HANDOVER 4.11: nothing runs on for its stack where another program is to go on', async () => {
  for (const back of ['resume-old', 'resume-current'] as const) {
    const { hang: found } = hang()
    const one = program()
    found.expect(one.running, { code: 'heartbeat-lost', message: '' }, ['kill-current', back])
    void found.capture(one.running)
    expect(one.asked).toEqual([false])
  }
})
