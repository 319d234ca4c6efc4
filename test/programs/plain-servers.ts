// Servers as most programs have them: opened where the file begins, in run, and in onLive; and one of UDP.
import { createSocket } from 'node:dgram'
import { createServer } from 'node:http'
import { robot } from 'medulla'

const [TOP, RUN, LIVE, UDP] = [18080, 18081, 18082, 18083]
const page = { led: 0, version: '' }
createServer((_, answer) => answer.end(`top ${page.version}`)).listen(TOP)

robot({ led: 'output', enable: 'output' }, ({ led, enable, every, onLive, info, log }) => {
  if (enable.value === 0) enable.write(1)
  page.version = info.version
  createServer((_, answer) => answer.end(`run ${info.version}`)).listen(RUN, () => log('run listens'))
  onLive((why) => {
    const server = createServer((_, answer) => answer.end(`live ${info.version}`)).listen(LIVE, '127.0.0.1')
    const udp = createSocket('udp4').bind(UDP, () => log(`udp ${info.version} ${why}`))
    return () => {
      server.close()
      udp.close()
    }
  })
  every(2, () => {
    led.write(!led.value)
    page.led = led.value
  })
})
