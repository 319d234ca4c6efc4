// Takes the ports of `plain-servers`, and finds itself unfit after a while: its swap is undone.
import { createServer } from 'node:http'
import { robot } from 'medulla'

robot({ led: 'output', enable: 'output' }, ({ led, every, health }) => {
  let asked = 0
  for (const port of [18080, 18081, 18082]) createServer((_, answer) => answer.end(`sick ${++asked}`)).listen(port)
  every(2, () => led.write(!led.value))
  health(() => asked < 3 || 'it was asked too much')
})
