// template: blinks a led, and keeps the number of blinks over swaps.
import { robot } from 'medulla'

robot({
  // Handles by their names in the robot's board file, with their kinds: output, input, pwm, i2c, …
  needs: { led: 'output' },
  // Kept over swaps and crashes. When the shape of the state changes, raise `version` and add `migrate: { up, down }`.
  state: { version: 1, initial: () => ({ blinks: 0 }) },
  run({ led, state, every, log }) {
    log(`template goes on at blink ${state.blinks}`)
    every(250, () => {
      led.write(!led.value)
      state.blinks += led.value
    })
  },
})
