// Heartbeats two or three times, then blocks before its trial of 50 ms has ended.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, every }) {
    let began = 0
    every(1, () => {
      led.write(1)
      if (began === 0) began = performance.now()
      while (performance.now() - began > 42) {}
    })
  },
})
