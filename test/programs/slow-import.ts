// Needs half a second before it can say that it is ready.
import { robot } from 'medulla'

await new Promise((resolve) => setTimeout(resolve, 500))

robot({
  needs: { dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ dial, state, every }) {
    every(1, () => {
      state.n += 1
      dial.write(state.n / 1e6)
    })
  },
})
