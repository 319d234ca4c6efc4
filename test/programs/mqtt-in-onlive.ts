// A client of an MQTT broker under an id of its own, which says goodbye before another program takes over.

import { robot } from 'medulla'
import mqtt from 'mqtt'

robot({ led: 'output', enable: 'output' }, ({ led, enable, every, onLive, info }) => {
  if (enable.value === 0) enable.write(1)
  onLive((why) => {
    const client = mqtt.connect('mqtt://127.0.0.1:18080', {
      clientId: 'robot-1',
      reconnectPeriod: 50,
      will: { topic: 'robot/gone', payload: Buffer.from(info.version), qos: 0, retain: false },
    })
    client.on('connect', () => client.publish('robot/version', `${info.version} ${why}`))
    return () => client.endAsync()
  })
  every(2, () => led.write(!led.value))
})
