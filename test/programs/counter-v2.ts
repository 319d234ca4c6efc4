// The same count under another name: state version 2, with a way up and a way down.
import { robot } from 'medulla'

interface Old {
  n: number
}

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  state: {
    version: 2,
    initial: () => ({ count: 0, since: 0 }),
    migrate: {
      up: (old) => ({ count: (old as Old).n, since: (old as Old).n }),
      down: (now): Old => ({ n: now.count }),
    },
  },
  run({ led, dial, enable, state, every, log }) {
    if (enable.value === 0) enable.write(1)
    log(`counts from ${state.since}`)
    every(1, () => {
      state.count += 1
      dial.write(state.count / 1e6)
      led.write(state.count % 2 === 1)
    })
  },
})
