// Counts at 200 Hz on a handle of its own.
import { robot } from 'medulla'

robot({
  needs: { tail: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  params: { gain: 1 },
  run({ tail, state, every }) {
    every(5, () => {
      state.n += 1
      tail.write(state.n % 2 === 1)
    })
  },
})
