// Takes over in its rehearsals, also with a copy of the real count, and hangs over the real one, which went on since.
import { robot } from 'medulla'

/** The count of the copy: those of rehearsals with the initial state are small. */
let copied: number | undefined

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ dial, state, every }) {
    if (state.n > 100) copied ??= state.n
    while (copied !== undefined && state.n > copied + 2) {}
    every(1, () => {
      state.n += 1
      dial.write(state.n / 1e6)
    })
  },
})
