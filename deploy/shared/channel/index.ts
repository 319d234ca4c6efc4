/** Exports of the channel for the robot's side; the laptop's side only imports connect.ts. */
export type { Identity } from './accept.ts'
export { HANDSHAKE_MS } from './handshake.ts'
export { createListener, type Listener, type ListenerOptions } from './listener.ts'
export {
  requestStart,
  SERVE_DEADLINES,
  SERVE_OPTIONS,
  type ServeDeadlines,
  serveSession,
  watchRequests,
} from './serve.ts'
export { type Peer, SecureSocket } from './socket.ts'
export { generateKeyPair, type KeyPair, keyPair } from './x25519.ts'
