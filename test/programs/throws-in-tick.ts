// run() is fine, its first tick is not: a rehearsal has one.
import { robot } from 'medulla'

robot({
  needs: { enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ enable, every }) {
    every(1, () => {
      enable.write(0)
      throw new Error('division by zero')
    })
  },
})
