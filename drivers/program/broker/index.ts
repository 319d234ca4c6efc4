/** The program's side of the broker. */
export { BrokerClient, type BrokerPort } from './client.ts'
export { adoptBrokered } from './handles.ts'
