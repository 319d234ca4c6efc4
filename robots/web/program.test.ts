import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { simulate } from 'medulla/test'
import { expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { pageServer } from './page.ts'

test('the lamp has the brightness in the state, and full brightness while the button is pressed', async () => {
  const sim = await simulate(new URL('program.ts', import.meta.url))
  await sim.run('2s')
  expect(sim.value('lamp')).toBeCloseTo(0.5)
  sim.pull('button', 0)
  await sim.run('2s')
  expect(sim.value('lamp')).toBeCloseTo(1)
  sim.release('button')
  await sim.run('2s')
  expect(sim.value('lamp')).toBeCloseTo(0.5)
  await sim.stop()
})

test('the page shows changes, sets the brightness, and ignores a value that is not a brightness', async () => {
  const wanted: number[] = []
  const page = pageServer((brightness) => wanted.push(brightness))
  page.show({ brightness: 0.5, pressed: false, version: '1.0.0' })
  page.server.listen(0)
  await once(page.server, 'listening')
  const at = `127.0.0.1:${(page.server.address() as AddressInfo).port}`
  expect(await (await fetch(`http://${at}/`)).text()).toContain('<h1>Lamp</h1>')
  expect(await (await fetch(`http://${at}/state`)).json()).toEqual({
    brightness: 0.5,
    pressed: false,
    version: '1.0.0',
  })

  const socket = new WebSocket(`ws://${at}`)
  const said: string[] = []
  socket.on('message', (data) => said.push(String(data)))
  await once(socket, 'message')
  page.show({ brightness: 0.5, pressed: true, version: '1.0.0' })
  await once(socket, 'message')
  expect(JSON.parse(said.at(-1) ?? '')).toMatchObject({ pressed: true })
  for (const message of ['nonsense', '2', '-1', '0.25']) socket.send(message)
  await expect.poll(() => wanted).toEqual([0.25])

  page.close()
  const [code] = await once(socket, 'close')
  expect(code).toBe(1001)
  page.server.close()
})
