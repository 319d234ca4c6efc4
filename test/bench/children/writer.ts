/**
 * The program of the alternatives: the same loop, state and writes as the robot program that is measured beside it, as a
 * plain Node process. Arguments: generation, bytes of state, `go` or `wait`. Descriptor 3 is the pipe.
 */
import { writeSync } from 'node:fs'
import { encodeWriteRecord, WRITE_RECORD_SIZE } from '../../../drivers/program/inherit/record.ts'

export type ToWriter = { t: 'give' } | { t: 'take'; state: string }
export type FromWriter = { t: 'ready' | 'state'; state?: string }

const PIPE = 3
const [generation, size, mode] = process.argv.slice(2) as [string, string, string]
const fence = Number(generation)
const bytes = new Uint8Array(WRITE_RECORD_SIZE)
const record = new DataView(bytes.buffer)
let value = 0
let running = false
let state = new Uint8Array(0)

function write(): void {
  value = 1 - value
  encodeWriteRecord(record, 1, fence, process.hrtime.bigint(), value)
  writeSync(PIPE, bytes)
}

function run(with_: Uint8Array<ArrayBuffer>): void {
  state = with_
  write()
  const view = new DataView(state.buffer, state.byteOffset, state.length)
  running = true
  every1ms(() => {
    const count = view.getUint32(0, true) + 1
    view.setUint32(0, count, true)
    view.setUint32(state.length >> 1, count, true)
    view.setUint32(state.length - 4, count, true)
    write()
  })
}

/** As the SDK's: the event loop turns between two ticks, and the wait is a futex. */
function every1ms(tick: () => void): void {
  const cell = new Int32Array(new SharedArrayBuffer(4))
  const now = () => Number(process.hrtime.bigint())
  let due = now() + 1e6
  const step = () => {
    if (!running) return
    const wait = due - now()
    if (wait > 0) Atomics.wait(cell, 0, 0, wait / 1e6)
    due = Math.max(due, now() - 1e6) + 1e6
    tick()
    setImmediate(step)
  }
  setImmediate(step)
}

const say = (message: FromWriter) => process.send?.(message)

process.on('message', (message: ToWriter) => {
  if (message.t === 'take') {
    const carried = Buffer.from(message.state, 'base64')
    return run(new Uint8Array(carried.buffer, carried.byteOffset, carried.length))
  }
  running = false
  say({ t: 'state', state: Buffer.from(state.buffer, state.byteOffset, state.length).toString('base64') })
})
// a process that has no reader is over
process.on('uncaughtException', (error) => process.exit((error as { code?: string }).code === 'EPIPE' ? 0 : 1))

if (mode === 'go') run(new Uint8Array(Number(size)))
else say({ t: 'ready' })
