// One byte more than a state may have.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', enable: 'output' },
  state: { version: 1, initial: () => new Uint8Array(64 * 1024 * 1024 + 1) },
  run({ led, every }) {
    every(10, () => led.write(1))
  },
})
