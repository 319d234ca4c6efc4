// Unfit, and changes the state that it gives back: right after the SDK has hashed and written it.
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
  needs: { led: 'output', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, state, every, health }) {
    let ticks = 0
    every(2, () => {
      ticks += 1
      state.n += 1000
      led.write(1)
      if (ticks === 3) lying = true
    })
    health(() => ticks < 3)
  },
})
