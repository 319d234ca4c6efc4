// Has a thread that waits for a device in the kernel, where no signal reaches it: it can be neither frozen nor ended.
import { read } from 'node:fs'
import { robot } from 'medulla'

/** The first granted descriptor (HANDOVER 3.3); grants are in the order of `needs`. */
const DEVICE = 11

robot({
  needs: { slow: 'i2c', toggle: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ toggle, state, every }) {
    let ticks = 0
    every(10, () => {
      state.n += 1
      toggle.write(1)
      if (ticks++ === 20) read(DEVICE, Buffer.alloc(1), 0, 1, null, () => {})
    })
  },
})
