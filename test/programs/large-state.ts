// A state of 64 MiB, which is the most there may be. The count is in its first bytes, so that no tick is lost unseen.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', dial: 'pwm', enable: 'output' },
  state: { version: 1, initial: () => new Uint8Array(64 * 1024 * 1024) },
  run({ dial, enable, state, every }) {
    if (enable.value === 0) enable.write(1)
    const view = new DataView(state.buffer, state.byteOffset, state.length)
    every(1, () => {
      const n = view.getUint32(0) + 1
      view.setUint32(0, n)
      // and somewhere else each time
      state[4096 + ((n * 1_000_003) % (state.length - 4096))] = n
      dial.write(n / 1e6)
    })
  },
})
