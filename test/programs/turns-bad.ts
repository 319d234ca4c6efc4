// Its state cannot be written as JSON any more after a while.
import { robot } from 'medulla'

interface State {
  n: number
  odd?: unknown
}

robot({
  needs: { dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: (): State => ({ n: 0 }) },
  run({ dial, enable, state, every }) {
    if (enable.value === 0) enable.write(1)
    every(1, () => {
      state.n += 1
      if (state.n > 10) state.odd = 10n
      dial.write(state.n / 1e6)
    })
  },
})
