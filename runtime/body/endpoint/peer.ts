/** Invariant: an endpoint that reads slowly, or asks for much at once, costs the body bounded memory (HANDOVER 8.7; test/e2e/overload.test.ts). */
import { closeSync } from 'node:fs'
import type { Duplex } from 'node:stream'
import { Refusal } from '../../../deploy/shared/errors.ts'
import type { BodyMessage } from '../../ipc.ts'
import { passConnection } from '../sandbox/messagesocket.ts'
import { descriptorOf } from '../sandbox/process.ts'

/** Most followed streams of an endpoint: more than its sessions can ask for. */
const MAX_STREAMS = 256
/** An endpoint for which more bytes wait is ended. */
const MAX_BACKLOG = 32 * 1024 * 1024
/** A long answer pauses while more bytes wait to be sent. */
const PAGE = 256 * 1024
/** Items of a long answer in one turn of the event loop. */
const PAGE_ITEMS = 200
/** Most long answers that wait for their turn. */
const MAX_LONG = 256

/** One pipe to the endpoint, with the streams that were requested over it. */
export class EndpointPeer {
  readonly socket: Duplex
  readonly #streams = new Map<number, () => void>()
  readonly #hostile: (why: string) => void
  readonly #channels: Duplex | null
  #ended = false
  /** Resolves when the pipe has room again; null: nobody waits. */
  #waits: Promise<void> | null = null
  /** The last long answer: they are sent one after another. */
  #long: Promise<void> = Promise.resolve()
  #longs = 0

  /** `channels`: the socket for connections of message channels. */
  constructor(socket: Duplex, hostile: (why: string) => void, channels: Duplex | null = null) {
    this.socket = socket
    this.#channels = channels
    this.#hostile = hostile
    socket.on('error', () => {})
  }

  send(message: BodyMessage): void {
    if (this.socket.writableLength > MAX_BACKLOG) this.#hostile('it does not read')
    else if (this.socket.writable) this.socket.write(`${JSON.stringify(message)}\n`)
  }

  /** Hands a connection to the endpoint. Throws Refusal `in-progress` when it takes no more. */
  pass(connection: number): void {
    try {
      passConnection(descriptorOf(this.#channels), connection)
    } finally {
      closeSync(connection)
    }
  }

  fail(id: number, { code, message, hint }: Refusal): void {
    this.send({ op: 'error', id, error: { code, message, ...(hint === undefined ? {} : { hint }) } })
  }

  /** Resolves when at most PAGE bytes wait to be sent. */
  async room(): Promise<void> {
    while (this.socket.writable && this.socket.writableLength > PAGE) {
      this.#waits ??= new Promise<void>((resolve) => {
        const go = () => {
          this.socket.off('drain', go).off('close', go)
          this.#waits = null
          resolve()
        }
        this.socket.once('drain', go).once('close', go)
      })
      await this.#waits
    }
  }

  /**
   * Sends the items of `read`, which is called when the long answers before it are sent, so that waiting costs no memory
   * (HANDOVER 8.7). Throws `in-progress` when too many wait.
   */
  answerLong(id: number, read: () => Promise<Iterable<unknown>> | Iterable<unknown>): Promise<void> {
    if (this.#longs >= MAX_LONG) throw new Refusal('in-progress', `${MAX_LONG} long answers wait`, 'try again')
    this.#longs++
    const answered = this.#long.then(async () => {
      let page = 0
      for (const value of this.#ended ? [] : await read()) {
        // Each page has a turn of its own, so that stops are handled in between.
        if (page++ % PAGE_ITEMS === 0) await new Promise(setImmediate)
        await this.room()
        if (this.#ended) return
        this.send({ op: 'item', id, item: value })
      }
    })
    this.#long = answered.catch(() => {}).finally(() => this.#longs--)
    return answered
  }

  /** Registers a followed stream; `cancel` and `end` call `stop`. An id may be used once. */
  follow(id: number, stop: () => void): void {
    if (this.#ended) return stop()
    if (this.#streams.has(id)) {
      stop()
      return this.#hostile('it used the number of a stream twice')
    }
    this.#streams.set(id, stop)
    if (this.#streams.size > MAX_STREAMS) this.#hostile('too many streams')
  }

  follows(id: number): boolean {
    return this.#streams.has(id)
  }

  cancel(id: number): void {
    this.#streams.get(id)?.()
    this.#streams.delete(id)
  }

  end(): void {
    this.#ended = true
    for (const id of [...this.#streams.keys()]) this.cancel(id)
  }
}
