// Keeps 256 KiB of objects with each tick: 64 MB a second at 250 Hz.
import { robot } from 'medulla'

const kept: object[][] = []

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, dial, enable, state, every, info }) {
    if (enable.value === 0) enable.write(1)
    every(4, () => {
      state.n += 1
      dial.write(state.n / 1e6)
      led.write(1)
      if (info.program !== 'describe') kept.push(Array.from({ length: 8192 }, (_, i) => ({ i })))
    })
  },
})
