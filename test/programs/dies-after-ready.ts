// Says ready, and is gone before it has taken over.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, every }) {
    every(10, () => led.write(1))
  },
})

process.nextTick(() => process.exit(7))
