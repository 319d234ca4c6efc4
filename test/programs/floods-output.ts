// Writes far more than anybody can read, on every way out.
import { robot } from 'medulla'

const LONG = 'x'.repeat(10_000)

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ dial, enable, state, every, log, info }) {
    if (enable.value === 0) enable.write(1)
    every(2, () => {
      state.n += 1
      dial.write(state.n / 1e6)
      if (info.program === 'describe') return
      for (let i = 0; i < 20; i++) {
        console.log(`line ${state.n}.${i}`)
        log(`said ${state.n}.${i}`)
      }
      console.error(LONG)
    })
  },
})
