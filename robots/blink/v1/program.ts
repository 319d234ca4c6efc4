// Blinks a led at 10 Hz. `enable` is switched on once, and must keep its level over every swap.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', enable: 'output' },
  state: { version: 1, initial: () => ({ blinks: 0 }) },
  run({ led, enable, state, every, log, info }) {
    if (enable.value === 0) enable.write(1)
    log(`${info.tookOver ? 'took over' : 'started'} at blink ${state.blinks}`)
    every(50, () => {
      led.write(!led.value)
      state.blinks += led.value
    })
  },
})
