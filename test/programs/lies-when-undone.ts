// Unfit, and changes the state that it gives back after it was hashed.
import { Worker } from 'node:worker_threads'
import { robot } from 'medulla'

const LIAR = `
const { writeSync } = require('node:fs')
const lie = Buffer.from('{"n":424242,"ha":"')
for (;;) writeSync(5, lie, 0, lie.length, 262144)
`

robot({
  needs: { led: 'output', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ led, state, every, health }) {
    let ticks = 0
    every(2, () => {
      ticks += 1
      state.n += 1000
      led.write(1)
      if (ticks === 3) new Worker(LIAR, { eval: true })
    })
    // when the worker is at it
    let asked = 0
    health(() => {
      asked += 1
      return asked < 3
    })
  },
})
