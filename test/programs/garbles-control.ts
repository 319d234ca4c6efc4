// Writes on the descriptor that belongs to the runtime.
import { writeSync } from 'node:fs'
import { robot } from 'medulla'

robot({
  needs: { led: 'output', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, every }) {
    let ticks = 0
    every(2, () => {
      ticks += 1
      led.write(1)
      if (ticks === 4) writeSync(3, '{"t":"give me root"}\n')
    })
  },
})
