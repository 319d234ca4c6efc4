// The robot's link to an MQTT broker: subscribes, publishes, and ends without a last will.
import mqtt from 'mqtt'

export interface Link {
  say(topic: 'button' | 'lamp', value: string): void
  /** Disconnects properly, so that the broker does not publish the last will. */
  end(): Promise<void>
}

interface LinkOptions {
  url: string
  id: string
  onLamp(on: boolean): void
  log(text: string): void
}

export function connect({ url, id, onLamp, log }: LinkOptions): Link {
  const client = mqtt.connect(url, {
    clientId: id,
    reconnectPeriod: 1000,
    // published by the broker when it loses the robot
    will: { topic: `${id}/online`, payload: Buffer.from('no'), qos: 1, retain: true },
  })
  let fault = ''
  client.on('connect', () => {
    fault = ''
    log(`connected to ${url}`)
    client.subscribe(`${id}/lamp/set`)
    client.publish(`${id}/online`, 'yes', { retain: true })
  })
  client.on('message', (_, payload) => onLamp(payload.toString() === 'on'))
  // the client reconnects by itself
  client.on('error', ({ message }) => {
    if (message !== fault) log(`no broker: ${message}`)
    fault = message
  })
  return {
    say: (topic, value) => {
      client.publish(`${id}/${topic}`, value, { retain: true })
    },
    end: () => client.endAsync(),
  }
}
