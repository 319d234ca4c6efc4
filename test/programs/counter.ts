// Counts at 1 kHz. The dial shows the count, so that every single tick can be seen from outside.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, dial, enable, state, every, log, info }) {
    if (enable.value === 0) enable.write(1)
    log(`${info.tookOver ? 'took over' : 'started'} at ${state.n}`)
    every(1, () => {
      state.n += 1
      dial.write(state.n / 1e6)
      led.write(state.n % 2 === 1)
    })
  },
})
