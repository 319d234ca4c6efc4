import { robot } from 'medulla'

robot({
  needs: { led: 'output', enable: 'output' },
  state: {
    version: 2,
    initial: () => ({ count: 0 }),
    migrate: {
      up() {
        throw new Error('n is in the wrong unit')
      },
    },
  },
  run({ led, every }) {
    every(10, () => led.write(1))
  },
})
