// A client of an MQTT broker under an id of its own, made in run, with nothing said about its end.

import { robot } from 'medulla'
import mqtt from 'mqtt'

robot({ led: 'output', enable: 'output' }, ({ led, enable, every, info }) => {
  if (enable.value === 0) enable.write(1)
  const client = mqtt.connect('mqtt://127.0.0.1:18080', { clientId: 'robot-1', reconnectPeriod: 50 })
  client.on('connect', () => client.publish('robot/version', info.version))
  every(2, () => led.write(!led.value))
})
