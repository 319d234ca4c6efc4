// Drives every output away from its safe level, and blocks its loop for ever once the button is pressed.
import { robot } from 'medulla'

robot({
  needs: {
    hold1: 'output',
    hold2: 'output',
    hold3: 'output',
    hold4: 'output',
    toggle: 'output',
    button: 'input',
  },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ hold1, hold2, hold3, hold4, toggle, button, state, every }) {
    const drive = () => {
      for (const high of [hold1, hold2, hold4, toggle]) high.write(1)
      hold3.write(0)
    }
    every(20, () => {
      state.n += 1
      drive()
      while (button.read() === 1) drive()
    })
  },
})
