/** Runs a test's commands on handles, in a process of its own (children/host.ts) or in the test's process. */

import { loadSystem } from '../../drivers/owner/linux/system.ts'
import { adoptBrokered, type BrokerPort } from '../../drivers/program/broker/index.ts'
import type { Edge, Grant, Handle, Input, Lease } from '../../drivers/program/handle.ts'
import { adopt, deliverEdge, needsSystem, setCarried } from '../../drivers/program/inherit/index.ts'

export type Command =
  | { op: 'adopt'; grants: Grant[]; brokerFd: number | null; deadlineMs: number }
  | { op: 'lease'; lease: Lease }
  | { op: 'call'; handle: string; method: string; args: unknown[] }
  | { op: 'get'; handle: string; property: string }
  | { op: 'carry'; handle: string; value: number }
  | { op: 'edge'; handle: string; level: 0 | 1; seqno: number }
  | { op: 'listen'; handle: string }
  | { op: 'heard' }
  | { op: 'time'; handle: string; method: string; args: unknown[]; times: number }

/** `broker` is called once, when the handles are adopted. */
export function performer(broker: (fd: number, deadlineMs: number) => BrokerPort): (command: Command) => unknown {
  const lease: Lease = { live: false, fence: 0 }
  const handles = new Map<string, Handle>()
  const heard: string[] = []

  function handleOf(name: string): Handle & Record<string, unknown> {
    const handle = handles.get(name)
    if (handle === undefined) throw new Error(`no handle ${name}`)
    return handle as Handle & Record<string, unknown>
  }

  function call(name: string, method: string, args: unknown[]): unknown {
    const handle = handleOf(name)
    const given = args.map((arg) => (Array.isArray(arg) ? Uint8Array.from(arg as number[]) : arg))
    const result = (handle[method] as (...args: unknown[]) => unknown).apply(handle, given)
    return result instanceof Uint8Array ? [...result] : result
  }

  function perform(command: Command): unknown {
    switch (command.op) {
      case 'adopt': {
        const client = command.brokerFd === null ? null : broker(command.brokerFd, command.deadlineMs)
        const system = needsSystem(command.grants) ? loadSystem() : null
        const transports = { system, broker: client }
        for (const grant of command.grants) {
          handles.set(
            grant.name,
            grant.via === 'broker' && client !== null
              ? adoptBrokered(grant, lease, client)
              : adopt(grant, lease, transports),
          )
        }
        return null
      }
      case 'lease':
        Object.assign(lease, command.lease)
        return null
      case 'call':
        return call(command.handle, command.method, command.args)
      case 'get':
        return handleOf(command.handle)[command.property]
      case 'carry':
        setCarried(handleOf(command.handle), command.value)
        return null
      case 'edge':
        deliverEdge(handleOf(command.handle), { level: command.level, ns: 1n, seqno: command.seqno })
        return null
      case 'listen': {
        const input = handleOf(command.handle) as unknown as Input
        input.onEdge(({ level, seqno }: Edge) => heard.push(`${level}#${seqno}`))
        return null
      }
      case 'heard':
        return heard
      case 'time': {
        const samples: number[] = []
        for (let i = 0; i < command.times; i++) {
          const from = performance.now()
          call(command.handle, command.method, command.args)
          samples.push(performance.now() - from)
        }
        return samples
      }
    }
  }
  return perform
}
