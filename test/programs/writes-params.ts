// Takes a parameter for its own.
import { robot } from 'medulla'

robot({
  needs: {},
  params: { kp: 1 },
  run({ params, every }) {
    every(10, () => Object.assign(params, { kp: 2 }))
  },
})
