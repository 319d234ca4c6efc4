// Ticks at 1 kHz, holds four outputs high, and says at each edge of its input how many ticks it has had, and in which time.
import { robot } from 'medulla'

const HELD = ['hold1', 'hold2', 'hold3', 'hold4'] as const

robot({
  needs: { hold1: 'output', hold2: 'output', hold3: 'output', hold4: 'output', button: 'input' },
  run(context) {
    const { button, every, log } = context
    let began = 0
    let ticks = 0
    button.onEdge(() => log(`ticks ${ticks} ms ${performance.now() - began}`))
    every(1, () => {
      if (ticks++ === 0) began = performance.now()
      if (ticks % 50 === 1) for (const name of HELD) context[name].write(1)
    })
  },
})
