// Counts, and changes its state on the way to the next program: right after the SDK has hashed and written it.
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { robot } from 'medulla'

type Write = (fd: number, bytes: Uint8Array, ...rest: number[]) => number

const LIE = Buffer.from('42424242}')
let lying = false
const original = fs.writeSync as Write
const lie: Write = (fd, bytes, ...rest) => {
  const written = original(fd, bytes, ...rest)
  // a small state is the end of what is written at 0
  if (lying && fd === 5) original(fd, LIE, 0, LIE.length, written - LIE.length)
  return written
}
fs.writeSync = lie as typeof fs.writeSync
syncBuiltinESMExports()

robot({
  needs: { dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ dial, enable, state, every }) {
    if (enable.value === 0) enable.write(1)
    every(1, () => {
      state.n += 1
      dial.write(state.n / 1e6)
      // not in its rehearsals, which would find it out
      if (state.n > 10) lying = true
    })
  },
})
