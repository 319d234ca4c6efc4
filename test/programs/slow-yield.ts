// Counts, and holds on nearly all of the time: it lets go for a single tick out of 60.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ dial, enable, state, every, hold }) {
    if (enable.value === 0) enable.write(1)
    let release: (() => void) | undefined
    every(1, () => {
      state.n += 1
      dial.write(state.n / 1e6)
      if (state.n % 60 === 0) release?.()
      if (state.n % 60 === 1) release = hold('the arm is moving')
    })
  },
})
