// Counts at 1 kHz on the dial, and shows on the tail whether it may.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', dial: 'pwm', tail: 'output', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  params: {
    step: { value: 1, min: 1, max: 9, step: 1 },
    mode: { value: 'slow', choices: ['slow', 'fast'] },
    armed: false,
  },
  run({ dial, tail, enable, state, params, every, log }) {
    if (enable.value === 0) enable.write(1)
    log(`runs with ${JSON.stringify(params)}`)
    let before = ''
    every(1, () => {
      state.n += 1
      dial.write(state.n / 1e6)
      tail.write(params.armed)
      const now = `${params.step} ${params.mode} ${params.armed}`
      if (before !== '' && now !== before) log(`now ${now}`)
      before = now
    })
  },
})
