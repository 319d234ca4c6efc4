/** Blocks this process while another one writes to it. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** Blocks the event loop, as a busy machine does. */
export function stall(ms: number): void {
  for (const until = performance.now() + ms; performance.now() < until; );
}

/** A connected pair of sockets: bytes written to the first are read from the second when the event loop polls. */
export async function connection(): Promise<[Socket, Socket]> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const near = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [far] = (await once(server, 'connection')) as [Socket]
  server.close()
  return [near, far]
}
