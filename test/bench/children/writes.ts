/** Writes in batches through every kind of handle. Arguments: samples, folder in memory, variants. */
import { join } from 'node:path'
import { parseBoard } from '../../../drivers/board.ts'
import { adoptBrokered, BrokerClient } from '../../../drivers/broker/index.ts'
import type { Grant, Lease, Output } from '../../../drivers/handle.ts'
import { adopt } from '../../../drivers/inherit/index.ts'
import { SimBackend } from '../../../drivers/sim/backend.ts'
import { World } from '../../../drivers/sim/world.ts'
import type { FromWrites, WriteVariant } from '../write.ts'

const BATCH = 1000
const FD = { broker: 4, value: 5, pipe: 6 }
const [samples, folder, ...variants] = process.argv.slice(2) as [string, string, ...WriteVariant[]]

const lease: Lease = { live: true, fence: 1 }
const grant = { name: 'line', id: 1, kind: 'output' } as const
const inherited = (fd: number, encoding: 'text' | 'record'): Grant => ({ ...grant, via: 'inherit', fd, encoding })

function outputs(): Record<WriteVariant, (level: 0 | 1) => void> {
  const text = adopt(inherited(FD.value, 'text'), lease, { system: null, broker: null }) as Output
  const record = adopt(inherited(FD.pipe, 'record'), lease, { system: null, broker: null }) as Output
  const client = new BrokerClient(FD.broker, { deadlineMs: 1000 })
  const remote = adoptBrokered({ ...grant, via: 'broker' }, lease, client) as Output
  const own = inProcess()
  return {
    'inherited-text': (level) => text.write(level),
    'inherited-record': (level) => record.write(level),
    brokered: (level) => remote.write(level),
    'in-process': own,
  }
}

function inProcess(): (level: 0 | 1) => void {
  const board = parseBoard(
    JSON.stringify({ model: 'sim', handles: { line: { kind: 'output', line: 'GPIO17', via: 'broker' } } }),
    'board',
  )
  const backend = new SimBackend({ world: new World(), folder: join(folder, 'own') })
  const handle = backend.open('line', 1, board.handles.line as (typeof board.handles)[string])
  return (level) => handle.drive(level, 1)
}

const write = outputs()
const send = (message: FromWrites): Promise<void> =>
  new Promise((resolve) => process.send?.(message, undefined, undefined, () => resolve()))

for (let i = 0; i < Number(samples); i++) {
  for (const variant of variants) {
    const one = write[variant]
    const began = process.hrtime.bigint()
    for (let n = 0; n < BATCH; n++) one((n & 1) as 0 | 1)
    const us = Number(process.hrtime.bigint() - began) / 1e3 / BATCH
    await send({ variant, us })
  }
}
await send({ end: true })
process.exit()
