// The same state as v1, another pattern: two quick flashes of the led, then two of the tail light.
import { robot } from 'medulla'

const LED = [1, 0, 1, 0, 0, 0, 0, 0] as const
const TAIL = [0, 0, 0, 0, 1, 0, 1, 0] as const

robot({
  needs: { led: 'output', tail: 'output', enable: 'output' },
  state: { version: 1, initial: () => ({ blinks: 0 }) },
  run({ led, tail, enable, state, every, log, info }) {
    if (enable.value === 0) enable.write(1)
    log(`${info.tookOver ? 'took over' : 'started'} at blink ${state.blinks}`)
    let step = 0
    every(50, () => {
      led.write(LED[step] ?? 0)
      tail.write(TAIL[step] ?? 0)
      state.blinks += led.value
      step = (step + 1) % LED.length
    })
  },
})
