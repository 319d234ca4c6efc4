// Its run awaits what never comes, and so does every tick.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  async run({ dial, enable, state, every }) {
    if (enable.value === 0) enable.write(1)
    every(2, () => {
      state.n += 1
      dial.write(state.n / 1e6)
    })
    await new Promise(() => {})
  },
})
