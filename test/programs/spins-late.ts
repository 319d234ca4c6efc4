// Blocks after its second heartbeat: a trial needs three (HANDOVER 7.1).
import { robot } from 'medulla'

robot({
  needs: { led: 'output', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, every, health }) {
    let heartbeats = 0
    // asked at each heartbeat, before it is sent
    health(() => ++heartbeats > 0)
    every(1, () => {
      led.write(1)
      while (heartbeats === 2) {}
    })
  },
})
