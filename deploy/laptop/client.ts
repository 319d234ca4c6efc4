/**
 * The client of a robot: the routes of api.ts as methods, over established sessions. Invariant: only whole answers and whole
 * lines are returned; a session that ends early is an error (test/channel/http.test.ts). The CLI loads this file at its start,
 * so it imports little.
 */
import { Agent, type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type {
  ConfigInfo,
  ConfigReport,
  CounterRange,
  ErrorBody,
  Greeting,
  LogLevel,
  LogLine,
  OperatorInfo,
  Order,
  ParamChange,
  ParamReport,
  PinChange,
  PushEvent,
  ReleaseInfo,
  SignedOrder,
  SignedReceipt,
  SpareEvent,
  StatusReport,
  Wish,
} from '../shared/api.ts'
import { ORDER_HEADER, PROTOCOL } from '../shared/api.ts'
import type { BoardReport } from '../shared/board.ts'
import { type ConnectOptions, connectSession } from '../shared/channel/connect.ts'
import type { SecureSocket } from '../shared/channel/socket.ts'
import { REFUSAL_CODES, Refusal, type RefusalCode } from '../shared/errors.ts'
import type { Signer } from '../shared/keys.ts'
import { LineSplitter } from '../shared/linesplitter.ts'

export type { ConnectOptions } from '../shared/channel/connect.ts'

const MAX_GREETING = 4096
const MAX_ERROR = 64 * 1024
const MAX_STATUS = 16 * 1024 * 1024
const MAX_LINE = 1024 * 1024
const MAX_SESSIONS = 8

type Events = AsyncGenerator<PushEvent, void>

export interface ClientOptions extends ConnectOptions {
  /** signs orders; not needed for reading, stopping, and a push without `force` and `retry` */
  signer?: () => Promise<Signer>
}
export interface PushOptions {
  /** kill a running program that does not yield */
  force?: boolean
  /** push a release again that was rolled back before */
  retry?: boolean
  /** digest of the release in the bundle; without it, an order to force or retry is valid for any release of yours */
  digest?: string
  /** an abort during the upload leaves nothing on the robot; after the upload, the swap goes on all the same */
  signal?: AbortSignal
}
export interface LogOptions {
  lines?: number
  /** ISO time by the robot's clock */
  since?: string
  /** instead of `since`: ms before the robot's present time */
  ago?: number
  /** this level and worse */
  level?: LogLevel
  follow?: boolean
  signal?: AbortSignal
}
export interface PinOptions {
  /** default: all */
  names?: readonly string[]
  follow?: boolean
  signal?: AbortSignal
}

/** All methods throw Refusal: the robot's code, or `unreachable` when the session is lost. */
export class RobotClient {
  readonly #options: ClientOptions
  readonly #agent: SessionAgent
  #running = 0
  readonly #queue: (() => void)[] = []

  private constructor(options: ClientOptions, first: SecureSocket) {
    this.#options = options
    this.#agent = new SessionAgent(options, first)
  }

  /** Opens the first session. Requests that run at the same time open further sessions, which are kept for a while. */
  static async connect(options: ClientOptions): Promise<RobotClient> {
    try {
      return new RobotClient(options, await connectSession(options))
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== 'unknown-operator' || options.dial) throw error
      // It closes the connection without a reason. The greeting shows whether it has new keys, or is another robot.
      const there = await greet(options.host, options.port, 1000).catch(() => null)
      if (!there || there.id === options.robot.id) throw error
      const message = `${options.host}:${options.port} is ${there.name} (${there.id}), expected ${options.robot.name} (${options.robot.id})`
      throw new Refusal(
        'robot-mismatch',
        message,
        'check which robot has this address; if it has new keys, trust its new card: medulla trust --replace',
        {
          cause: error,
        },
      )
    }
  }

  get robot(): { id: string; name: string } {
    return this.#options.robot
  }

  status(): Promise<StatusReport> {
    return this.#json('GET', '/v1/status', MAX_STATUS)
  }

  /** The board: its handles, and the pins of the header. */
  async board(): Promise<BoardReport> {
    const response = await this.#send('GET', '/v1/board')
    return JSON.parse(await this.#text(response, MAX_STATUS)) as BoardReport
  }

  /** Uploads `bundle` and follows the swap to its `result` event. */
  async *push(slot: string, bundle: Uint8Array, options: PushOptions = {}): Events {
    const { force = false, retry = false, digest = null, signal } = options
    const headers: Record<string, string> = {}
    if (force || retry) {
      const signed = await this.sign({ order: 'push', slot, digest, force, retry })
      headers[ORDER_HEADER] = Buffer.from(JSON.stringify(signed)).toString('base64url')
    }
    yield* this.#lines<PushEvent>('PUT', `/v1/slots/${slot}/program`, signal, bundle, headers)
  }

  /** Signs an order with a fresh nonce of the robot: the robot carries it out once, within five minutes. */
  async sign(wish: Wish): Promise<SignedOrder> {
    if (this.#options.signer === undefined) throw new Error('orders need a signer')
    const [{ nonce }, signer, { encodeJson }, { toBase64 }] = await Promise.all([
      this.#json<{ nonce: string }>('GET', '/v1/nonce', MAX_ERROR),
      this.#options.signer(),
      import('../shared/bundle/strict.ts'),
      import('../shared/bundle/sshsig.ts'),
    ])
    const order: Order = { format: 'medulla-order/2', robot: this.robot.id, nonce, ...wish }
    const bytes = encodeJson(order)
    return { order: Buffer.from(bytes).toString(), sig: toBase64(await signer.sign('order@medulla', bytes)) }
  }

  /** Sends an order, and yields the robot's answers: events, or one answer (`set`, `params` and others, as api.ts lists). */
  carryOut<T = PushEvent>(signed: SignedOrder): AsyncGenerator<T, void> {
    return this.#lines('POST', '/v1/orders', undefined, Buffer.from(JSON.stringify(signed)))
  }

  async *rollback(slot: string, to: { program: string; target: string; from: string | null }): Events {
    yield* this.carryOut(await this.sign({ order: 'rollback', slot, ...to }))
  }

  stop(slot: string): AsyncGenerator<PushEvent, void> {
    return this.#lines('POST', `/v1/slots/${slot}/stop`, undefined, new Uint8Array(0))
  }

  /** Starts the program of a stopped slot. */
  async *start(slot: string): Events {
    yield* this.carryOut(await this.sign({ order: 'start', slot }))
  }

  /** Stops every slot at once. Nothing runs until {@link release}. */
  estop(): Events {
    return this.#lines('POST', '/v1/estop', undefined, new Uint8Array(0))
  }

  /** Ends the emergency stop, and starts nothing. */
  async *release(): Events {
    yield* this.carryOut(await this.sign({ order: 'release' }))
  }

  /** The last `lines`, oldest first, of one slot or (null) of all; with `follow` it ends by `signal` or break. */
  logs(slot: string | null, { lines = 100, follow, signal, ...which }: LogOptions = {}): AsyncGenerator<LogLine, void> {
    const query = new URLSearchParams({ lines: String(lines), ...(follow ? { follow: '1' } : {}) })
    for (const [key, value] of Object.entries(which)) if (value !== undefined) query.set(key, String(value))
    return this.#lines('GET', `/v1/${slot === null ? '' : `slots/${slot}/`}logs?${query}`, signal)
  }

  /** All operators of the robot. */
  operators(): Promise<OperatorInfo[]> {
    return this.#json('GET', '/v1/operators', MAX_STATUS)
  }

  /** Takes effect at once, also for open sessions. Returns the operator that was changed. */
  changeOperators(
    wish: Extract<Wish, { order: 'add-operator' | 'change-role' | 'remove-operator' }>,
  ): Promise<OperatorInfo> {
    return this.#ordered(wish)
  }

  /** The range of counters that the robot takes for a program now. */
  counter(program: string): Promise<CounterRange> {
    return this.#json('GET', `/v1/programs/${program}/counter`, MAX_ERROR)
  }

  /** Resets the floor of a program: the robot takes any counter again. Only for owners. */
  resetFloor(program: string): Promise<CounterRange> {
    return this.#ordered({ order: 'reset-floor', program })
  }

  /** The releases of a slot: the running one first, then newest first, then those that were never committed. */
  releases(slot: string): Promise<ReleaseInfo[]> {
    return this.#json('GET', `/v1/slots/${slot}/releases`, MAX_ERROR)
  }

  /** Writes a handle that no program holds: throws `handle-leased`, `missing-handle`, `wrong-kind`, `estopped`. */
  set(name: string, value: number): Promise<PinChange> {
    return this.#ordered({ order: 'set', handle: name, value })
  }

  /** On a simulated board: presses an input (`what` null; a null value releases it), or changes what a chip senses. */
  poke(name: string, what: string | null, value: unknown): Promise<Partial<PinChange> & { name: string }> {
    return this.#ordered({ order: 'poke', handle: name, what, value: JSON.stringify(value) })
  }

  /** Keeps a spare child ready in the slot until `signal` or break: a push then takes less time. */
  spare(slot: string, signal: AbortSignal): AsyncGenerator<SpareEvent, void> {
    return this.#lines('GET', `/v1/slots/${slot}/spare`, signal)
  }

  params(slot: string): Promise<ParamReport> {
    return this.#json('GET', `/v1/slots/${slot}/params`, MAX_ERROR)
  }

  /** All of the change or nothing: throws `bad-param`. When it resolves, the robot has it on disk. */
  setParams(slot: string, change: ParamChange): Promise<ParamReport> {
    return this.#ordered({ order: 'params', slot, change })
  }

  /** Names of the config values, and the programs that need them. No robot returns a value. */
  config(): Promise<ConfigReport> {
    return this.#json('GET', '/v1/config', MAX_STATUS)
  }

  /** Seals the value here, so that only the body of the robot can read it. Programs see it from their next start or swap. */
  async setConfig(name: string, value: string): Promise<ConfigInfo> {
    const { configRecipient, sealConfigValue } = await import('../shared/configvalue.ts')
    const recipient = configRecipient((await this.config()).key, this.robot.id)
    return this.#ordered({ order: 'set-config', name, sealed: await sealConfigValue(value, recipient) })
  }

  /** Throws `not-found` when the value is not set. */
  unsetConfig(name: string): Promise<ConfigInfo> {
    return this.#ordered({ order: 'unset-config', name })
  }

  /** The newest `limit`, oldest first. */
  receipts(limit = 100): AsyncGenerator<SignedReceipt, void> {
    return this.#lines('GET', `/v1/receipts?limit=${limit}`)
  }

  pins(options: PinOptions = {}): AsyncGenerator<PinChange, void> {
    const query = new URLSearchParams(options.follow ? { follow: '1' } : {})
    if (options.names !== undefined) query.set('names', options.names.join(','))
    return this.#lines('GET', `/v1/pins?${query}`, options.signal)
  }

  /** Closes all sessions; requests that still run fail. */
  close(): void {
    this.#agent.destroy()
  }

  async #ordered<T>(wish: Wish): Promise<T> {
    for await (const answer of this.carryOut<T>(await this.sign(wish))) return answer
    throw new Refusal('internal', 'the robot gave no answer to an order')
  }

  async #json<T>(method: string, path: string, max: number, body?: Uint8Array): Promise<T> {
    return JSON.parse(await this.#text(await this.#send(method, path, body), max)) as T
  }

  async *#lines<T>(
    method: string,
    path: string,
    signal?: AbortSignal,
    body?: Uint8Array,
    headers: Readonly<Record<string, string>> = {},
  ): AsyncGenerator<T, void> {
    const response = await this.#send(method, path, body, signal, headers)
    const splitter = new LineSplitter()
    try {
      response.setEncoding('utf8')
      for await (const chunk of response as AsyncIterable<string>) {
        const lines = splitter.push(chunk)
        if (splitter.rest.length > MAX_LINE)
          throw new Refusal('internal', `the robot sent a line of over ${MAX_LINE} characters`)
        for (const line of lines) if (line) yield JSON.parse(line) as T
      }
      if (splitter.rest) throw new Error('the answer ends within a line')
    } catch (error) {
      if (!signal?.aborted) throw this.#lost(error)
    } finally {
      if (!response.complete) response.destroy()
    }
  }

  /** Sends a request. Resolves with the answer once its status is 200; throws the robot's refusal otherwise. */
  async #send(
    method: string,
    path: string,
    body?: Uint8Array,
    signal?: AbortSignal,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<IncomingMessage> {
    await this.#beginRequest()
    let request: ClientRequest | undefined
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      request = httpRequest({
        agent: this.#agent,
        host: this.#options.robot.name,
        method,
        path,
        headers: { ...headers, ...(body && { 'Content-Length': body.length }) },
        ...(signal && { signal }),
      })
      request.once('response', resolve)
      request.on('error', reject)
      request.end(body)
    }).catch((error) => {
      this.#endRequest()
      if (signal?.aborted) throw new Refusal('interrupted', 'interrupted', undefined, { cause: error })
      throw this.#lost(error)
    })
    response.once('close', () => this.#endRequest())
    if (response.statusCode === 200) return response
    // a refusal may come in the middle of an upload: read it, then close the session instead of finishing the upload
    const text = await this.#text(response, MAX_ERROR)
    if (request && !request.writableFinished) request.destroy()
    throw refusal(response.statusCode, text)
  }

  /**
   * Waits for one of MAX_SESSIONS places. http.Agent does not count connections that are still being opened, so this counts
   * requests.
   */
  async #beginRequest(): Promise<void> {
    if (this.#running < MAX_SESSIONS) this.#running++
    else await new Promise<void>((resolve) => this.#queue.push(resolve))
  }

  #endRequest(): void {
    const next = this.#queue.shift()
    if (next) next()
    else this.#running--
  }

  async #text(response: IncomingMessage, max: number): Promise<string> {
    const parts: Buffer[] = []
    let length = 0
    try {
      for await (const part of response as AsyncIterable<Buffer>) {
        length += part.length
        if (length > max) throw new Refusal('internal', `the robot answered more than ${max} bytes`)
        parts.push(part)
      }
    } catch (error) {
      throw this.#lost(error)
    }
    return Buffer.concat(parts).toString()
  }

  #lost(cause: unknown): Refusal {
    if (cause instanceof Refusal) return cause
    const message = cause instanceof Error ? cause.message : String(cause)
    return new Refusal(
      'unreachable',
      `lost the session with ${this.#options.robot.name}: ${message}`,
      'medulla status',
      {
        cause,
      },
    )
  }
}

