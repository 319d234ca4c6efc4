// Counts, and changes its state on the way to the next program after it was hashed.
import { writeSync } from 'node:fs'
import { robot } from 'medulla'

robot({
  needs: { dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ dial, enable, state, every, info }) {
    if (enable.value === 0) enable.write(1)
    const lie = Buffer.from('{"n":424242,"ha":"')
    every(1, () => {
      state.n += 1
      dial.write(state.n / 1e6)
      if (info.program !== 'describe' && state.n > 1) writeSync(5, lie, 0, lie.length, 262_144)
    })
  },
})
