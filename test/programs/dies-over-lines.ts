// Takes over from six-lines with the same handles, and throws in its trial.
import { robot } from 'medulla'

const HELD = ['hold1', 'hold2', 'hold3', 'hold4'] as const

robot({
  needs: {
    hold1: 'output',
    hold2: 'output',
    hold3: 'output',
    hold4: 'output',
    toggle: 'output',
    button: 'input',
    imu: 'i2c',
    servos: 'i2c',
  },
  state: { version: 1, initial: () => ({ n: 0, edges: 0 }) },
  run(context) {
    let ticks = 0
    context.every(2, () => {
      for (const name of HELD) context[name].write(1)
      ticks += 1
      if (ticks === 4) throw new Error(`lost count after ${context.state.n > 0 ? 'the real state' : 'nothing'}`)
    })
  },
})
