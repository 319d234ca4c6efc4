// Takes over and throws a moment later: the robot undoes the swap, and the previous program goes on with the state.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', tail: 'output', enable: 'output' },
  state: { version: 1, initial: () => ({ blinks: 0 }) },
  run({ led, state, every }) {
    let ticks = 0
    every(50, () => {
      ticks += 1
      if (ticks > 4) throw new Error(`lost count after blink ${state.blinks}`)
      led.write(1)
    })
  },
})
