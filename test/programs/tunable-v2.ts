// As tunable, with less room for one parameter and another type for one.
import { robot } from 'medulla'

robot({
  needs: { dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  params: { step: { value: 2, min: 1, max: 3 }, mode: { value: 'fast', choices: ['slow', 'fast'] }, armed: 0 },
  run({ dial, enable, state, params, every, log }) {
    if (enable.value === 0) enable.write(1)
    log(`runs with ${JSON.stringify(params)}`)
    every(1, () => {
      state.n += 1
      dial.write(state.n / 1e6)
    })
  },
})
