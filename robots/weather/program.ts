// Shows temperature, humidity and pressure, and keeps the lowest and highest value of each. A press turns the page.
import { HardwareError, robot } from 'medulla'
import { Button, Display, Environment } from 'medulla/drivers'

/** The measured quantities, in the units on the display. */
const QUANTITIES = {
  temperature: { title: 'Temperature', unit: 'C', digits: 1 },
  humidity: { title: 'Humidity', unit: '%', digits: 0 },
  pressure: { title: 'Pressure', unit: 'hPa', digits: 0 },
} as const
type Quantity = keyof typeof QUANTITIES
const NAMES = Object.keys(QUANTITIES) as Quantity[]

interface Range {
  min: number
  max: number
}
interface State extends Record<Quantity, Range | null> {
  page: number // 0 is the overview, the next pages show one quantity each
  shown: string // content of the display, so that a new version sends only what it changes
}

robot({
  needs: { sensor: 'i2c', display: 'i2c', button: 'input' },
  state: {
    version: 2,
    initial: (): State => ({ temperature: null, humidity: null, pressure: null, page: 0, shown: '' }),
    migrate: {
      // Version 1 knew only the temperature. `down` gives a rollback to version 1 the state that it knows.
      up: (old): State => {
        const { temperature } = old as Pick<State, 'temperature'>
        return { temperature, humidity: null, pressure: null, page: 0, shown: '' }
      },
      down: ({ temperature }) => ({ temperature }),
    },
  },
  run({ sensor, display, button, state, every, log, info }) {
    // After a swap the state holds what the display shows; after a crash that is unknown.
    let screen = new Display(display, info.tookOver && state.shown !== '' ? { shown: state.shown } : {})
    let environment: Environment | null = null
    let now: Record<Quantity, number> | null = null
    let fault = ''

    const text = (name: Quantity, value: number) => `${value.toFixed(QUANTITIES[name].digits)} ${QUANTITIES[name].unit}`

    const draw = () => {
      screen.clear()
      const name = NAMES[state.page - 1]
      if (now === null) screen.text(0, 0, fault || 'no measurement yet')
      else if (name === undefined) {
        for (const [row, each] of NAMES.entries()) screen.text(0, 22 * row, text(each, now[each]), 2)
      } else {
        const range = state[name]
        screen.text(0, 0, QUANTITIES[name].title)
        screen.text(0, 14, text(name, now[name]), 2)
        if (range !== null) screen.text(0, 40, `min ${text(name, range.min)}\nmax ${text(name, range.max)}`)
      }
      screen.flush()
      state.shown = screen.shown
    }

    /** A loose wire must not end the program: the next measurement, a second later, looks for the chip again. */
    const measure = () => {
      try {
        // Only the very first start sets the chip up: later Environment finds it set up.
        environment ??= new Environment(sensor)
        const climate = environment.read()
        now = climate && { ...climate, pressure: climate.pressure / 100 }
        if (now === null) environment = null
        else if (fault !== '') log('the sensor is back')
        fault = ''
      } catch (error) {
        if (!(error instanceof HardwareError)) throw error
        if (fault === '') log(error.message, 'warn')
        fault = `sensor: ${error.kind}`
        environment = now = null
      }
    }

    every(1000, () => {
      measure()
      for (const name of NAMES) {
        if (now === null) break
        const { min, max } = state[name] ?? { min: now[name], max: now[name] }
        state[name] = { min: Math.min(min, now[name]), max: Math.max(max, now[name]) }
      }
      draw()
    })
    // A new Display sends everything again, once a minute, in case the display has lost its content.
    every(60_000, () => {
      screen = new Display(display)
    })
    new Button(button).onPress(() => {
      state.page = (state.page + 1) % (NAMES.length + 1)
      draw()
    })
  },
})
