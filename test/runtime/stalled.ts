/** A process that stands still while another one writes to it. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** Blocks the event loop, as a machine with other things to do blocks a process. */
export function stall(ms: number): void {
  for (const until = performance.now() + ms; performance.now() < until; );
}

/** Two ends of a socket: what is written to the first is read from the second when the event loop polls. */
export async function connection(): Promise<[Socket, Socket]> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const near = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [far] = (await once(server, 'connection')) as [Socket]
  server.close()
  return [near, far]
}
