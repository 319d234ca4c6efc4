// Keeps no state: nothing of it is ever written to disk.
import { robot } from 'medulla'

robot({ led: 'output', dial: 'pwm', enable: 'output' }, ({ led, dial, enable, every }) => {
  if (enable.value === 0) enable.write(1)
  let n = 0
  every(2, () => {
    n += 1
    dial.write(n / 1e6)
    led.write(n % 2 === 1)
  })
})
