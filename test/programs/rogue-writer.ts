// Goes past the SDK: it catches a record on its way out, and a thread of its own goes on writing it for ever.
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { Worker } from 'node:worker_threads'
import { robot } from 'medulla'

const ROGUE = `
const { writeSync } = require('node:fs')
const { workerData: { fd, record } } = require('node:worker_threads')
const bytes = Buffer.from(record)
const cell = new Int32Array(new SharedArrayBuffer(4))
for (let level = 0; ; level = 1 - level) {
  bytes.writeBigUInt64LE(process.hrtime.bigint(), 8)
  bytes.writeDoubleLE(level, 16)
  writeSync(fd, bytes)
  Atomics.wait(cell, 0, 0, 0.2)
}
`

type Write = (fd: number, bytes: Uint8Array, ...rest: unknown[]) => number

let armed = false
const original = fs.writeSync as Write
const catching: Write = (fd, bytes, ...rest) => {
  if (armed && fd >= 11 && bytes.length === 24) {
    armed = false
    new Worker(ROGUE, { eval: true, workerData: { fd, record: Buffer.from(bytes) } })
  }
  return original(fd, bytes, ...rest)
}
fs.writeSync = catching as typeof fs.writeSync
syncBuiltinESMExports()

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, dial, enable, state, every }) {
    if (enable.value === 0) enable.write(1)
    let ticks = 0
    every(1, () => {
      state.n += 1
      ticks += 1
      dial.write(state.n / 1e6)
      if (ticks !== 5) return
      armed = true
      led.write(1)
    })
  },
})
