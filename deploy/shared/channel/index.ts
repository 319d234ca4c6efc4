/** Exports of the channel for the robot's side; the laptop's side only imports connect.ts. */
export type { Identity } from './accept.ts'
export { HANDSHAKE_MS } from './handshake.ts'
export { createListener, type Listener, type ListenerOptions } from './listener.ts'
export type { Peer } from './netsocket.ts'
export type { PairingBody } from './pairaccept.ts'
export { PAIR_MS } from './pairing.ts'
export {
  requestStart,
  SERVE_DEADLINES,
  SERVE_OPTIONS,
  type ServeDeadlines,
  serveSession,
  watchRequests,
} from './serve.ts'
export { SecureSocket } from './socket.ts'
export { generateKeyPair, type KeyPair, keyPair } from './x25519.ts'
export { YamuxStream } from './yamuxstream.ts'
