// A lamp with a web page: whoever opens http://ROBOT:8080 sees and changes how bright it is.
import { robot } from 'medulla'
import { pageServer } from './page.ts'

robot({
  needs: { lamp: 'pwm', button: 'input', web: 'listen' },
  state: { version: 1, initial: () => ({ brightness: 0.5 }) },
  run({ lamp, button, web, state, every, onLive, info }) {
    const page = pageServer((brightness) => {
      state.brightness = brightness
    })
    page.show({ brightness: state.brightness, pressed: false, version: info.version })
    // The runtime has the port: nobody is refused while one program takes over from another.
    web.serve(page.server)
    // The WebSockets are told why they end, before another program takes over.
    onLive(() => () => page.close())

    every(20, () => {
      // A press is full light.
      const pressed = button.read() === 1
      const brightness = pressed ? 1 : state.brightness
      if (lamp.value !== brightness) lamp.write(brightness)
      page.show({ brightness, pressed, version: info.version })
    })
  },
})
