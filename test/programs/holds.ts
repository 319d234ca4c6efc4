// Counts, and never lets go.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ dial, enable, state, every, hold }) {
    if (enable.value === 0) enable.write(1)
    hold('the arm is moving')
    every(1, () => {
      state.n += 1
      dial.write(state.n / 1e6)
    })
  },
})
