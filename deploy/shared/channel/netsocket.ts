/** What node:http asks of net.Socket, for streams that run over another stream. */
import { Duplex, type DuplexOptions } from 'node:stream'

/** The operator at the other end of a session, on the robot; undefined on the laptop. */
export interface Peer {
  readonly fingerprint: string
  /** `recovery`: the holder of the recovery key, who is no operator (HANDOVER 19.4) */
  readonly role: 'owner' | 'operator' | 'observer' | 'recovery'
  readonly name: string
}

/** Methods and fields of net.Socket that a transport may lack. */
export interface Transport extends Duplex {
  setNoDelay?(on?: boolean): unknown
  setKeepAlive?(on?: boolean, delay?: number): unknown
  ref?(): unknown
  unref?(): unknown
  remoteAddress?: string | undefined
  remotePort?: number | undefined
  remoteFamily?: string | undefined
  localAddress?: string | undefined
  localPort?: number | undefined
}

export abstract class NetDuplex extends Duplex {
  /** the transport below */
  readonly #under: Transport
  #idleMs = 0
  #idle: NodeJS.Timeout | undefined
  /** of data */
  bytesRead = 0
  bytesWritten = 0

  constructor(under: Transport, options: DuplexOptions) {
    super(options)
    this.#under = under
    this.once('close', () => clearTimeout(this.#idle))
  }

  /** As in net.Socket: ends the stream, and closes it when everything is sent. */
  destroySoon(): void {
    if (this.writable) this.end()
    if (this.writableFinished) this.destroy()
    else this.once('finish', () => this.destroy())
  }

  get timeout(): number {
    return this.#idleMs
  }

  /** Emits `timeout` after `ms` without a byte of data either way; 0 is never. */
  setTimeout(ms: number, listener?: () => void): this {
    clearTimeout(this.#idle)
    this.#idle = undefined
    this.#idleMs = ms
    if (ms > 0 && !this.destroyed) {
      this.#idle = setTimeout(() => this.emit('timeout'), ms)
      this.#idle.unref()
      if (listener) this.once('timeout', listener)
    } else if (listener) this.removeListener('timeout', listener)
    return this
  }

  /** Call it when data moves: the time of setTimeout() begins anew. */
  protected touch(): void {
    this.#idle?.refresh()
  }

  setNoDelay(on = true): this {
    this.#under.setNoDelay?.(on)
    return this
  }

  setKeepAlive(on = false, delay = 0): this {
    this.#under.setKeepAlive?.(on, delay)
    return this
  }

  ref(): this {
    this.#under.ref?.()
    return this
  }

  unref(): this {
    this.#under.unref?.()
    return this
  }

  get connecting(): boolean {
    return false
  }

  get remoteAddress(): string | undefined {
    return this.#under.remoteAddress
  }

  get remotePort(): number | undefined {
    return this.#under.remotePort
  }

  get remoteFamily(): string | undefined {
    return this.#under.remoteFamily
  }

  get localAddress(): string | undefined {
    return this.#under.localAddress
  }

  get localPort(): number | undefined {
    return this.#under.localPort
  }

  address(): { address?: string; port?: number } {
    return {
      ...(this.localAddress !== undefined && { address: this.localAddress }),
      ...(this.localPort !== undefined && { port: this.localPort }),
    }
  }
}

/** An error with the code that node:http treats as a lost connection. */
export function reset(message: string, cause?: unknown): Error {
  return Object.assign(new Error(`session: ${message}`, { cause }), { code: 'ECONNRESET' })
}
