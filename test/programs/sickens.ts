// Counts, and finds itself unfit at its 30th heartbeat, half a second after its trial began; each time in other words.
import { robot } from 'medulla'

robot({
  needs: { dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ dial, enable, state, every, health }) {
    if (enable.value === 0) enable.write(1)
    every(1, () => {
      state.n += 1
      dial.write(state.n / 1e6)
    })
    let asked = 0
    health(() => ++asked < 30 || `the arm is at ${40 + asked} degrees C`)
  },
})
