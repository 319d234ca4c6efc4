// Blocks its event loop after a while.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, dial, enable, state, every }) {
    if (enable.value === 0) enable.write(1)
    let ticks = 0
    every(1, () => {
      state.n += 1
      dial.write(state.n / 1e6)
      led.write(1)
      ticks += 1
      while (ticks === 1500) {}
    })
  },
})
