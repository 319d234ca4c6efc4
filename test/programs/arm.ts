// Sweeps a servo between its ends, shows its dt as a duty cycle, and answers on a serial line with the volts of an input.
// As version 2 it is never healthy.
import { robot } from 'medulla'

robot({
  needs: { arm: 'servo', dt: 'pwm', pot: 'analog', gps: 'serial' },
  state: { version: 1, initial: () => ({ up: true }) },
  run({ arm, dt, pot, gps, state, info, every, health }) {
    const [lowest, highest] = arm.range
    every(20, (seconds) => {
      dt.write(Math.min(1, seconds))
      if (arm.value === highest) state.up = false
      if (arm.value === lowest) state.up = true
      arm.write(state.up ? highest : lowest)
      const asked = Buffer.from(gps.read(100)).toString()
      gps.write(Buffer.from(asked === '' ? '.' : `${asked} ${pot.read().toFixed(3)} V\n`))
    })
    if (info.version === '2.0.0') health(() => 'version 2 is never healthy')
  },
})
