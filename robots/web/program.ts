// A lamp with a web page: http://ROBOT:8080 shows and changes its brightness.
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
    // The runtime keeps the port open, so no client is refused while one program takes over from another.
    web.serve(page.server)
    // Before another program takes over, close the WebSockets with a reason.
    onLive(() => () => page.close())

    every(20, () => {
      // While the button is pressed, the lamp is at full brightness.
      const pressed = button.read() === 1
      const brightness = pressed ? 1 : state.brightness
      if (lamp.value !== brightness) lamp.write(brightness)
      page.show({ brightness, pressed, version: info.version })
    })
  },
})
