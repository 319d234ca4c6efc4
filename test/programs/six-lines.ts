// Holds four outputs, toggles one, takes every edge of an input, and talks to two chips: for a board of a real kernel.
import { robot } from 'medulla'

const HELD = ['hold1', 'hold2', 'hold3', 'hold4'] as const
const ACCEL_X = 0x3b
const LED0_ON = 0x06

robot({
  needs: {
    hold1: 'output',
    hold2: 'output',
    hold3: 'output',
    hold4: 'output',
    toggle: 'output',
    button: 'input',
    imu: 'i2c',
    servos: 'i2c',
  },
  state: { version: 1, initial: () => ({ n: 0, edges: 0 }) },
  run(context) {
    const { toggle, button, imu, servos, state, every, log } = context
    button.onEdge(({ level, seqno }) => {
      state.edges += 1
      log(`edge ${seqno} ${level} ${state.edges}`)
    })
    let rounds = 0
    every(50, () => {
      state.n += 1
      // one held high over held high, each time: no edge comes of it
      for (const name of HELD) context[name].write(1)
      toggle.write(state.n % 2 === 1)
      if (rounds++ % 5 !== 0) return
      imu.writeRead(Uint8Array.of(ACCEL_X), 6)
      servos.write(Uint8Array.of(LED0_ON, state.n & 0xff, 0))
    })
  },
})
