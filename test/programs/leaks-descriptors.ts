// Opens a file with each tick, and closes none.
import { openSync } from 'node:fs'
import { robot } from 'medulla'

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, dial, enable, state, every, info }) {
    if (enable.value === 0) enable.write(1)
    every(1, () => {
      state.n += 1
      dial.write(state.n / 1e6)
      led.write(1)
      if (info.program !== 'describe') openSync('/proc/self/status', 'r')
    })
  },
})
