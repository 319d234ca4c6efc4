// Sends as much as the channel `flood` takes, numbered, in every tick and whenever there is room, and reads nothing.
import { robot } from 'medulla'

robot({
  needs: { led: 'output' },
  run({ led, every, channel, log }) {
    const flood = channel('flood')
    const big = new Uint32Array(64 * 1024)
    let isHeld = false
    const fill = () => {
      while (flood.send(new Uint8Array(big.buffer))) big[0] = (big[0] ?? 0) + 1
      if (flood.isOpen && !isHeld) log('held')
      isHeld ||= flood.isOpen
    }
    flood.on('room', fill)
    every(5, () => {
      led.write(!led.value)
      fill()
    })
  },
})
