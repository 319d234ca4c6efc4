// Shows the temperature, and keeps the lowest and highest value. The first version of ../program.ts.
import { robot } from 'medulla'
import { Display, Environment } from 'medulla/drivers'

/** degrees C */
interface Range {
  min: number
  max: number
}

robot({
  needs: { sensor: 'i2c', display: 'i2c' },
  state: { version: 1, initial: () => ({ temperature: null as Range | null }) },
  run({ sensor, display, state, every }) {
    const environment = new Environment(sensor)
    const screen = new Display(display)
    every(1000, () => {
      const now = environment.read()
      if (now === null) return
      const { min, max } = state.temperature ?? { min: Number.POSITIVE_INFINITY, max: Number.NEGATIVE_INFINITY }
      state.temperature = { min: Math.min(min, now.temperature), max: Math.max(max, now.temperature) }
      screen.clear()
      screen.text(0, 0, `${now.temperature.toFixed(1)} C`, 2)
      screen.text(0, 32, `min ${state.temperature.min.toFixed(1)} C`)
      screen.text(0, 48, `max ${state.temperature.max.toFixed(1)} C`)
      screen.flush()
    })
  },
})
