// Keeps 256 KiB outside the heap with each tick, used to the last byte.
import { robot } from 'medulla'

const kept: Buffer[] = []

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, dial, enable, state, every, info }) {
    if (enable.value === 0) enable.write(1)
    every(4, () => {
      state.n += 1
      dial.write(state.n / 1e6)
      led.write(1)
      if (info.program !== 'describe') kept.push(Buffer.alloc(256 * 1024, 1))
    })
  },
})
