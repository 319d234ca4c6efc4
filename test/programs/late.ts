// Takes 30 ms for each tick of 1 ms: every one is late, and yet it is never silent.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, state, every }) {
    every(1, () => {
      state.n += 1
      led.write(1)
      const began = performance.now()
      while (state.n > 5 && performance.now() - began < 30) {}
    })
  },
})
