/** The schema of what a program may send to the body. Anything else is parsed to null, never to an exception. */
import * as z from 'zod'
import { MAX_STATE } from '../../sdk/statearea.ts'
import { ENTERED, FAIL_CODES, type FromProgram, LOG_LEVELS } from '../../sdk/wire.ts'
import type { Cause } from './cause.ts'

const text = z.string().max(4200)
const swap = z.string().regex(/^[0-9a-f]{32}$/)
const count = z.number().int().nonnegative()
const ns = z.number().nonnegative()
const fail = z.enum(FAIL_CODES)
const snapshot = z.strictObject({
  metaLength: count.max(64 * 1024),
  chunkCount: count.max(8192),
  length: count.max(MAX_STATE),
  root: z.string().regex(/^[0-9a-f]{64}$/),
})

const Message = z.discriminatedUnion('t', [
  z.strictObject({ t: z.literal('waiting') }),
  z.strictObject({ t: z.literal('ready'), rehearsals: count, rehearseMs: ns, note: text.optional() }),
  z.strictObject({ t: z.literal('copied'), swap, snapshot }),
  z.strictObject({ t: z.literal('preloaded'), swap }),
  z.strictObject({ t: z.literal('armed'), swap }),
  z.strictObject({ t: z.literal('orphan'), swap }),
  z.strictObject({ t: z.literal('yielded'), swap, snapshot, revokedNs: ns, sentNs: ns }),
  z.strictObject({
    t: z.literal('took'),
    swap,
    fence: count,
    revokedNs: ns,
    sentNs: ns,
    receivedNs: ns,
    liveNs: ns,
    startedNs: ns,
    bytes: count.max(MAX_STATE),
    changed: count,
  }),
  z.strictObject({ t: z.literal('started'), fence: count }),
  z.strictObject({ t: z.literal('resumed'), fence: count, fromInbox: z.boolean() }),
  z.strictObject({ t: z.literal('failed'), swap, code: fail, message: text }),
  z.strictObject({
    t: z.literal('checkpoint'),
    n: count,
    snapshot,
    stateVersion: count,
    encoding: z.enum(['json', 'bytes']),
  }),
  z.strictObject({ t: z.literal('hb'), ticks: count, lateUs: ns, overruns: count, dropped: count.max(1e9).optional() }),
  z.strictObject({ t: z.literal('unhealthy'), reason: text }),
  z.strictObject({ t: z.literal('held'), swap, reason: text }),
  z.strictObject({ t: z.literal('log'), level: z.enum(LOG_LEVELS), text }),
  z.strictObject({ t: z.literal('enter'), place: z.enum(ENTERED) }),
  z.strictObject({ t: z.literal('fatal'), code: fail, message: text, stack: text.optional() }),
])

export function parseFromProgram(line: string): FromProgram | null {
  try {
    const parsed = Message.safeParse(JSON.parse(line))
    return parsed.success ? (parsed.data as FromProgram) : null
  } catch {
    return null
  }
}

/** The cause with which a program ends after this message, or null when it goes on. `message` null: the program sent something else. */
export function lastWords(message: FromProgram | null): Cause | null {
  if (message === null) {
    return { code: 'takeover-failed', message: 'the program sent a message that is not in the protocol' }
  }
  return message.t === 'fatal' ? { code: message.code, message: '', said: message.message } : null
}
