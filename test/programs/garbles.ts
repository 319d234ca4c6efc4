// Writes rubbish, 100 bytes with each tick, to the descriptor that its version names: 1.7.0 to number 7.
import { writeSync } from 'node:fs'
import { robot } from 'medulla'

const RUBBISH = Buffer.from(Array.from({ length: 100 }, (_, i) => (i * 97 + 13) & 255))

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ dial, enable, state, every, info }) {
    if (enable.value === 0) enable.write(1)
    const fd = Number(info.version.split('.')[1])
    let ticks = 0
    every(1, () => {
      state.n += 1
      dial.write(state.n / 1e6)
      ticks += 1
      // not in its rehearsals
      if (info.program === 'describe' || ticks < 10) return
      try {
        writeSync(fd, RUBBISH)
      } catch {
        // a descriptor to read from, or nobody at the other end: once more
      }
    })
  },
})
