// Counts presses of a button. The count survives swaps, crashes and power cuts; the lamp is lit for odd counts.
import { robot } from 'medulla'

robot({
  needs: { button: 'input', lamp: 'output' },
  state: {
    version: 1,
    initial: () => ({ presses: 0 }),
  },
  run({ button, lamp, state, log, info }) {
    if (info.tookOver) log(`went on at ${state.presses}`)
    button.onEdge((edge) => {
      if (edge.level === 0) return
      state.presses += 1
      lamp.write(state.presses % 2 === 1)
      log(`pressed ${state.presses} times`)
    })
  },
})
