// Blocks its event loop a few ticks after it has taken over.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, every }) {
    let ticks = 0
    every(2, () => {
      led.write(1)
      ticks += 1
      while (ticks === 3) {}
    })
  },
})