/**
 * Asks the robot at an address for its name and id. The answer is not authenticated: use it to find robots, not to trust
 * them.
 */
export function greet(host: string, port: number, timeoutMs = 3000): Promise<Greeting> {
  return new Promise<Greeting>((resolve, reject) => {
    const fail = (reason: string, cause?: unknown) => {
      request.destroy()
      reject(new Refusal('unreachable', `no robot at ${host}:${port}: ${reason}`, 'check that the robot is on and the address is right: medulla robots', { cause })) // biome-ignore format: one statement
    }
    const request = httpRequest({
      host,
      port,
      path: '/',
      agent: false,
      timeout: timeoutMs,
      maxHeaderSize: MAX_GREETING,
    })
    const timer = setTimeout(() => fail(`no answer in ${timeoutMs} ms`), timeoutMs)
    request.on('error', (error) => fail(error.message, error))
    request.on('close', () => clearTimeout(timer))
    request.on('response', (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('error', (error) => fail(error.message, error))
      response.on('data', (part: string) => {
        text += part
        if (text.length > MAX_GREETING) fail('its greeting is too long')
      })
      response.on('end', () => {
        const greeting = parseGreeting(text)
        if (greeting) resolve(greeting)
        else fail('something else answers there')
      })
    })
    request.end()
  })
}

