// Goes past the SDK: a thread of its own writes records on the descriptor of the led, with the fence it once had.
import { Worker } from 'node:worker_threads'
import { robot } from 'medulla'

const ROGUE = `
const { writeSync } = require('node:fs')
const { workerData } = require('node:worker_threads')
const record = Buffer.alloc(24)
record.writeUInt16LE(0x4d52, 0)
record.writeUInt16LE(1, 2)
record.writeUInt32LE(workerData, 4)
const cell = new Int32Array(new SharedArrayBuffer(4))
for (let level = 0; ; level = 1 - level) {
  record.writeBigUInt64LE(process.hrtime.bigint(), 8)
  record.writeDoubleLE(level, 16)
  writeSync(11, record)
  Atomics.wait(cell, 0, 0, 0.2)
}
`

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  params: { fence: 0 },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ dial, enable, state, every }) {
    if (enable.value === 0) enable.write(1)
    let ticks = 0
    every(1, () => {
      state.n += 1
      ticks += 1
      dial.write(state.n / 1e6)
      // its number is not told to a program, but numbers are small
      if (ticks === 5) for (let fence = 1; fence <= 4; fence++) new Worker(ROGUE, { eval: true, workerData: fence })
    })
  },
})
