/** Invariant: what a program needs of the broker, and nothing of the owner's side. */
export { BrokerClient, type BrokerPort } from './client.ts'
export { adoptBrokered } from './handles.ts'
