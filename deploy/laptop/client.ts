/**
 * The client of a robot: the routes of api.ts as methods, over established sessions. The CLI loads this file at its start, so it
 * imports little.
 */
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type {
  BundlePart,
  BundlePiece,
  ConfigInfo,
  ConfigReport,
  CounterRange,
  LogLine,
  LogMark,
  OperatorInfo,
  Order,
  OrderNonce,
  ParamChange,
  ParamReport,
  PinChange,
  PushEvent,
  Recovered,
  ReleaseInfo,
  RevokedKey,
  RuntimeEvent,
  SignedOrder,
  SignedReceipt,
  SpareEvent,
  StatusReport,
  Wish,
} from '../shared/api.ts'
import { ORDER_HEADER } from '../shared/api.ts'
import type { BoardReport } from '../shared/board.ts'
import type { SignedBuild } from '../shared/bundle/buildstatement.ts'
import type { Inner } from '../shared/bundle/inner.ts'
import { LIMITS } from '../shared/bundle/limits.ts'
import type { SignedCertificate } from '../shared/cert.ts'
import { Refusal } from '../shared/errors.ts'
import type { Signer } from '../shared/keys.ts'
import { followLog, type LogOptions, pauseBefore } from './following.ts'
import type { RobotChannel } from './messagechannel.ts'
import { openSession, type SessionOptions } from './opensession.ts'
import { Requests } from './requests.ts'

export type { LogOptions } from './following.ts'
export { greet } from './greeting.ts'

const MAX_ANSWER = 64 * 1024
const MAX_STATUS = 16 * 1024 * 1024
/** Orders that change the list of operators: they name its counter (HANDOVER 19.1). */
const LIST_ORDERS: readonly Wish['order'][] = [
  ...(['add-operator', 'change-role', 'remove-operator', 'rotate-operator'] as const),
  ...(['revoke-key', 'set-recovery', 'recover'] as const),
]
/** A piece of a bundle, in base64. */
const MAX_PIECE = 256 * 1024

type Events = AsyncGenerator<PushEvent, void>

export interface ClientOptions extends SessionOptions {
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
interface RuntimeOptions extends Omit<PushOptions, 'force'> {
  /** end the programs and start them again, where they could not go on under the other runtime */
  restart?: boolean
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
  readonly #requests: Requests
  readonly #channels = new Set<RobotChannel>()

  private constructor(options: ClientOptions, requests: Requests) {
    this.#options = options
    this.#requests = requests
  }

  /** Opens the session. Requests that run at the same time have a stream each; a session that was lost is opened again. */
  static async connect(options: ClientOptions): Promise<RobotClient> {
    const opened = await openSession(options)
    // A robot whose keys are rotated ends its sessions: the next one may need other keys.
    let present = opened.options
    const again = async () => {
      const { session, options } = await openSession(present)
      present = options
      return session
    }
    return new RobotClient(present, new Requests(present.robot.name, opened.session, again))
  }

  get robot(): { id: string; name: string } {
    return this.#options.robot
  }

  status(): Promise<StatusReport> {
    return this.#requests.json('GET', '/v1/status', MAX_STATUS)
  }

  /** The board: its handles, and the pins of the header. */
  board(): Promise<BoardReport> {
    return this.#requests.json('GET', '/v1/board', MAX_STATUS)
  }

  /** Uploads `bundle` and follows the swap to its `result` event. */
  async *push(slot: string, bundle: Uint8Array, options: PushOptions = {}): Events {
    const { force = false, retry = false, digest = null, signal } = options
    const headers = force || retry ? await this.#orderHeader({ order: 'push', slot, digest, force, retry }) : {}
    yield* this.#requests.lines<PushEvent>('PUT', `/v1/slots/${slot}/program`, signal, bundle, headers)
  }

