// Drives its lines high, and blocks its loop for ever once the button is pressed.
import { robot } from 'medulla'

robot({
  needs: { hold1: 'output', hold2: 'output', toggle: 'output', button: 'input' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ hold1, hold2, toggle, button, state, every }) {
    every(5, () => {
      state.n += 1
      hold1.write(1)
      hold2.write(1)
      toggle.write(1)
      if (button.read() === 1) for (;;) toggle.write(1)
    })
  },
})
