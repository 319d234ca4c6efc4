// Ends in good order, with status 0: a robot program has no end.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, every }) {
    let ticks = 0
    every(2, () => {
      led.write(1)
      ticks += 1
      if (ticks === 4) process.exit(0)
    })
  },
})
