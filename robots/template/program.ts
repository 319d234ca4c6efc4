// template: blinks a led, and remembers across swaps how often it did.
import { robot } from 'medulla'

robot({
  // Names from the robot's board file, and what they are: output, input, pwm or i2c.
  needs: { led: 'output' },
  // Survives swaps and crashes. Change `version` when its shape changes, and add `migrate: { up, down }`.
  state: { version: 1, initial: () => ({ blinks: 0 }) },
  run({ led, state, every, log }) {
    log(`template goes on at blink ${state.blinks}`)
    every(250, () => {
      led.write(!led.value)
      state.blinks += led.value
    })
  },
})