function parseGreeting(text: string): Greeting | null {
  try {
    const { name, id, version, protocol } = JSON.parse(text) as Record<string, unknown>
    if (typeof name !== 'string' || typeof id !== 'string' || typeof version !== 'string') return null
    return protocol === PROTOCOL ? { name, id, version, protocol } : null
  } catch {
    return null
  }
}

function refusal(status: number | undefined, text: string): Refusal {
  try {
    const { code, message, hint } = (JSON.parse(text) as ErrorBody).error
    if (typeof message === 'string' && (REFUSAL_CODES as readonly string[]).includes(code)) {
      return new Refusal(code as RefusalCode, message, typeof hint === 'string' ? hint : undefined)
    }
  } catch {
    // not the JSON of a robot: an internal error below
  }
  return new Refusal('internal', `the robot answered ${status}`)
}

class SessionAgent extends Agent {
  readonly #options: ConnectOptions
  #first: SecureSocket | undefined

  constructor(options: ConnectOptions, first: SecureSocket) {
    super({ keepAlive: true, maxSockets: MAX_SESSIONS, maxFreeSockets: MAX_SESSIONS })
    this.#options = options
    this.#first = first
    first.unref() // an idle client keeps no process alive
    first.on('error', () => {}) // a loss before the first request is reported by that request
  }

  override createConnection(_: unknown, callback?: (error: Error | null, stream: Duplex) => void): undefined {
    const first = this.#first
    this.#first = undefined
    const open = first && !first.destroyed ? Promise.resolve(first) : connectSession(this.#options)
    open.then(
      (socket) => {
        socket.ref()
        callback?.(null, socket)
      },
      (error) => callback?.(error, undefined as unknown as Duplex),
    )
  }

  override destroy(): void {
    this.#first?.destroy()
    super.destroy()
  }
}
