// Its state is a Map: JSON would make an empty object of it.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0, seen: new Map([['a', 1]]) }) },
  run({ led, every }) {
    every(10, () => led.write(1))
  },
})
