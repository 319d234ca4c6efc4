// Counts on, and finds itself unfit: its state is given back.
import { robot } from 'medulla'

robot({
  needs: { dial: 'pwm', enable: 'output' },
  state: {
    version: 2,
    initial: () => ({ count: 0 }),
    migrate: {
      up: (old) => ({ count: (old as { n: number }).n }),
      down: (now) => ({ n: now.count }),
    },
  },
  run({ dial, state, every, health }) {
    let ticks = 0
    every(1, () => {
      ticks += 1
      state.count += 1
      dial.write(state.count / 1e6)
    })
    health(() => (ticks > 5 ? 'the arm is too hot' : true))
  },
})
