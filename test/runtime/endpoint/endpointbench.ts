/** A real endpoint process for the tests of a file, whose body is the test (bodypeer.ts). */
import { readFile, rm } from 'node:fs/promises'
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest'
import type { RobotClient } from '../../../deploy/laptop/client.ts'
import { BodyPeer, buildEndpoint, built } from './bodypeer.ts'

export let body: BodyPeer
/** On which the present endpoint listens. */
export let port: number
const clients: RobotClient[] = []

/** To be called outside of tests. */
export function useEndpoint(): void {
  beforeAll(async () => {
    await buildEndpoint()
    body = await BodyPeer.create({ ann: 'owner', bob: 'operator', eve: 'observer', mallory: null })
  })
  afterAll(async () => {
    await body.remove()
    await rm(built, { recursive: true, force: true })
  })
  beforeEach(async () => {
    body.handler = () => {}
    if (body.messages.length === 0 || body.child.exitCode !== null) await startEndpoint()
  })
  afterEach(() => {
    for (const client of clients.splice(0)) client.close()
  })
}

export async function startEndpoint(env: Record<string, string> = {}): Promise<void> {
  port = await body.start(0, env)
}

export async function clientOf(name: string): Promise<RobotClient> {
  const client = await body.client(name, port)
  clients.push(client)
  return client
}

export async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = []
  for await (const item of stream) items.push(item)
  return items
}

export const committed = { event: 'result', outcome: 'committed', message: 'running' } as const

/** Answers installs as a body would that has copied the bytes, once `until` is over. */
export function commits(
  seen: { staged: number[]; bytes: Buffer[] } = { staged: [], bytes: [] },
  until?: Promise<void>,
) {
  body.handler = (message, answer) => {
    if (message.op !== 'install') return
    void (async () => {
      seen.staged.push(...(await body.staged()))
      seen.bytes.push(await readFile(body.staging[message.staged] ?? ''))
      answer({ op: 'item', item: { event: 'phase', phase: 'verify', startMs: 1 } })
      await until
      answer({ op: 'item', item: committed })
      answer({ op: 'done' })
    })()
  }
  return seen
}
