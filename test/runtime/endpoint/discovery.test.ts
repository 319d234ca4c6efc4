import { createSocket } from 'node:dgram'
import { closeSync } from 'node:fs'
import { encode } from 'dns-packet'
import { expect, onTestFinished, test } from 'vitest'
import { SERVICE } from '../../../deploy/shared/discovery.ts'
import { loadSystem } from '../../../drivers/owner/linux/system.ts'
import { portOf } from '../../../runtime/body/service/notifysocket.ts'
import { QUERY_ALLOWANCE, readQuestions } from '../../../runtime/endpoint/discovery.ts'
import { eventually } from '../../e2e/eventually.ts'

const [AF_INET, SOCK_DGRAM, SOCK_CLOEXEC] = [2, 2, 0o2000000]

/** A UDP socket on the loopback that nobody else reads. */
function receiver(): { fd: number; port: number } {
  const system = loadSystem()
  const fd = system.bind('socket', 'int', ['int', 'int', 'int'])(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  const address = Uint8Array.from([AF_INET, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
  system.bind('bind', 'int', ['int', 'void*', 'uint'])(fd, address, address.length)
  onTestFinished(() => closeSync(fd))
  return { fd, port: portOf(fd) }
}

test.runIf(process.platform === 'linux')(
  'CHANNEL 11.5: of a flood the endpoint reads what its allowance gives, and afterwards it hears questions again',
  async () => {
    const { fd, port } = receiver()
    let [asked, read] = [0, 0]
    const began = performance.now()
    const end = readQuestions(
      fd,
      () => void asked++,
      () => void read++,
    )
    onTestFinished(end)
    const socket = createSocket('udp4')
    onTestFinished(() => void socket.close())
    const send = (bytes: Buffer) => new Promise((resolve) => socket.send(bytes, port, '127.0.0.1', resolve))
    const question = encode({ type: 'query', questions: [{ type: 'PTR', name: SERVICE }] })
    await send(question)
    await eventually(() => asked === 1)
    for (let n = 0; n < 20_000; n++) await send(Buffer.from('rubbish'))
    const { messagesPerSecond, burstSeconds } = QUERY_ALLOWANCE
    // one more than the allowance: the last packet is read before it counts
    const most = () => messagesPerSecond * (burstSeconds + (performance.now() - began) / 1000) + 1
    expect(read).toBeLessThanOrEqual(most())
    await eventually(async () => {
      await send(question)
      return asked > 1
    })
    expect(read).toBeLessThanOrEqual(most())
  },
)
