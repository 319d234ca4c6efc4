// Blows at one of two speeds, another one after each swap, and not at all when it is started anew.
import { robot } from 'medulla'

robot({
  needs: { fan: 'pwm' },
  state: { version: 1, initial: () => ({ runs: 0 }) },
  run({ fan, state, info, every }) {
    state.runs += 1
    const duty = state.runs % 2 === 1 ? 0.3 : 0.6
    every(50, () => {
      if (info.why !== 'restart') fan.write(duty)
    })
  },
})
