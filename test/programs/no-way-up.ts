// State version 2, and no idea what to do with version 1.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', enable: 'output' },
  state: { version: 2, initial: () => ({ count: 0 }) },
  run({ led, every }) {
    every(10, () => led.write(1))
  },
})
