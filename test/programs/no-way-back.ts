// Unfit, and cannot give its state back.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', enable: 'output' },
  state: {
    version: 2,
    initial: () => ({ count: 0 }),
    migrate: {
      up: (old) => ({ count: (old as { n: number }).n }),
      down() {
        throw new Error('the unit is lost')
      },
    },
  },
  run({ led, state, every, health }) {
    every(1, () => {
      state.count += 1
      led.write(1)
    })
    health(() => false)
  },
})
