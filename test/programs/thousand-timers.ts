// Starts 1,000 timers in run, and clears none.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ dial, enable, state, every }) {
    if (enable.value === 0) enable.write(1)
    every(2, () => {
      state.n += 1
      dial.write(state.n / 1e6)
    })
    for (let i = 0; i < 1000; i++) setInterval(() => {}, 50 + i)
  },
})
