/** A new owner of a led: adopts both ends of its pipe, which the parent kept open, as descriptors 3 and 4. */
import { readFileSync, writeSync } from 'node:fs'
import { SimBackend } from '../../../drivers/owner/sim/backend.ts'
import { World } from '../../../drivers/owner/sim/world.ts'
import { encodeWriteRecord, WRITE_RECORD_SIZE } from '../../../drivers/program/inherit/record.ts'

const { folder, entry, value, fence } = JSON.parse(readFileSync(0, 'utf8'))
const bytes = new Uint8Array(WRITE_RECORD_SIZE)
encodeWriteRecord(new DataView(bytes.buffer), 1, fence, process.hrtime.bigint(), 0)
// a program has written while there was no owner: the record waits in the pipe
writeSync(4, bytes)
const backend = new SimBackend({ world: new World(), folder })
backend.advance(fence, [])
const led = backend.adopt('led', 1, entry, { fds: [3, 4], value, fence })
const before = backend.world.trace.count
const answer = { before, value: led.value(), grant: led.grant(), info: backend.info('led') }
backend.close()
process.stdout.write(JSON.stringify(answer))
