// Writes from timers of its own, as if it had never heard of a handover.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, dial, enable, state, every, info }) {
    if (enable.value === 0) enable.write(1)
    every(1, () => {
      state.n += 1
      dial.write(state.n / 1e6)
    })
    if (info.slot === 'main') setInterval(() => led.write(!led.value), 2)
  },
})
