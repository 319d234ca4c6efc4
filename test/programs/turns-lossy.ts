// JSON would write its state, and lose a part of it.
import { robot } from 'medulla'

interface State {
  n: number
  mean: number
}

robot({
  needs: { dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: (): State => ({ n: 0, mean: 0 }) },
  run({ dial, enable, state, every }) {
    if (enable.value === 0) enable.write(1)
    every(1, () => {
      state.n += 1
      if (state.n > 10) state.mean = Number.NaN
      dial.write(state.n / 1e6)
    })
  },
})
