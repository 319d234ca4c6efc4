import { robot } from 'medulla'

robot({
  needs: { led: 'output', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, state, every }) {
    let ticks = 0
    every(2, () => {
      ticks += 1
      led.write(ticks % 2 === 1)
      if (ticks === 4) throw new Error(`lost count after ${state.n > 0 ? 'the real state' : 'nothing'}`)
    })
  },
})
