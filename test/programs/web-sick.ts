// Serves as `web` does, and finds itself unfit after a while: its swap is undone.
import { createServer } from 'node:http'
import { robot } from 'medulla'

robot({ web: 'listen', led: 'output', enable: 'output' }, ({ web, led, every, health, info }) => {
  let asked = 0
  const server = createServer((_, answer) => {
    asked += 1
    answer.end(info.version)
  })
  web.serve(server)
  every(2, () => led.write(!led.value))
  health(() => asked < 3 || 'it was asked too much')
})
