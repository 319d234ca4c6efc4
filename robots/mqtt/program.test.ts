import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { Aedes } from 'aedes'
import { expect, test } from 'vitest'
import { connect } from './link.ts'

test('a link receives and publishes messages, and its end sends no last will', async () => {
  const broker = await Aedes.createBroker()
  const server = createServer(broker.handle).listen(0)
  await once(server, 'listening')
  const said: string[] = []
  const gone: string[] = []
  broker.on('publish', ({ topic, payload }, client) => client && said.push(`${topic} ${payload}`))
  broker.on('clientDisconnect', ({ id }) => gone.push(id))

  const subscribed = once(broker, 'subscribe')
  const received: boolean[] = []
  const url = `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`
  const link = connect({ url, id: 'lamp-1', onLamp: (on) => received.push(on), log: () => {} })
  link.say('button', 'pressed')
  await expect.poll(() => said.toSorted()).toEqual(['lamp-1/button pressed', 'lamp-1/online yes'])
  await subscribed
  for (const payload of ['on', 'off']) {
    const packet = {
      cmd: 'publish' as const,
      topic: 'lamp-1/lamp/set',
      payload,
      qos: 0 as const,
      dup: false,
      retain: false,
    }
    broker.publish(packet, () => {})
  }
  await expect.poll(() => received).toEqual([true, false])

  await link.end()
  await expect.poll(() => gone).toEqual(['lamp-1'])
  // the broker did not publish the last will
  expect(said).not.toContain('lamp-1/online no')
  server.close()
  await new Promise<void>((resolve) => broker.close(resolve))
})
