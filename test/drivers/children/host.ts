/** A program that runs its parent's commands on its handles: one JSON line each, with answers on stdout. */
import { createInterface } from 'node:readline'
import { HardwareError } from '../../../drivers/errors.ts'
import { BrokerClient } from '../../../drivers/program/broker/index.ts'
import { type Command, performer } from '../performer.ts'

const perform = performer((fd, deadlineMs) => new BrokerClient(fd, { deadlineMs }))

createInterface({ input: process.stdin }).on('line', (line) => {
  let answer: unknown
  try {
    answer = { ok: perform(JSON.parse(line) as Command) ?? null }
  } catch (error) {
    const kind = error instanceof HardwareError ? error.kind : 'not-hardware'
    answer = { kind, message: (error as Error).message }
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`)
})
