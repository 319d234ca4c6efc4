/** The worker thread of responder.ts. */
import { parentPort } from 'node:worker_threads'
import { type RespondTo, respond } from './respond.ts'
import type { ResponderAnswer } from './responder.ts'

parentPort?.on('message', (request: RespondTo) => {
  let answer: ResponderAnswer
  try {
    answer = { ok: true, value: respond(request) }
  } catch {
    // without the reason, which could hold a part of a secret
    answer = { ok: false, message: 'the share of the laptop is no point of the curve' }
  }
  parentPort?.postMessage(answer)
})
