/**
 * Invariant: closing a server cuts off no connection before the deadline: pending responses are sent, and every connection
 * ends with a FIN (HANDLES 17.5; test/e2e/listen.test.ts).
 */
import { Server as HttpServer, type ServerResponse } from 'node:http'
import { Server as HttpsServer } from 'node:https'
import { Server as NetServer, type Socket } from 'node:net'
import { Server as TlsServer } from 'node:tls'

interface Connection {
  /** A request has come, or the connection no longer speaks HTTP. */
  used: boolean
  readonly answers: Set<ServerResponse>
}

/** The connections of one server. */
export class Connections {
  readonly server: NetServer
  readonly #open = new Map<Socket, Connection>()
  readonly #isHttp: boolean
  #closing = false
  #changed: () => void = () => {}

  /** Wraps the server's emit(), as a listener of ours could change Node's behaviour: one for `upgrade` does. */
  constructor(server: NetServer) {
    this.server = server
    this.#isHttp = server instanceof HttpServer || server instanceof HttpsServer
    // for TLS track the TLS socket: ending that one sends a close_notify
    const connected = server instanceof TlsServer ? 'secureConnection' : 'connection'
    const emit = server.emit
    server.emit = (event: string, ...args: unknown[]): boolean => {
      if (event === connected) this.#add(args[0] as Socket)
      else if (event === 'request' || event === 'checkContinue') this.#asked(args[1] as ServerResponse)
      else if (event === 'upgrade' || event === 'connect') this.#use((args[0] as { socket: Socket }).socket)
      return emit.call(server, event as never, ...(args as never[]))
    }
  }

  get count(): number {
    return this.#open.size
  }

  /** The server accepts again after a close(). */
  reopen(): void {
    this.#closing = false
  }

  /**
   * Stops listening, then winds every connection down: a pending request is answered with `Connection: close`, a connection
   * that was just accepted may still send a request, an idle or non-HTTP connection gets a FIN. `changed` is called whenever a
   * connection has ended.
   */
  close(changed: () => void): void {
    this.#closing = true
    this.#changed = changed
    // http.Server's close() would reset idle connections, also those whose next request is on its way
    if (this.server.listening) NetServer.prototype.close.call(this.server)
    for (const [socket, connection] of this.#open) this.#wind(socket, connection)
  }

  /** Sends a FIN on every connection. */
  end(): void {
    for (const socket of this.#open.keys()) socket.end()
  }

  destroy(): void {
    for (const socket of this.#open.keys()) socket.destroy()
  }

  #add(socket: Socket): void {
    this.#open.set(socket, { used: !this.#isHttp, answers: new Set() })
    socket.once('close', () => {
      this.#open.delete(socket)
      if (this.#closing) this.#changed()
    })
    if (this.#closing && !this.#isHttp) socket.end()
  }

  #use(socket: Socket): void {
    const connection = this.#open.get(socket)
    if (connection !== undefined) connection.used = true
  }

  #asked(answer: ServerResponse): void {
    const socket = answer.req.socket
    const connection = this.#open.get(socket)
    if (connection === undefined) return
    connection.used = true
    connection.answers.add(answer)
    if (this.#closing) answer.shouldKeepAlive = false
    answer.once('close', () => {
      connection.answers.delete(answer)
      if (this.#closing) this.#wind(socket, connection)
    })
  }

  #wind(socket: Socket, { used, answers }: Connection): void {
    if (answers.size === 0 && used) socket.end()
    for (const answer of answers) answer.shouldKeepAlive = false
  }
}
