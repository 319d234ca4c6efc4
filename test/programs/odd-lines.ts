// Logs what is no text, at levels that there are not.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ dial, enable, state, every, log }) {
    if (enable.value === 0) enable.write(1)
    every(2, () => {
      state.n += 1
      dial.write(state.n / 1e6)
    })
    log('loud', { n: state.n })
    log(Symbol('odd') as never, undefined as never)
    log()
  },
})
