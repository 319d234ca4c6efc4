/**
 * Connects message channels of laptops with programs. Invariant: the endpoint only passes bytes on, at the pace of the slower end,
 * and only while the session's operator may use channels (CHANNEL 12.1, 12.2; test/e2e/messages.test.ts).
 */
import { type IncomingMessage, type RequestListener, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { ROLE_RANK } from '../../deploy/shared/api.ts'
import { YamuxStream } from '../../deploy/shared/channel/index.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { CHANNEL_NAME, MESSAGES_TOKEN } from '../../deploy/shared/messages/frames.ts'
import { UnixSockets } from '../../drivers/owner/linux/unix.ts'
import type { BodyLink } from './bodylink.ts'
import type { Call } from './call.ts'

/** Channels of all laptops. */
const MAX_CHANNELS = 64

export class MessageChannels {
  readonly #link: BodyLink
  readonly #fd: number
  readonly #sockets: UnixSockets | null
  readonly #streams = new Set<YamuxStream>()
  #opening = 0

  /** `fd`: the socket on which the body passes connections. */
  constructor(link: BodyLink, fd: number) {
    this.#link = link
    this.#fd = fd
    this.#sockets = loaded()
  }

  /** Answers the request with the connection, upgraded. */
  async open({ request, response, peer, slot }: Call): Promise<void> {
    const { name } = request.params
    const stream: unknown = request.socket
    if (typeof name !== 'string' || !CHANNEL_NAME.test(name)) {
      throw new Refusal('usage', 'channel: expected a name like tune')
    }
    if (request.headers.upgrade !== MESSAGES_TOKEN || !(stream instanceof YamuxStream)) {
      throw new Refusal('usage', `expected the header Upgrade: ${MESSAGES_TOKEN}`)
    }
    if (this.#streams.size + this.#opening >= MAX_CHANNELS) {
      throw new Refusal('in-progress', `${MAX_CHANNELS} channels are open`, 'close one')
    }
    this.#opening++
    const connection = await this.#connection(slot).finally(() => this.#opening--)
    // the operators may have changed meanwhile
    if (stream.destroyed || stream.peer?.fingerprint !== peer.fingerprint || !mayTalk(stream)) {
      connection.destroy()
      return void stream.destroy()
    }
    if (connection.destroyed) throw new Refusal('in-progress', 'the program was replaced meanwhile', 'try again')
    response.detachSocket(stream as unknown as Socket)
    stream.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${MESSAGES_TOKEN}\r\n\r\n`)
    this.#streams.add(stream)
    join(stream, connection, () => this.#streams.delete(stream))
  }

  /** The operators have changed: ends the channels of those who may no longer use them. */
  recheck(): void {
    for (const stream of this.#streams) if (!mayTalk(stream)) stream.destroy()
  }

  /** A connection with the running program. It ends when the body says that this program is parked (CHANNEL 12.12). */
  async #connection(slot: string): Promise<Socket> {
    const sockets = this.#sockets
    if (sockets === null) {
      throw new Refusal('unsupported', 'message channels need Linux and the package koffi on the robot')
    }
    const closed = new AbortController()
    let connection: Socket | undefined
    return new Promise((resolve, reject) => {
      const connected = () => {
        try {
          // the body sent the descriptor before this element, and sends the elements in the order of its descriptors
          const [fd] = sockets.receiveFds(this.#fd, 1)
          connection = new Socket({ fd: fd as number, readable: true, writable: true, allowHalfOpen: true })
          resolve(connection.once('close', () => closed.abort()))
        } catch (error) {
          reject(error)
        }
      }
      this.#link
        .stream({ op: 'channel', slot }, connected, closed.signal)
        .catch(reject)
        .finally(() => connection?.destroy())
    })
  }
}

function mayTalk({ peer }: YamuxStream): boolean {
  return peer !== undefined && peer.role !== 'recovery' && ROLE_RANK[peer.role] >= ROLE_RANK.operator
}

function loaded(): UnixSockets | null {
  try {
    return process.platform === 'linux' ? new UnixSockets() : null
  } catch {
    return null
  }
}

/** Passes bytes on in both directions; an end or a loss of one is that of the other. */
function join(stream: Duplex, connection: Duplex, over: () => void): void {
  for (const [from, to] of [
    [stream, connection],
    [connection, stream],
  ] as const) {
    from.on('error', () => {}) // `close` follows
    from.pipe(to)
    from.once('close', () => {
      over()
      // what still comes is dropped; a stream that nobody reads would never end
      to.unpipe(from)
      to.resume()
      if (!to.writableEnded) to.end()
      if (from.readableAborted) to.destroy()
    })
  }
}

/** Lets the app answer a request for another protocol: a route may take its connection over, any other answer ends it. */
export function answerUpgrade(app: RequestListener, request: IncomingMessage, stream: Duplex, head: Buffer): void {
  if (head.length > 0) stream.unshift(head)
  const response = new ServerResponse(request)
  response.shouldKeepAlive = false
  response.assignSocket(stream as Socket)
  response.once('finish', () => {
    stream.end()
    // nobody reads it any more, and so would not see its end
    stream.resume()
  })
  app(request, response)
}
