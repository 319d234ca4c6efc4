/** Says what it was given, but for the secret one, of which it says the length; `fail` throws it. */
import { robot } from 'medulla'

robot({
  needs: { led: 'output' },
  config: ['GREETING', 'SECRET'],
  run({ led, config, every, log, info }) {
    log(`${info.why}: ${config.GREETING}, ${config.SECRET.length}, ${Object.keys(config)}`)
    console.log(`printed: ${config.SECRET}`)
    every(10, () => {
      led.write(!led.value)
      if (config.GREETING === 'throw') throw new Error(`cannot reach ${config.SECRET}`)
    })
  },
})
