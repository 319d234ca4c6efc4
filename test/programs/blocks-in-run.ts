// Its run() never returns, except when it is described.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, info, every }) {
    every(10, () => led.write(1))
    while (info.program !== 'describe') {}
  },
})
