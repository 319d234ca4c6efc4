// The robot's link to a broker: what it is told, what it tells, and how it leaves.
import mqtt from 'mqtt'

export interface Link {
  say(topic: 'button' | 'lamp', value: string): void
  /** Says goodbye, so that the broker does not tell of a robot that is lost. */
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
    // what the broker tells the others when the robot is lost
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
  // it tries again by itself
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