  /** Signs an order with a fresh nonce of the robot: the robot carries it out once, within five minutes. */
  async sign(wish: Wish, noncePath = '/v1/nonce'): Promise<SignedOrder> {
    if (this.#options.signer === undefined) throw new Error('orders need a signer')
    const [{ nonce, list }, signer, { encodeJson }, { toBase64 }] = await Promise.all([
      this.#requests.json<OrderNonce>('GET', noncePath, MAX_ANSWER),
      this.#options.signer(),
      import('../shared/bundle/strict.ts'),
      import('../shared/bundle/sshsig.ts'),
    ])
    const counted = list !== undefined && LIST_ORDERS.includes(wish.order) ? { list } : {}
    const order: Order = { format: 'medulla-order/2', robot: this.robot.id, nonce, ...wish, ...counted }
    const bytes = encodeJson(order)
    return { order: Buffer.from(bytes).toString(), sig: toBase64(await signer.sign('order@medulla', bytes)) }
  }

  /** Sends an order, and yields the robot's answers: events, or one answer (`set`, `params` and others, as api.ts lists). */
  carryOut<T = PushEvent>(signed: SignedOrder): AsyncGenerator<T, void> {
    return this.#requests.lines('POST', '/v1/orders', undefined, Buffer.from(JSON.stringify(signed)))
  }

  async *rollback(slot: string, to: { program: string; target: string; from: string | null }): Events {
    yield* this.carryOut(await this.sign({ order: 'rollback', slot, ...to }))
  }

  /** Uploads a bundle of kind `runtime`; after `replacing` the robot ends the sessions. Only for owners. */
  async *pushRuntime(bundle: Uint8Array, options: RuntimeOptions = {}): AsyncGenerator<RuntimeEvent, void> {
    const { retry = false, restart = false, digest = null, signal } = options
    const wish = { order: 'push-runtime', digest, retry, restart } as const
    const headers = retry || restart ? await this.#orderHeader(wish) : {}
    yield* this.#requests.lines<RuntimeEvent>('PUT', '/v1/runtime', signal, bundle, headers)
  }

  /** Goes back to the runtime before the present one (null: the base install). Only for owners. */
  async *rollbackRuntime(from: string | null, to: string | null, restart = false): AsyncGenerator<RuntimeEvent, void> {
    yield* this.carryOut<RuntimeEvent>(await this.sign({ order: 'rollback-runtime', from, to, restart }))
  }

  /** The range of counters that the robot takes for a runtime now. */
  runtimeCounter(): Promise<CounterRange> {
    return this.#requests.json('GET', '/v1/runtime/counter', MAX_ANSWER)
  }

  stop(slot: string): AsyncGenerator<PushEvent, void> {
    return this.#requests.stop(`/v1/slots/${slot}/stop`)
  }

  /** Starts the program of a stopped slot. */
  async *start(slot: string): Events {
    yield* this.carryOut(await this.sign({ order: 'start', slot }))
  }

  /** Stops every slot at once. Nothing runs until {@link release}. */
  estop(): Events {
    return this.#requests.stop('/v1/estop')
  }

  /** Ends the emergency stop, and starts nothing. */
  async *release(): Events {
    yield* this.carryOut(await this.sign({ order: 'release' }))
  }

  /** The last `lines`, oldest first, of one slot or (null) of all; with `follow` it ends by `signal` or break. */
  async *logs(
    slot: string | null,
    { lines = 100, follow, onMark, signal, ...which }: LogOptions = {},
  ): AsyncGenerator<LogLine, void> {
    const query = new URLSearchParams({ lines: String(lines), ...(follow ? { follow: '1' } : {}) })
    for (const [key, value] of Object.entries(which)) if (value !== undefined) query.set(key, String(value))
    const path = `/v1/${slot === null ? '' : `slots/${slot}/`}logs?${query}`
    for await (const item of this.#requests.lines<LogLine | LogMark>('GET', path, signal)) {
      if ('mark' in item) onMark?.(item.mark)
      else yield item
    }
  }

  /**
   * The log as {@link logs} with `follow`, over lost sessions too: it waits for a robot that does not answer, and goes on
   * after the last line, without a line lost or doubled (CHANNEL 10). It ends by `signal`, or by break at a line.
   */
  follow(slot: string | null, { signal = new AbortController().signal, ...which }: LogOptions = {}) {
    let attempt = 0
    const open = async function* (client: RobotClient, options: LogOptions): AsyncGenerator<LogLine, void> {
      for await (const line of client.logs(slot, options)) {
        attempt = 0
        yield line
      }
    }
    const back = () => sleep(pauseBefore(attempt++), undefined, { signal }).catch(() => {})
    return followLog((options) => open(this, options), which, back, signal)
  }

  /** All operators of the robot. */
  operators(): Promise<OperatorInfo[]> {
    return this.#requests.json('GET', '/v1/operators', MAX_STATUS)
  }

  /** Takes effect at once, also for open sessions. Returns the operator that was changed. */
  changeOperators(
    wish: Extract<Wish, { order: 'add-operator' | 'change-role' | 'remove-operator' | 'rotate-operator' }>,
  ): Promise<OperatorInfo> {
    return this.#ordered(wish)
  }

  /** Bars a key for ever, given as fingerprint. Only for owners. */
  revokeKey(key: string): Promise<RevokedKey> {
    return this.#ordered({ order: 'revoke-key', key })
  }

  /** Replaces the recovery key by that with this public half. Only for owners. */
  async setRecovery(key: string): Promise<void> {
    await this.#ordered({ order: 'set-recovery', key })
  }

  /** Lets the key with this public half sign releases for the slot, for at most 8 hours. */
  async delegate(slot: string, key: string, hours: number): Promise<void> {
    await this.#ordered({ order: 'delegate', slot, key, hours })
  }

  /** The robot keeps the statement of a builder whom its board file names (BUNDLE 17). */
  async addBuild({ statement, sig }: SignedBuild): Promise<void> {
    await this.#ordered({ order: 'add-build', statement, sig })
  }

  /** In a session of the recovery key: `card` becomes an owner, and `next` the public half of the next recovery key. */
  async recover(wish: Omit<Extract<Wish, { order: 'recover' }>, 'order'>): Promise<Recovered> {
    const signed = await this.sign({ order: 'recover', ...wish }, '/v1/recovery/nonce')
    const body = Buffer.from(JSON.stringify(signed))
    for await (const answer of this.#requests.lines<Recovered>('POST', '/v1/recovery', undefined, body)) return answer
    throw new Refusal('internal', 'the robot gave no answer to a recovery')
  }

  /** The robot makes new keys for channel and bundles, and ends its sessions. Only for owners. */
  rotateKeys(): Promise<SignedCertificate> {
    return this.#ordered({ order: 'rotate-keys' })
  }

  /** The range of counters that the robot takes for a program now. */
  counter(program: string): Promise<CounterRange> {
    return this.#requests.json('GET', `/v1/programs/${program}/counter`, MAX_ANSWER)
  }

  /** Resets the floor of a program: the robot takes any counter again. Only for owners. */
  resetFloor(program: string): Promise<CounterRange> {
    return this.#ordered({ order: 'reset-floor', program })
  }

  /** The releases of a slot: the running one first, then newest first, then those that were never committed. */
  releases(slot: string): Promise<ReleaseInfo[]> {
    return this.#requests.json('GET', `/v1/slots/${slot}/releases`, MAX_ANSWER)
  }

  /** The content of the bundle that a slot runs, as the robot has it on disk. Not verified. */
  async bundle(slot: string): Promise<Inner & { digest: string }> {
    const read = async (part: BundlePart, of: string | null): Promise<{ digest: string; bytes: Uint8Array }> => {
      const pieces: Buffer[] = []
      for (let at = 0, digest = of; ; ) {
        const path = `/v1/slots/${slot}/bundle/${part}?offset=${at}`
        const piece = await this.#requests.json<BundlePiece>('GET', path, MAX_PIECE)
        const data = Buffer.from(piece.data, 'base64')
        if (digest !== null && piece.digest !== digest) {
          throw new Refusal('in-progress', `slot ${slot} got another program meanwhile`, 'try again')
        }
        digest = piece.digest
        pieces.push(data)
        at += data.length
        if (at >= piece.length || data.length === 0) return { digest, bytes: Buffer.concat(pieces) }
        if (at > LIMITS.bundle) throw new Refusal('too-large', `${part}: over ${LIMITS.bundle} bytes`)
      }
    }
    const { digest, bytes: release } = await read('release', null)
    const { bytes: signature } = await read('release.sig', digest)
    const { bytes: payload } = await read('payload.tar.gz', digest)
    return { digest, release, signature: Buffer.from(signature).toString('latin1'), payload }
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
    return this.#requests.lines('GET', `/v1/slots/${slot}/spare`, signal)
  }

  params(slot: string): Promise<ParamReport> {
    return this.#requests.json('GET', `/v1/slots/${slot}/params`, MAX_ANSWER)
  }

  /** All of the change or nothing: throws `bad-param`. When it resolves, the robot has it on disk. */
  setParams(slot: string, change: ParamChange): Promise<ParamReport> {
    return this.#ordered({ order: 'params', slot, change })
  }

  /** Names of the config values, and the programs that need them. No robot returns a value. */
  config(): Promise<ConfigReport> {
    return this.#requests.json('GET', '/v1/config', MAX_STATUS)
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
    return this.#requests.lines('GET', `/v1/receipts?limit=${limit}`)
  }

  pins(options: PinOptions = {}): AsyncGenerator<PinChange, void> {
    const query = new URLSearchParams(options.follow ? { follow: '1' } : {})
    if (options.names !== undefined) query.set('names', options.names.join(','))
    return this.#requests.lines('GET', `/v1/pins?${query}`, options.signal)
  }

  /**
   * A stream of the session, as a connection to the robot's HTTP server: for what speaks HTTP itself, as
   * `http.request({ createConnection: () => stream, … })`. A robot takes 32 streams of a session, with those of the methods here.
   */
  stream(): Promise<Duplex> {
    return this.#requests.stream()
  }

  /** Opens a message channel with the program of a slot, which outlives swaps and lost sessions (CHANNEL 12). */
  async channel(name: string, slot = 'main'): Promise<RobotChannel> {
    const { RobotChannel } = await import('./messagechannel.ts')
    const channel = await RobotChannel.open(name, (...how) => this.channelStream(name, slot, ...how))
    this.#channels.add(channel)
    return channel.once('close', () => this.#channels.delete(channel))
  }

  /** One connection of a message channel, as {@link RobotChannel} asks for it. */
  channelStream(name: string, slot: string, token: string, signal: AbortSignal): Promise<Duplex> {
    return this.#requests.upgrade(`/v1/slots/${slot}/channels/${name}`, token, signal)
  }

  /** Closes all sessions; requests that still run fail, and channels end. */
  close(): void {
    for (const channel of [...this.#channels]) void channel.close({ now: true })
    this.#requests.close()
  }

  async #orderHeader(wish: Wish): Promise<Record<string, string>> {
    return { [ORDER_HEADER]: Buffer.from(JSON.stringify(await this.sign(wish))).toString('base64url') }
  }

  async #ordered<T>(wish: Wish): Promise<T> {
    for await (const answer of this.carryOut<T>(await this.sign(wish))) return answer
    throw new Refusal('internal', 'the robot gave no answer to an order')
  }
}
