// Counts at 100 Hz and logs each number: over swaps too, a number that is missing or comes twice was lost or doubled.
import { robot } from 'medulla'

robot({
  needs: { led: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, state, every, log }) {
    every(10, () => {
      state.n += 1
      led.write(state.n % 2 === 1)
      log(`n ${state.n}`)
    })
  },
})
