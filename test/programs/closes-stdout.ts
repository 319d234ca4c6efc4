// Closes its stdout, and goes on.
import { closeSync } from 'node:fs'
import { robot } from 'medulla'

robot({
  needs: { led: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, state, every }) {
    every(1, () => {
      state.n += 1
      led.write(state.n % 2 === 1)
    })
    closeSync(1)
  },
})
